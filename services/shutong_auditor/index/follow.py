"""Follows topics `audit` and `access` into the index, each block under the list that decided it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from shutong_auditor.index.events import EventWriter
from shutong_auditor.index.indexer import IndexedBlock, Indexer
from shutong_auditor.index.listshelf import ListShelf
from shutong_core.audit.block import Body, Header, parse_block
from shutong_core.domain.changes import Verify
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.consumers import reading_committed
from shutong_core.wire.topics import Topics

RETRY_S = 1.0
_ANSWER_S = 15.0
_POLL_MS = 200
#: Blocks of one transaction of the database, and what a partition may send at once.
_BATCH_MAX = 100
_FETCH_BYTES_MAX = 4 * 1024 * 1024
LIST_S_MAX = 30.0
_log = structlog.stdlib.get_logger(__name__)


class IndexFollower:
    """Keeps an index up to date. `start`, then `stop`; or `run_once` for what stands there now."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: Topics,
        lanes: int,
        verify: Verify,
        indexer: Indexer,
        events: EventWriter,
        *,
        list_s: float = LIST_S_MAX,
    ) -> None:
        """`verify`: of list changes, as every reader of control.lists has it.

        `list_s`: how long the list that a block names is waited for.
        """
        self._client = client
        self._lists = topics.lists
        self._audit = topics.audit
        self._places = [TopicPartition(topics.audit, lane) for lane in range(lanes)]
        self._places += [TopicPartition(topics.access, number) for number in range(lanes)]
        self._verify = verify
        self._indexer = indexer
        self._events = events
        self._list_s = list_s
        self._reached: dict[TopicPartition, int] = {}  # everything before is in the index
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self.blocks = 0
        self.problem: str | None = "the index is being brought up to date"

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._task = asyncio.create_task(self._run(), name="index")

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run_once(self) -> int:
        """Index what stands in the topics now; how many blocks were new. Raises Retryable."""
        try:
            await self._follow(once=True)
        except (KafkaError, TimeoutError) as error:
            raise Retryable(f"audit cannot be read: {type(error).__name__}") from error
        return self.blocks

    async def caught_up(self, within_s: float) -> bool:
        """Wait until all that stands in the topics now is in the index; False if it takes longer.

        Raises nothing when Kafka does not answer: then it is False.
        """
        try:
            async with asyncio.timeout(within_s):
                while self._consumer is None:
                    await asyncio.sleep(0.02)
                ends = await self._consumer.end_offsets(self._places)
                while any(self._reached.get(place, 0) < end for place, end in ends.items()):
                    await asyncio.sleep(0.02)
        except (KafkaError, TimeoutError):
            return False
        return True

    async def _run(self) -> None:
        while True:
            try:
                await self._follow(once=False)
            except (KafkaError, TimeoutError, Retryable) as error:
                self.problem = f"index: Kafka: {type(error).__name__}"
            except SQLAlchemyError as error:
                self.problem = f"index: database: {type(error).__name__}"
                _log.error("index cannot be written", error_type=type(error).__name__)
            except Rejected as error:
                self.problem = f"index: {error}"
                _log.error("index stopped", error=str(error))
            await asyncio.sleep(RETRY_S)

    async def _follow(self, *, once: bool) -> None:
        shelf = ListShelf(self._client, self._lists, self._verify)
        async with reading_committed(
            self._client,
            _ANSWER_S,
            max_partition_fetch_bytes=_FETCH_BYTES_MAX,
            fetch_max_wait_ms=_POLL_MS,
        ) as consumer:
            try:
                consumer.assign(self._places)
                first = await consumer.beginning_offsets(self._places)
                ends = await consumer.end_offsets(self._places)
                for place in self._places:
                    known = await asyncio.to_thread(self._next_offset, place)
                    consumer.seek(place, max(known, first[place]))
                self._reached, self._consumer = {}, consumer
                while not once or self._behind(ends):
                    await self._take(consumer, shelf)
                    if not self._behind(ends):
                        self.problem = None
            finally:
                self._consumer = None
                await shelf.close()

    def _next_offset(self, place: TopicPartition) -> int:
        if place.topic == self._audit:
            return self._indexer.next(place.partition)[1]
        return self._events.next(place.partition)

    def _behind(self, ends: Mapping[TopicPartition, int]) -> bool:
        return any(self._reached.get(place, -1) < end for place, end in ends.items())

    async def _take(self, consumer: AIOKafkaConsumer, shelf: ListShelf) -> None:
        found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_MAX)
        blocks: list[Any] = []
        for place, records in found.items():
            if place.topic == self._audit:
                blocks += records
            else:
                stored = [(each.offset, each.value or b"", each.timestamp) for each in records]
                await asyncio.to_thread(self._events.add, place.partition, stored)
        if blocks:
            await self._add(blocks, shelf)
        for place in self._places:
            # Also past transaction markers, which getmany skips.
            self._reached[place] = await consumer.position(place)

    async def _add(self, records: Sequence[Any], shelf: ListShelf) -> None:
        # In a thread, and one trip for all: blocks are parsed in milliseconds each.
        parsed = await asyncio.to_thread(_parsed, records)
        batch = []
        for record, (header, body) in zip(records, parsed, strict=True):
            version = await shelf.get(header.list_number, header.list_digest, self._list_s)
            batch.append(IndexedBlock(record.offset + 1, record.key or b"", header, body, version))
        self.blocks += await asyncio.to_thread(self._indexer.add, batch)


def _parsed(records: Sequence[Any]) -> list[tuple[Header, Body]]:
    return [parse_block(each.key or b"", each.value or b"") for each in records]
