"""The stage of a benchmark: a Kafka, one bus on it under a prefix of its own, its processes.

    with Stage() as stage:                      # or Stage(kafka) on a node that runs already
        stage.publish(job.reference_sections(), job.reference_schemas())
        with stage.brokers(2) as brokers:       # real processes, ready, lanes spread
            ...
            brokers[0].rss_mb, brokers[0].total("shutong_placed_total")

The list goes through the same library code as `shutong list publish`; brokers are started as
`shutong broker` starts them, with settings by environment. Leaving ends the processes and deletes
the topics (and the Kafka, if the stage started it).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from confluent_kafka.admin import AdminClient

from bench.children import BrokerChild, ChildFailed, rss_mb_of, wait_until
from shutong_cli.publishing import publish_list_file
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import existing_topics
from shutong_core.runtime.freeports import free_port
from shutong_core.runtime.kafka_launch import REAL, Profile
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import KafkaSettings, Settings, toolchain
from shutong_core.wire.topics import Topics

READY_S_MAX = 60.0
TOPICS_DELETED_S_MAX = 30.0
_OVERRIDES = {
    # A run leaves its topics deleted: their files go at once, not after a minute.
    "log.segment.delete.delay.ms": "1000",
    # The records of a race are written in one transaction, on a slow machine for minutes.
    "transaction.max.timeout.ms": "900000",
}


class BenchKafka:
    """One embedded Kafka for a whole run, in a directory of its own under /tmp.

    `running`: the address of a Kafka that runs already and is used in its place.
    """

    def __init__(
        self,
        profile: Profile = REAL,
        overrides: Mapping[str, str] | None = None,
        running: str | None = None,
    ) -> None:
        self._running = running
        self.directory = Path(tempfile.mkdtemp(prefix="shutong-bench-"))
        self._node = EmbeddedKafka(
            self.directory / "kafka",
            toolchain(),
            profile=profile,
            overrides=_OVERRIDES | dict(overrides or {}),
        )

    def __enter__(self) -> Self:
        if self._running is None:
            self._node.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is None:
            self._node.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return self._running or self._node.bootstrap_servers

    @property
    def pid(self) -> int:
        """Process id of the JVM, for its share of the processor; 0 if it is not ours."""
        return self._node.pid or 0


class Stage:
    """One bus under a fresh prefix."""

    def __init__(self, kafka: BenchKafka | None = None, prefix: str | None = None) -> None:
        self.kafka = kafka or BenchKafka()
        self._own_kafka = kafka is None
        self.prefix = prefix or f"b{uuid.uuid4().hex[:8]}"
        self.topics = Topics(self.prefix)
        self.version: ListVersion | None = None

    def __enter__(self) -> Self:
        if self._own_kafka:
            self.kafka.__enter__()
        self.directory = self.kafka.directory / self.prefix
        self.directory.mkdir(mode=0o700)
        self.node = Node("bench", self._settings())
        return self

    def __exit__(self, *_: object) -> None:
        if self._own_kafka:
            self.kafka.__exit__()
        else:
            self.delete_topics()
            shutil.rmtree(self.directory, ignore_errors=True)

    def _settings(self) -> Settings:
        kafka = KafkaSettings(bootstrap_servers=self.bootstrap, replication=1, min_isr=1)
        return Settings(prefix=self.prefix, data_dir=self.directory, kafka=kafka)

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return self.kafka.bootstrap

    def publish(self, sections: Mapping[str, Any], schemas: Mapping[str, str]) -> ListVersion:
        """Put a list in force; its topics exist afterwards.

        `sections` is a list file as a mapping (`bench.job.sections`), `schemas` the schema files
        it names. Raises ListRefused with what is wrong, as the command does.
        """
        for name, text in schemas.items():
            (self.directory / name).write_text(text)
        path = self.directory / "list.yaml"
        path.write_text(_as_yaml(sections))
        report = asyncio.run(publish_list_file(self.node, path))
        self.version = report.version
        return report.version

    @contextmanager
    def brokers(
        self,
        count: int = 1,
        env: Mapping[str, str] | None = None,
        *,
        command: tuple[str, ...] = ("-m", "shutong_broker"),
        lanes: int = 6,
    ) -> Iterator[list[BrokerChild]]:
        """`count` broker processes, ready and with the lanes spread; ended at the end.

        `env`: further settings by their full names (`SHUTONG_BROKER_TRANSACTION_RECORDS_MAX`).
        """
        children = [self._broker(n, env or {}, command) for n in range(count)]
        try:
            self.ready(children, lanes)
            yield children
        finally:
            for child in children:
                child.stop()

    def ready(self, brokers: list[BrokerChild], lanes: int = 6) -> None:
        """Wait until all are ready and hold all lanes, each its share."""
        share = lanes // len(brokers)

        def settled() -> bool:
            held = [each.lanes_held for each in brokers]
            return sum(held) == lanes and min(held) >= share and all(b.is_ready for b in brokers)

        wait_until(settled, READY_S_MAX, "brokers ready with the lanes spread", brokers)

    def _broker(self, n: int, env: Mapping[str, str], command: tuple[str, ...]) -> BrokerChild:
        port = free_port()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SHUTONG_")
        } | {
            "SHUTONG_PREFIX": self.prefix,
            "SHUTONG_DATA_DIR": str(self.directory),
            "SHUTONG_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "SHUTONG_KAFKA_REPLICATION": "1",
            "SHUTONG_KAFKA_MIN_ISR": "1",
            "SHUTONG_LOG_LEVEL": "warning",
            "SHUTONG_BROKER_ADMIN_PORT": str(port),
        }
        name = f"broker-{n}"
        return BrokerChild(
            name,
            [sys.executable, *command],
            self.directory / f"{name}-{port}.log",
            environment | dict(env),
            port,
        )

    def delete_topics(self) -> None:
        """Delete every topic of the prefix: a run leaves nothing for the next one to carry."""
        names = asyncio.run(existing_topics(self.node.client, self.prefix))
        if not names:
            return
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for future in admin.delete_topics(list(names), operation_timeout=30).values():
            future.result()
        end = time.monotonic() + TOPICS_DELETED_S_MAX
        while asyncio.run(existing_topics(self.node.client, self.prefix)):
            if time.monotonic() > end:
                raise ChildFailed("topics were not deleted")
            time.sleep(0.1)

    @property
    def kafka_rss_mb(self) -> float:
        """Resident memory of the Kafka node in MiB."""
        return rss_mb_of(self.kafka.pid)


def _as_yaml(sections: Mapping[str, Any]) -> str:
    """A list file: YAML whose entries are written as JSON, one a line."""
    lines = []
    for section, value in sections.items():
        entries = value if isinstance(value, list) else [value]
        if not entries:
            continue
        lines.append(f"{section}:")
        lead = "- " if isinstance(value, list) else "  "
        lines += [lead + json.dumps(entry, ensure_ascii=False) for entry in entries]
    return "\n".join([*lines, "...", ""])
