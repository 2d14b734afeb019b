"""Follows topic quarantine and keeps the index of refusals; only headers are looked at.

At start it goes back a bounded number of records in each partition. Whatever fails, it begins
anew with a fresh consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_core.domain.errors import Rejected
from shutong_core.runtime.consumers import committed_consumer
from shutong_core.wire.quarantine import read_quarantine_headers
from shutong_producer.refusals import ENTRIES_MAX, RefusalIndex

_RETRY_S = 0.5
_POLL_MS = 300
#: The topic takes batches of 2 MiB; one must always fit.
_FETCH_BYTES_MAX = 4 * 1024 * 1024
_log = structlog.stdlib.get_logger(__name__)


class QuarantineTail:
    """Feeds a RefusalIndex from Kafka."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        entries_max: int = ENTRIES_MAX,
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._topic = topic
        self._entries_max = entries_max
        self._on_error = on_error
        self._task: asyncio.Task[None] | None = None
        self._reached: dict[TopicPartition, int] = {}
        self.index = RefusalIndex(entries_max)
        self.problem: str | None = "refusals not read yet"

    async def start(self) -> None:
        """Begin to follow; returns at once."""
        self._task = asyncio.create_task(self._follow(), name="quarantine tail")

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether everything was read that stood there when following began."""
        return self.problem is None

    async def _follow(self) -> None:
        while True:
            try:
                await self._tenure()
            except (KafkaError, TimeoutError) as error:
                self.problem = f"refusals cannot be read: {type(error).__name__}"
                self._on_error(type(error).__name__)
            except Exception as error:  # must show, never end the tail silently
                self.problem = f"refusals cannot be read: {type(error).__name__}"
                _log.exception("quarantine tail failed", error_type=type(error).__name__)
            await asyncio.sleep(_RETRY_S)

    async def _tenure(self) -> None:
        consumer = committed_consumer(
            self._client,
            fetch_max_wait_ms=_POLL_MS,
            max_partition_fetch_bytes=_FETCH_BYTES_MAX,
        )
        try:
            async with asyncio.timeout(10):
                await consumer.start()
                ends = await self._take_up(consumer)
            while True:
                behind = any(self._reached[tp] < end for tp, end in ends.items())
                if not behind:
                    ends, self.problem = {}, None
                await self._take(consumer)
        finally:
            async with asyncio.timeout(5):
                await consumer.stop()

    async def _take_up(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        """Assign every partition where the index stands, or a bounded way back; gives the ends."""
        numbers = await _partitions(consumer, self._topic)
        tps = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        begins = await consumer.beginning_offsets(tps)
        if self._reached.keys() != set(tps) or any(self._reached[tp] < begins[tp] for tp in tps):
            share = max(1, self._entries_max // len(tps))
            self._reached = {tp: max(begins[tp], ends[tp] - share) for tp in tps}
            self.index.begin({tp.partition: at for tp, at in self._reached.items()})
        for tp in tps:
            consumer.seek(tp, self._reached[tp])
        return dict(ends)

    async def _take(self, consumer: AIOKafkaConsumer) -> None:
        found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=1_000)
        for tp, records in found.items():
            for record in records:
                try:
                    told = read_quarantine_headers(record.headers)
                except Rejected:
                    told = None
                    _log.error("quarantined record unreadable", offset=record.offset)
                self._reached[tp] = record.offset + 1
                self.index.add(tp.partition, record.offset, record.timestamp, told)
        for tp in self._reached:
            # The position also passes what holds no record: transaction markers.
            self._reached[tp] = await consumer.position(tp)
            self.index.reach(tp.partition, self._reached[tp])


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    numbers: set[int] = await consumer._client._wait_on_metadata(topic)
    return set(numbers)
