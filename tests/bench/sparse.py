"""A stage whose operator makes inbound and delivery topics only for what is in use.

A list of 10,000 grants asks for more partitions than a node should hold (4,000).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.audittrail import committed_end
from bench.children import ChildFailed
from bench.stage import BenchKafka, Stage, _as_yaml
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import ensure_topics
from shutong_core.runtime.settings import Settings
from shutong_core.wire.topics import topic_specs

MAKE_S_MAX = 600.0
PUBLISH_S_MAX = 180.0
SETTING = {"SHUTONG_TOPICS": "own"}


class SparseStage(Stage):
    """`used` says of a dataset or grant, by its id, whether it has a topic."""

    def __init__(self, kafka: BenchKafka, used: Callable[[str], bool]) -> None:
        super().__init__(kafka)
        self._used = used

    def _settings(self) -> Settings:
        return super()._settings().model_copy(update={"topics": "own"})

    def publish(self, sections: Mapping[str, Any], schemas: Mapping[str, str]) -> ListVersion:
        """Put the list in force, then make the topics of what is used, as an operator does."""
        version = super().publish(sections, schemas)
        specs = [
            spec
            for spec in topic_specs(version, self.topics, 1, 1)
            if self._used(self.topics.dataset_of(spec.name) or "")
            or self._used(self.topics.grant_of(spec.name) or "")
        ]
        asyncio.run(ensure_topics(self.node.client, specs, MAKE_S_MAX))
        return version

    def publish_aside(self, sections: Mapping[str, Any], schemas: Mapping[str, str]) -> int:
        """Put a list in force by `shutong list publish` in a process of its own; when, in ms.

        It is niced, and ended once the list is committed, while it still reads back what it wrote:
        what it costs is not the broker's, and elsewhere it has a machine of its own.
        """
        for name, text in schemas.items():
            (self.directory / name).write_text(text)
        path = self.directory / "next.yaml"
        path.write_text(_as_yaml(sections))
        environment = {
            **os.environ,
            **SETTING,
            "SHUTONG_PREFIX": self.prefix,
            "SHUTONG_DATA_DIR": str(self.directory),
            "SHUTONG_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "SHUTONG_KAFKA_REPLICATION": "1",
            "SHUTONG_KAFKA_MIN_ISR": "1",
        }
        command = "from shutong_cli.main import main; main()"
        before = committed_end(self.bootstrap, self.topics.lists)
        publisher = subprocess.Popen(
            ["nice", "-n", "19", sys.executable, "-c", command, "list", "publish", str(path)],
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + PUBLISH_S_MAX
            while committed_end(self.bootstrap, self.topics.lists) == before:
                if publisher.poll() or time.monotonic() > end:
                    raise ChildFailed("the list was not published")
                time.sleep(0.05)
            return time.time_ns() // 1_000_000
        finally:
            publisher.kill()
            publisher.wait()
