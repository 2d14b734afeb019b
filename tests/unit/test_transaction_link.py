"""What one transactional id says to Kafka, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    InvalidTxnState,
    KafkaConnectionError,
    ProducerFenced,
    RequestTimedOutError,
)
from aiokafka.structs import TopicPartition

from shutong_core.runtime import transactionlink
from shutong_core.runtime.aiokafka_inside import record_batch
from shutong_core.runtime.transactionlink import Offsets, TransactionLink, Write
from shutong_core.wire.batches import ColumnBatch

NOT_ENOUGH_REPLICAS, NOT_COORDINATOR, INVALID_EPOCH, INVALID_STATE, CONCURRENT = 19, 16, 47, 48, 51
TP = TopicPartition("t", 0)


class FakeKafka:
    """One node that answers each kind of request as told, else well."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told: dict[str, deque[Any]] = {}
        self.data: list[bytes] = []
        self.lookups = 0
        self.cluster = SimpleNamespace(leader_for_partition=lambda tp: 1)
        self._requests: list[Any] = []

    def tell(self, kind: str, *answers: Any) -> None:
        """Error codes, or exceptions, to give for the next requests of this kind."""
        self.told[kind] = deque(answers)

    async def coordinator_lookup(self, kind: Any, key: str) -> int:
        self.lookups += 1
        return 1

    async def _get_conn(self, node: int) -> FakeKafka:
        return self

    async def _maybe_wait_metadata(self) -> None:
        return

    def force_metadata_update(self) -> None:
        return

    def close(self, reason: Any) -> None:
        return

    def send(self, request: Any) -> Any:
        kind = type(request).__name__.removesuffix("Request")
        self.asked.append(kind)
        if kind == "Produce":
            self.data += [bytes(data) for _, entries in request._topics for _, data in entries]
        told = self.told.get(kind)
        return self._answer(kind, request, told.popleft() if told else 0)

    async def _answer(self, kind: str, request: Any, code: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(code, Exception):
            raise code
        if kind in ("AddPartitionsToTxn", "TxnOffsetCommit"):
            return SimpleNamespace(errors=[(topic, [(0, code)]) for topic, _ in request._topics])
        if kind == "Produce":
            given = [(topic, [(0, code, 7, 1_000)]) for topic, _ in request._topics]
            return SimpleNamespace(topics=given)
        return SimpleNamespace(error_code=code, producer_id=5, producer_epoch=2)


async def started() -> tuple[FakeKafka, TransactionLink]:
    kafka = FakeKafka()
    link = TransactionLink(kafka, "id", 15_000, 4_000)  # type: ignore[arg-type] - a stand-in
    await link.init()
    kafka.asked.clear()
    return kafka, link


def a_write(count: int = 2) -> dict[TopicPartition, Write]:
    builder, held = record_batch(ColumnBatch("t", 0, [b"k"] * count, [b"v"] * count), 0, 10_000)
    future = asyncio.get_running_loop().create_future()
    return {TP: Write(TP, builder, held, future)}


def some_offsets() -> Offsets:
    return Offsets("group", {TP: 3}, asyncio.get_running_loop().create_future())


def first_sequence(data: bytes) -> int:
    return int.from_bytes(data[53:57], "big")


async def test_a_transaction_is_three_trips_in_order() -> None:
    kafka, link = await started()
    writes, offsets = a_write(), some_offsets()
    await link.write(writes, offsets)
    assert writes[TP].written.result().offset == 7
    assert offsets.written.done()
    await link.end(lambda: None)
    assert kafka.asked == [
        "AddPartitionsToTxn", "AddOffsetsToTxn", "Produce", "TxnOffsetCommit", "EndTxn"
    ]  # fmt: skip
    assert not link.lost


async def test_nothing_is_written_to_a_partition_before_it_is_in_the_transaction() -> None:
    kafka, link = await started()
    kafka.tell("AddPartitionsToTxn", CONCURRENT, NOT_COORDINATOR, 0)
    await link.write(a_write(), None)
    assert kafka.asked == ["AddPartitionsToTxn"] * 3 + ["Produce"]
    # Asked again where the coordinator went.
    assert kafka.lookups == 2


async def test_a_repetition_is_the_same_bytes_and_the_next_batch_goes_on_from_there() -> None:
    kafka, link = await started()
    kafka.tell("Produce", NOT_ENOUGH_REPLICAS, KafkaConnectionError(), 0)
    await link.write(a_write(), None)
    assert kafka.data[0] == kafka.data[1] == kafka.data[2]
    assert link.lost
    assert link.repeats == 2
    await link.write(a_write(), None)
    assert [first_sequence(data) for data in kafka.data] == [0, 0, 0, 2]


async def test_sequence_numbers_start_again_at_zero_after_the_largest() -> None:
    kafka, link = await started()
    link._sequences[TP] = 2**31 - 2
    for _ in range(2):
        await link.write(a_write(3), None)
    assert [first_sequence(data) for data in kafka.data] == [2**31 - 2, 1]


async def test_a_refused_batch_is_told_to_who_waits_for_it() -> None:
    kafka, link = await started()
    kafka.tell("Produce", INVALID_EPOCH)
    writes = a_write()
    await link.write(writes, None)
    assert isinstance(writes[TP].written.exception(), ProducerFenced)


@pytest.mark.parametrize("kind", ["AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit"])
@pytest.mark.parametrize(
    ("code", "error"), [(INVALID_EPOCH, ProducerFenced), (INVALID_STATE, InvalidTxnState)]
)
async def test_what_kafka_refuses_for_good_ends_the_transaction(
    kind: str, code: int, error: type[Exception]
) -> None:
    kafka, link = await started()
    kafka.tell(kind, code)
    with pytest.raises(error):
        await link.write(a_write(), some_offsets())


@pytest.mark.parametrize("lost", [KafkaConnectionError(), RequestTimedOutError(), TimeoutError()])
async def test_permission_is_asked_each_time_the_end_is_ordered(lost: Exception) -> None:
    kafka, link = await started()
    kafka.tell("EndTxn", CONCURRENT, lost)
    asked: list[int] = []

    def allow() -> None:
        asked.append(kafka.asked.count("EndTxn"))
        if len(asked) == 3:
            raise PermissionError

    await link.write(a_write(), None)
    with pytest.raises(PermissionError):
        await link.end(allow)
    assert asked == [0, 1, 2]
    assert kafka.asked.count("EndTxn") == 2
    assert link.lost


async def test_an_empty_transaction_needs_no_word_to_kafka() -> None:
    kafka, link = await started()
    await link.end(lambda: None)
    assert kafka.asked == []


async def test_a_request_given_up_while_under_way_counts_as_lost() -> None:
    kafka, link = await started()
    writing = asyncio.create_task(link.write(a_write(), some_offsets()))
    while "AddPartitionsToTxn" not in kafka.asked:
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    assert link.lost


async def test_what_is_too_much_for_one_request_goes_in_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka, link = await started()
    monkeypatch.setattr(transactionlink, "PRODUCE_BYTES_MAX", 250)
    writes: dict[TopicPartition, Write] = {}
    for topic, size in (("a", 100), ("b", 10), ("c", 900), ("d", 10)):
        builder, held = record_batch(ColumnBatch(topic, 0, [b"k"], [b"v" * size]), 0, 10_000)
        future = asyncio.get_running_loop().create_future()
        writes[TopicPartition(topic, 0)] = Write(TopicPartition(topic, 0), builder, held, future)
    kafka.tell("Produce", 0, RequestTimedOutError(), 0)
    offsets = some_offsets()
    await link.write(writes, offsets)
    assert all(each.written.result().offset == 7 for each in writes.values())
    assert offsets.written.done()
    # a and b together, c alone, d alone; c once more. Offsets once, behind all.
    assert kafka.asked[2:] == ["Produce", "Produce", "Produce", "TxnOffsetCommit", "Produce"]
    assert kafka.data[4] == kafka.data[2]
    assert link.lost
