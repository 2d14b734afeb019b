"""A stage whose operator makes inbound and delivery topics only for what is in use.

A list of 10,000 grants asks for more partitions than a node should hold (4,000).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from bench.stage import BenchKafka, Stage
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import ensure_topics
from shutong_core.runtime.settings import Settings
from shutong_core.wire.topics import topic_specs

MAKE_S_MAX = 600.0
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
