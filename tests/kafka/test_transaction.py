"""The transactional producer on a real Kafka: what it must never do."""

from __future__ import annotations

import asyncio
import importlib.metadata
import struct
from typing import Any

import confluent_kafka as rdkafka
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka import Consumer

from shutong_core.runtime.aiokafka_inside import AIOKAFKA_VERSION
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.transaction import (
    Deadlines,
    Fenced,
    TransactionalProducer,
    TransactionFailed,
)
from shutong_core.wire.batches import ColumnBatch, KafkaRecord, RecordBatch

pytestmark = pytest.mark.kafka


async def make_topic(kafka: EmbeddedKafka, name: str, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1, topic_configs=configs)])
    finally:
        await admin.close()


def producer(kafka: EmbeddedKafka, transactional_id: str, **more: Any) -> TransactionalProducer:
    return TransactionalProducer(
        {"bootstrap_servers": kafka.bootstrap_servers},
        transactional_id,
        Deadlines(**more),
        batch_bytes_max=1_900_000,
    )


async def committed(kafka: EmbeddedKafka, topic: str) -> list[Any]:
    reader = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await reader.start()
    try:
        tp = TopicPartition(topic, 0)
        end = (await reader.end_offsets([tp]))[tp]
        reader.assign([tp])
        await reader.seek_to_beginning(tp)
        found = []
        async with asyncio.timeout(10):
            while await reader.position(tp) < end:
                found += (await reader.getmany(tp, timeout_ms=100)).get(tp, [])
        return found
    finally:
        await reader.stop()


def batch(topic: str, *values: bytes) -> RecordBatch:
    return RecordBatch(topic, 0, [KafkaRecord(b"k", value, (("h", b"1"),)) for value in values])


