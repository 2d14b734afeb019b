"""The inputs of one lane: partition n of every `inbound.<dataset>`, read by `assign`.

Offsets live in a group that nobody joins, so that no rebalance moves them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest

from shutong_broker.plan import Polled
from shutong_broker.policy.model import InboundRecord
from shutong_core.domain.errors import Retryable
from shutong_core.runtime.consumers import stop_consumer
from shutong_core.wire.topics import Topics

#: How long one input may take to be fetched again when an unreadable one is looked for.
TRIAL_MS = 1_000
#: A question that takes longer is asked again.
ANSWER_S = 10.0


class InboundSource:
    """Reads one lane's inputs from given positions."""

    def __init__(self, client: Mapping[str, Any], topics: Topics, group: str, lane: int) -> None:
        self._topics = topics
        self._group = group
        self._lane = lane
        self._consumer = AIOKafkaConsumer(
            **client,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            check_crcs=True,
            max_partition_fetch_bytes=2 * 1024 * 1024,
            fetch_max_wait_ms=500,
        )
        self._datasets: frozenset[str] = frozenset()
        self.parked: set[str] = set()

    async def start(self) -> None:
        """Connect. Raises Retryable when Kafka is away."""
        try:
            await self._consumer.start()
        except KafkaError as error:
            raise Retryable(f"cannot read inbound: {type(error).__name__}") from error

    async def close(self) -> None:
        """Disconnect; never fails."""
        await stop_consumer(self._consumer)

    def _tp(self, dataset: str) -> TopicPartition:
        return TopicPartition(self._topics.inbound(dataset), self._lane)

    async def committed(self, dataset: str) -> int | None:
        """The offset committed for a dataset, asked afresh; None if there is none.

        Raises Retryable if Kafka does not say. aiokafka's own `committed` takes an answer that is
        an error as a whole (OffsetFetch v2 on, e.g. while the coordinator loads) for "none".
        """
        tp = self._tp(dataset)
        coordinator = self._consumer._coordinator
        try:
            async with asyncio.timeout(ANSWER_S):
                await coordinator.ensure_coordinator_known()
                answer = await coordinator._send_req(
                    OffsetFetchRequest(self._group, [(tp.topic, [tp.partition])])
                )
        except (KafkaError, TimeoutError) as error:
            raise Retryable(f"no committed offset told: {type(error).__name__}") from error
        found = [each for _, partitions in answer.topics for each in partitions]
        failed = [code for *_, code in found if code] or [getattr(answer, "error_code", 0)]
        if failed[0] or len(found) != 1:
            coordinator.coordinator_dead()
            raise Retryable(f"no committed offset told: {for_code(failed[0]).__name__}")
        offset: int = found[0][1]
        return None if offset < 0 else offset

    async def beginnings(self, datasets: Sequence[str]) -> dict[str, int]:
        """The first offset still kept, per dataset; a topic that does not answer is left out."""
        found: dict[str, int] = {}
        for dataset in datasets:
            tp = self._tp(dataset)
            try:
                async with asyncio.timeout(ANSWER_S):
                    found[dataset] = (await self._consumer.beginning_offsets([tp]))[tp]
            except (KafkaError, TimeoutError):
                continue
        return found

    @property
    def datasets(self) -> frozenset[str]:
        """What is being read."""
        return self._datasets

    def read_from(self, positions: Mapping[str, int]) -> None:
        """Read exactly these datasets from these offsets, in place of any before."""
        self._datasets = frozenset(positions)
        self._consumer.assign([self._tp(dataset) for dataset in sorted(positions)])
        for dataset, offset in positions.items():
            self._consumer.seek(self._tp(dataset), offset)

    def reread(self, dataset: str, offset: int) -> None:
        """Read one input again from `offset`: what was polled beyond was not taken."""
        self._consumer.seek(self._tp(dataset), offset)

    def give_back(self, positions: Mapping[str, int], polled: Sequence[Polled]) -> None:
        """Read again what was polled and not taken."""
        for each in polled:
            if each.dataset not in self.parked:
                self.reread(each.dataset, positions.get(each.dataset, each.records[0].offset))

    def unpark(self, dataset: str) -> None:
        """Try one input again: the next `read_from` may name it."""
        self.parked.discard(dataset)
        self._datasets -= {dataset}

    def park(self, dataset: str) -> None:
        """Stop reading one input; the others flow on."""
        self.parked.add(dataset)
        if dataset in self._datasets:
            self._consumer.pause(self._tp(dataset))

    async def poll(self, wait_ms: int, records_max: int) -> tuple[Polled, ...]:
        """What has come, at most `records_max` records; inputs take turns inside the client.

        An input whose position is no longer kept is parked and named in `parked`.
        """
        if self._datasets <= self.parked:
            await asyncio.sleep(wait_ms / 1000)  # nothing to read must not mean to spin
            return ()
        try:
            found = await self._consumer.getmany(timeout_ms=wait_ms, max_records=records_max)
        except OffsetOutOfRangeError as error:
            for tp in error.args[0]:
                self.park(self._topics.dataset_of(tp.topic) or "")
            return ()
        except KafkaError as error:
            raise Retryable(f"cannot read inbound: {type(error).__name__}") from error
        except (ValueError, TypeError):
            # The client cannot even take the batch apart (a header name that is not UTF-8): only
            # a publisher with its own Kafka client can write that, and it stops only its dataset.
            await self._park_unreadable(records_max)
            return ()
        polled = []
        for tp, records in found.items():
            dataset = self._topics.dataset_of(tp.topic)
            if not records or dataset is None or dataset in self.parked:
                continue
            polled.append(Polled(dataset, [_record(dataset, raw) for raw in records]))
        return tuple(sorted(polled, key=lambda each: each.dataset))

    async def _park_unreadable(self, records_max: int) -> None:
        """Find the inputs that cannot be read by reading each alone; every position stays."""
        # Only what is fetched can have failed; aiokafka keeps it by partition until it is taken.
        fetched = {tp for tp in self._consumer._fetcher._records if isinstance(tp, TopicPartition)}
        for dataset in sorted(self._datasets - self.parked):
            tp = self._tp(dataset)
            if tp not in fetched:
                continue
            position = await self._consumer.position(tp)
            self._consumer.seek(tp, position)
            try:
                await self._consumer.getmany(tp, timeout_ms=TRIAL_MS, max_records=records_max)
            except (ValueError, TypeError):
                self.park(dataset)
            self._consumer.seek(tp, position)


def _record(dataset: str, raw: Any) -> InboundRecord:
    return InboundRecord(
        dataset=dataset,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key,
        value=raw.value,
        headers=raw.headers,
        timestamp_ms=raw.timestamp,
    )
