"""Whether a lane's audit was vouched for recently enough: without fresh checkpoint no placement.

A checkpoint is the auditor's signed word on all blocks so far. The age counts from when Kafka
appended the newest one; before the first, from when the lane's first block was appended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shutong_core.audit.checkpoint import AUDIT, TreeName
from shutong_core.domain.errors import Retryable
from shutong_core.runtime.checkpointfeed import CheckpointFeed
from shutong_core.runtime.consumers import reading_committed

_ANSWER_S = 10.0


class CheckpointGrace:
    """The grace of all lanes of a process, by the checkpoints that the feed reads."""

    def __init__(
        self,
        client: Mapping[str, Any],
        audit_topic: str,
        cluster: str,
        feed: CheckpointFeed,
        now_ms: Callable[[], int],
    ) -> None:
        self._client = client
        self._topic = audit_topic
        self._cluster = cluster
        self._feed = feed
        self._now_ms = now_ms
        self._first_block_ms: dict[int, int] = {}

    def vouched(self, lane: int) -> int:
        """Blocks of the lane that a checkpoint speaks of: the lane cannot have less."""
        head = self._feed.newest(TreeName(self._cluster, AUDIT, lane))
        return head.checkpoint.size if head else 0

    async def late(self, lane: int, sequence: int, grace_s: int) -> bool:
        """Whether a lane that has `sequence` blocks must wait for a checkpoint.

        Raises Retryable if Kafka does not say how old the first block is.
        """
        if sequence == 0:
            return False  # nothing yet that anybody could vouch for
        if not self._feed.ready:
            return True
        age_s = self.age_s(lane)
        if age_s is None:
            self._first_block_ms[lane] = await self._read_first(lane)
            age_s = self.age_s(lane) or 0.0
        return age_s > grace_s

    def age_s(self, lane: int) -> float | None:
        """Seconds that the grace has run, at least 0; None if nothing is known to count from."""
        head = self._feed.newest(TreeName(self._cluster, AUDIT, lane))
        since_ms = head.at_ms if head else self._first_block_ms.get(lane)
        return None if since_ms is None else max(0.0, (self._now_ms() - since_ms) / 1000)

    async def _read_first(self, lane: int) -> int:
        """When the first block that is kept was appended, in milliseconds since 1970 UTC."""
        place = TopicPartition(self._topic, lane)
        try:
            async with (
                asyncio.timeout(_ANSWER_S),
                reading_committed(self._client) as reader,
            ):
                reader.assign([place])
                reader.seek(place, (await reader.beginning_offsets([place]))[place])
                record = await reader.getone(place)
                return int(record.timestamp)
        except (KafkaError, TimeoutError) as error:
            raise Retryable(
                f"lane {lane}: the first block cannot be read: {type(error).__name__}"
            ) from error