async def test_a_committed_batch_is_one_record_batch_and_readable(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    await make_topic(kafka, prefix)
    it = producer(kafka, f"{prefix}.a")
    await it.start()
    try:
        await it.begin()
        sent = await it.send(batch(prefix, b"1", b"2", b"3"))
        await it.commit()
        assert (await sent).offset == 0
    finally:
        await it.close()
    found = await committed(kafka, prefix)
    assert [record.value for record in found] == [b"1", b"2", b"3"]
    assert found[0].headers == (("h", b"1"),)


async def test_a_transaction_with_a_refused_record_never_commits(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    # aiokafka itself would commit here: the refused record would be lost without a word.
    await make_topic(kafka, prefix)
    await make_topic(kafka, f"{prefix}-small", **{"max.message.bytes": "500"})
    it = producer(kafka, f"{prefix}.b")
    await it.start()
    try:
        await it.begin()
        await it.send(batch(prefix, b"good"))
        await it.send(batch(f"{prefix}-small", b"x" * 2_000))
        with pytest.raises(TransactionFailed):
            await it.commit()
        assert it.poisoned
        with pytest.raises(TransactionFailed):
            await it.begin()
    finally:
        await it.close()
    successor = producer(kafka, f"{prefix}.b")
    await successor.start()
    await successor.close()
    assert await committed(kafka, prefix) == []


async def test_a_second_producer_fences_the_first(kafka: EmbeddedKafka, prefix: str) -> None:
    await make_topic(kafka, prefix)
    first, second = producer(kafka, f"{prefix}.c"), producer(kafka, f"{prefix}.c")
    await first.start()
    await first.begin()
    await first.send(batch(prefix, b"old"))
    await first.flush()
    await second.start()
    try:
        with pytest.raises(Fenced):
            await first.commit()
        await second.begin()
        await second.send(batch(prefix, b"new"))
        await second.commit()
    finally:
        await first.close()
        await second.close()
    assert [record.value for record in await committed(kafka, prefix)] == [b"new"]


async def test_offsets_only_transaction_commits(kafka: EmbeddedKafka, prefix: str) -> None:
    await make_topic(kafka, prefix)
    it = producer(kafka, f"{prefix}.d")
    await it.start()
    try:
        await it.begin()
        await it.offsets({(prefix, 0): 7}, f"{prefix}.group")
        await it.commit()
    finally:
        await it.close()
    reader = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, group_id=f"{prefix}.group")
    await reader.start()
    try:
        assert await reader.committed(TopicPartition(prefix, 0)) == 7
    finally:
        await reader.stop()


async def test_closing_with_an_open_transaction_takes_no_longer_than_its_deadline(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    await make_topic(kafka, prefix)
    it = producer(kafka, f"{prefix}.e")
    await it.start()
    await it.begin()
    await it.send(batch(prefix, b"1"))
    async with asyncio.timeout(6):
        await it.close()


async def test_slow_steps_that_are_each_in_time_do_not_outlive_the_whole_transaction(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    await make_topic(kafka, prefix)
    it = producer(kafka, f"{prefix}.g", transaction_s=1.0)
    await it.start()
    try:
        await it.begin()
        await it.send(batch(prefix, b"1"))
        await it.flush()
        await asyncio.sleep(1.1)
        with pytest.raises(TransactionFailed):
            await it.commit()
        assert it.poisoned
    finally:
        await it.close()
    successor = producer(kafka, f"{prefix}.g", transaction_s=1.0)
    await successor.start()
    try:
        # The bound is of one transaction, not of the producer.
        for value in (b"2", b"3"):
            await successor.begin()
            await successor.send(batch(prefix, value))
            await asyncio.sleep(0.7)
            await successor.commit()
    finally:
        await successor.close()
    assert [record.value for record in await committed(kafka, prefix)] == [b"2", b"3"]


async def test_nothing_is_asked_of_kafka_once_the_transaction_is_over_its_time(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    await make_topic(kafka, prefix)
    it = producer(kafka, f"{prefix}.h", transaction_s=0.5)
    await it.start()
    try:
        await it.begin()
        await asyncio.sleep(0.6)
        with pytest.raises(TransactionFailed):
            await it.send(batch(prefix, b"1"))
    finally:
        await it.close()


def test_a_transaction_must_be_given_up_before_kafka_does_it() -> None:
    with pytest.raises(ValueError, match="transaction_s"):
        Deadlines(transaction_s=15.0, transaction_timeout_ms=15_000)


def test_what_lies_below_is_known_for_this_aiokafka() -> None:
    # A new aiokafka may have other parts inside: look at each use before raising the version.
    assert importlib.metadata.version("aiokafka") == AIOKAFKA_VERSION


async def test_columns_arrive_as_one_record_batch_in_order(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    await make_topic(kafka, prefix)
    count = 3_000  # offsets within the batch take one, two and three bytes
    keys = [b"k%d" % n if n % 5 else None for n in range(count)]
    values = [b"v" * (n % 300) if n % 7 else None for n in range(count)]
    headers = [(("h", b"%d" % n),) if n % 3 else () for n in range(count)]
    whole = ColumnBatch(prefix, 0, keys, values, (("first", b"1"),), headers)
    plain = ColumnBatch(prefix, 0, [b"k"] * 70, [b"v"] * 70, (("first", b"2"),))
    it = producer(kafka, f"{prefix}.f")
    await it.start()
    try:
        await it.begin()
        sent = [await it.send(batch) for batch in (whole, plain)]
        await it.commit()
        assert [(await each).offset for each in sent] == [0, count]
    finally:
        await it.close()
    found = await asyncio.to_thread(read_by_librdkafka, kafka, prefix, count + 70)
    expected = list(zip(keys, values, headers, strict=True))
    expected[0] = (keys[0], values[0], (("first", b"1"), *headers[0]))
    expected += [(b"k", b"v", (("first", b"2"),)), *[(b"k", b"v", ())] * 69]
    assert found == expected
    log = next(kafka.data_dir.glob(f"**/{prefix}-0/*0.log")).read_bytes()
    # The last is Kafka's own: the mark of the commit.
    assert [size for size, _ in batches_in(log)] == [count, 70, 1]


def read_by_librdkafka(kafka: EmbeddedKafka, topic: str, count: int) -> list[tuple[Any, ...]]:
    reader = Consumer(
        {"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic, "check.crcs": True}
    )
    try:
        reader.assign([rdkafka.TopicPartition(topic, 0, 0)])
        found = reader.consume(count, timeout=20)
        assert [each.error() for each in found] == [None] * len(found)
        return [(each.key(), each.value(), tuple(each.headers() or ())) for each in found]
    finally:
        reader.close()


def batches_in(log: bytes) -> list[tuple[int, int]]:
    """Records and attributes of each record batch in a log segment (KIP-98)."""
    found, at = [], 0
    while at < len(log):
        length, attributes, records = struct.unpack_from(">8xi9xh34xi", log, at)[:3]
        if not length:
            break  # the file is longer than what was written
        found.append((records, attributes))
        at += 12 + length
    return found


async def test_records_and_offsets_do_not_disturb_each_other_on_their_way(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    # A node asks about one write of a transactional id at a time: two at once cost 100 ms of retry
    # in one transaction of ten.
    await make_topic(kafka, prefix)
    # A new topic has no leader yet, a new group no coordinator: who writes first asks again.
    first = producer(kafka, f"{prefix}.first")
    await first.start()
    try:
        await first.begin()
        await first.send(batch(prefix, b"0"))
        await first.offsets({(prefix, 1): 0}, f"{prefix}.group")
        await first.flush()
        await first.commit()
    finally:
        await first.close()
    it = producer(kafka, f"{prefix}.i")
    await it.start()
    try:
        for at in range(150):
            await it.begin()
            offsets = asyncio.create_task(it.offsets({(prefix, 1): at}, f"{prefix}.group"))
            await it.send(batch(prefix, b"1"))
            await it.flush()
            await offsets
            await it.commit()
    finally:
        await it.close()
    assert it.repeats == 0
