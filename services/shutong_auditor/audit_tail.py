"""Follows audit and receipts from their beginning and keeps the sums of what they say."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_auditor.acknowledged import Acknowledged
from shutong_auditor.tally import Tally, TallyMaker
from shutong_core.audit.block import parse_block
from shutong_core.audit.receipts import parse_receipt
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.changes import Assembler, Verify
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import partitions_of
from shutong_core.runtime.consumers import reading_committed
from shutong_core.wire.topics import Topics

_log = structlog.stdlib.get_logger(__name__)
RETRY_S = 0.5


class AuditTail:
    """Sums over every committed audit block, kept up to date in the background.

    Each block is added under the list version that decided it, so all versions are kept: meant
    for a table on a screen or one report, not for a node's whole life.
    """

    def __init__(
        self, client: Mapping[str, Any], topics: Topics, table: RegionTable, verify: Verify
    ) -> None:
        self._client = client
        self._topics = topics
        self._maker = TallyMaker(table)
        self._assembler = Assembler(verify)
        self._versions: dict[int, ListVersion] = {}
        self._next: dict[TopicPartition, int] = {}
        self._reached: dict[TopicPartition, int] = {}  # everything before is in the sums
        self._waiting: list[tuple[bytes, bytes]] = []
        self._task: asyncio.Task[None] | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._acknowledged = Acknowledged()
        self.problem: str | None = None

    @property
    def tally(self) -> Tally:
        """The sums so far."""
        return self._maker.tally

    @property
    def acknowledged(self) -> Counter[str]:
        """Records countersigned by agencies, by grant; signatures are not checked here."""
        return self._acknowledged.by_grant

    @property
    def version(self) -> ListVersion | None:
        """The newest list read so far."""
        return self._assembler.version

    @property
    def rows(self) -> int:
        """Input records decided so far."""
        return sum(dataset.rows for dataset in self.tally.datasets.values())

    async def caught_up(self, timeout_s: float) -> bool:
        """Wait until all that stands in the audit now is in the sums; False if that takes longer.

        Raises nothing when Kafka does not answer: then it is False.
        """
        try:
            async with asyncio.timeout(timeout_s):
                consumer = self._consumer
                if consumer is None:
                    return False
                parts = [each for each in consumer.assignment() if each.topic == self._topics.audit]
                ends = await consumer.end_offsets(parts)
                while any(self._reached.get(part, 0) < end for part, end in ends.items()):
                    await asyncio.sleep(0.02)
        except (KafkaError, TimeoutError):
            return False
        return True

    async def arrived(self) -> dict[str, int]:
        """Records in each dataset's inbound topic, repeats included.

        Empty while there is no list. Raises KafkaError when Kafka does not answer.
        """
        version, consumer = self._assembler.version, self._consumer
        if version is None or consumer is None:
            return {}
        datasets = {self._topics.inbound(row.id): row.id for row in version.of(Dataset)}
        parts = [TopicPartition(each, n) for each in datasets for n in range(version.bus.lanes)]
        counts = dict.fromkeys(datasets.values(), 0)
        for part, end in (await consumer.end_offsets(parts)).items():
            counts[datasets[part.topic]] += end
        return counts

    async def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._run(), name="audit tail")

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, TimeoutError, Retryable) as error:
                self.problem = f"Kafka: {type(error).__name__}"
            except Rejected as error:
                self.problem = str(error)
                _log.error("audit cannot be read", error=str(error))
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        async with reading_committed(self._client, fetch_max_wait_ms=200) as consumer:
            try:
                lists = TopicPartition(self._topics.lists, 0)
                lanes = (await partitions_of(self._client, [self._topics.audit])).get(
                    self._topics.audit, 0
                )
                receipts = TopicPartition(self._topics.receipts, 0)
                parts = [lists, receipts]
                parts += [TopicPartition(self._topics.audit, lane) for lane in range(lanes)]
                consumer.assign(parts)
                for part in parts:
                    consumer.seek(part, self._next.get(part, 0))
                self._consumer = consumer
                while lanes:
                    await self._take(consumer, lists, receipts)
            finally:
                self._consumer = None

    async def _take(
        self, consumer: AIOKafkaConsumer, lists: TopicPartition, receipts: TopicPartition
    ) -> None:
        found = await consumer.getmany(timeout_ms=200)
        for record in found.pop(receipts, ()):
            self._take_receipt(record.value or b"")
            self._next[receipts] = record.offset + 1
        for record in found.pop(lists, ()):
            self._take_list(record.value or b"")
            self._next[lists] = record.offset + 1
        for part, records in found.items():
            for record in records:
                self._waiting.append((record.key, record.value))
                self._next[part] = record.offset + 1
        waiting, self._waiting = self._waiting, []
        for header, body in waiting:
            self._add(header, body)
            await asyncio.sleep(0)  # a long history must not stop the screen
        for part in consumer.assignment():
            # Also past transaction markers, which getmany skips.
            self._reached[part] = await consumer.position(part)

    def _take_list(self, value: bytes) -> None:
        try:
            version = self._assembler.add(value)
        except Rejected as error:
            self.problem = f"a list was refused: {error}"
            return
        if version is not None:
            self._versions[version.number] = version

    def _take_receipt(self, value: bytes) -> None:
        try:
            receipt = parse_receipt(value, _any_signature)
        except Rejected:
            return  # not for a sum to say; verification does
        self._acknowledged.add(receipt)

    def _add(self, header: bytes, body: bytes) -> None:
        head, parsed = parse_block(header, body)
        version = self._versions.get(head.list_number)
        if version is None:
            self._waiting.append((header, body))  # its list was not read yet
            return
        if version.digest != head.list_digest:
            raise Rejected(f"block {head.sequence} of lane {head.lane} names another list")
        self._maker.add(parsed, version)


def _any_signature(_key_id: str, _message: bytes, _signature: bytes) -> bool:
    return True
