"""Follows topic `audit` into the index, block by block under the list that decided it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from shutong_auditor.index.indexer import IndexedBlock, Indexer
from shutong_core.audit.block import parse_block
from shutong_core.domain.changes import Assembler, Verify
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.consumers import stop_consumer
from shutong_core.wire.topics import Topics

RETRY_S = 1.0
_ANSWER_S = 15.0
_POLL_MS = 200
#: Blocks of one transaction of the database.
_BATCH_MAX = 200
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
    ) -> None:
        """`verify`: of list changes, as every reader of control.lists has it."""
        self._client = client
        self._lists = TopicPartition(topics.lists, 0)
        self._places = [TopicPartition(topics.audit, lane) for lane in range(lanes)]
        self._verify = verify
        self._indexer = indexer
        self._assembler = Assembler(verify)
        self._versions: dict[int, ListVersion] = {}
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
        """Index what stands in the topic now; how many blocks were new. Raises Retryable."""
        try:
            await self._follow(once=True)
        except (KafkaError, TimeoutError) as error:
            raise Retryable(f"audit cannot be read: {type(error).__name__}") from error
        return self.blocks

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
        self._assembler, self._versions = Assembler(self._verify), {}
        consumer = AIOKafkaConsumer(
            **self._client,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            check_crcs=True,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            fetch_max_wait_ms=_POLL_MS,
        )
        async with asyncio.timeout(_ANSWER_S):
            await consumer.start()
        try:
            consumer.assign([self._lists, *self._places])
            consumer.seek(self._lists, 0)
            ends = await consumer.end_offsets([self._lists, *self._places])
            first = await consumer.beginning_offsets(self._places)
            for place in self._places:
                _, offset = await asyncio.to_thread(self._indexer.next, place.partition)
                consumer.seek(place, max(offset, first[place]))
            consumer.pause(*self._places)
            while await consumer.position(self._lists) < ends[self._lists]:
                await self._take_lists(consumer)
            consumer.resume(*self._places)
            while not once or await self._behind(consumer, ends):
                await self._take(consumer)
                if not once and not await self._behind(consumer, ends):
                    self.problem = None
        finally:
            await stop_consumer(consumer)

    async def _behind(self, consumer: AIOKafkaConsumer, ends: Mapping[Any, int]) -> bool:
        for place in self._places:
            if await consumer.position(place) < ends[place]:
                return True
        return False

    async def _take(self, consumer: AIOKafkaConsumer) -> None:
        found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_MAX)
        for record in found.pop(self._lists, ()):
            self._take_list(record.value or b"")
        batch: list[IndexedBlock] = []
        for records in found.values():
            for record in records:
                header, body = await asyncio.to_thread(
                    parse_block, record.key or b"", record.value or b""
                )
                version = await self._version(consumer, header.list_number, header.list_digest)
                batch.append(
                    IndexedBlock(record.offset + 1, record.key or b"", header, body, version)
                )
        if batch:
            self.blocks += await asyncio.to_thread(self._indexer.add, batch)
            self._forget(min(each.header.list_number for each in batch))

    async def _version(self, consumer: AIOKafkaConsumer, number: int, digest: bytes) -> ListVersion:
        """The list of that number; it may be read after the block that names it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LIST_S_MAX
        while number not in self._versions:
            if loop.time() > until:
                raise Rejected(f"a block names list {number}, which control.lists does not have")
            consumer.pause(*self._places)
            await self._take_lists(consumer)
            consumer.resume(*self._places)
        version = self._versions[number]
        if version.digest != digest:
            raise Rejected(f"a block names another list {number} than control.lists has")
        return version

    async def _take_lists(self, consumer: AIOKafkaConsumer) -> None:
        found = await consumer.getmany(self._lists, timeout_ms=_POLL_MS)
        for record in found.get(self._lists, ()):
            self._take_list(record.value or b"")

    def _take_list(self, value: bytes) -> None:
        try:
            version = self._assembler.add(value)
        except Rejected:
            return  # as every reader does; the list feed tells of it
        if version is not None:
            self._versions[version.number] = version

    def _forget(self, oldest: int) -> None:
        """Drop lists that no lane will name any more: numbers never fall within a lane."""
        for number in sorted(self._versions)[:-100]:
            if number < oldest - 100:
                del self._versions[number]
