"""What a lane reads of its inputs on a real Kafka: exactly the committed records, in order."""

from __future__ import annotations

import asyncio
import random
from importlib.metadata import version

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.record.util import calc_crc32c

from kafka.inputs_world import LANE, InputsWorld, read, values
from shutong_broker.source import InboundSource
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = pytest.mark.kafka


def test_the_version_of_aiokafka_whose_private_parts_are_used() -> None:
    assert version("aiokafka").startswith("0.14.")


@pytest.fixture
async def world(kafka: EmbeddedKafka, prefix: str) -> InputsWorld:
    return InputsWorld(kafka.bootstrap_servers, prefix)


async def test_records_are_those_a_consumer_reads_from_every_offset(world: InputsWorld) -> None:
    await world.create("births")
    topic = world.topics.inbound("births")
    for codec in (None, "gzip"):
        async with world.writer(compression_type=codec, linger_ms=50) as producer:
            for n in range(40):
                await producer.send(
                    topic,
                    None if n == 7 else b"v" * n,
                    None if n == 8 else b"k%d" % n,
                    LANE,
                    timestamp_ms=1_000,  # Kafka's own time counts
                    headers=[("ce_id", b"%d" % n), ("空", b"")] if n % 3 else [],
                )
            await producer.flush()
    expected = await world.as_consumed("births", 0)
    assert len(expected) == 80
    assert expected[0].timestamp_ms > 1_000
    for start in (0, 1, 17, 39, 40, 41, 79):  # mostly in the middle of a batch
        async with world.source(births=start) as source:
            for records_max in (500, 7):
                source.read_from({})
                source.read_from({"births": start})
                found = await read(source, 80 - start, records_max)
                assert found["births"] == expected[start:]


async def test_aborted_records_and_markers_are_not_there_from_whatever_offset(
    world: InputsWorld,
) -> None:
    await world.create("births")
    topic, chance = world.topics.inbound("births"), random.Random(5)
    async with (
        world.writer(transactional_id=f"{topic}.a", linger_ms=2) as one,
        world.writer(transactional_id=f"{topic}.b", linger_ms=2) as two,
        world.writer(linger_ms=2) as plain,
    ):
        count = 0
        for _ in range(12):
            await one.begin_transaction()
            await two.begin_transaction()
            for _ in range(chance.randrange(2, 9)):
                for producer in (one, two, plain):
                    for _ in range(chance.randrange(3)):
                        await producer.send(topic, b"%d" % count, b"k", LANE)
                        count += 1
                    await producer.flush()
            for producer in chance.sample([one, two], 2):
                if chance.random() < 0.5:
                    await producer.abort_transaction()
                else:
                    await producer.commit_transaction()
    expected = await world.as_consumed("births", 0)
    end = expected[-1].offset
    assert len(expected) < count < end  # some were aborted, and markers take offsets
    for start in [0, *chance.sample(range(end), 12)]:
        later = [record for record in expected if record.offset >= start]
        async with world.source(births=start) as source:
            found = await read(source, len(later), chance.choice([1, 5, 500]))
            assert found["births"] == later
            assert await source.poll(50, 500) == ()


async def test_an_open_transaction_holds_its_records_back(world: InputsWorld) -> None:
    await world.create("births")
    async with world.writer(transactional_id=world.topics.prefix) as producer:
        await producer.begin_transaction()
        await world.write(producer, "births", "1", "2")
        async with world.source(births=0) as source:
            assert await source.poll(300, 500) == ()
            await producer.commit_transaction()
            assert values((await read(source, 2))["births"]) == ["1", "2"]


async def test_inputs_take_turns_under_the_cap(world: InputsWorld) -> None:
    await world.create("births", "deaths", "moves")
    async with world.writer() as producer:
        for dataset in ("births", "deaths", "moves"):
            await world.write(producer, dataset, *map(str, range(50)))
    found: dict[str, list[str]] = {"births": [], "deaths": [], "moves": []}
    async with world.source(births=0, deaths=0, moves=0) as source:
        turns = []
        while sum(map(len, found.values())) < 150:
            polled = await source.poll(500, 10)
            assert sum(len(each.records) for each in polled) <= 10
            for each in polled:
                found[each.dataset] += values(each.records)
                turns.append(each.dataset)
    assert all(got == [*map(str, range(50))] for got in found.values())
    assert max(turns[:9].count(each) for each in found) <= 5  # nobody waits for another's end


async def test_what_was_polled_and_not_taken_comes_again_once(world: InputsWorld) -> None:
    await world.create("births", "deaths")
    async with world.writer() as producer, world.source(births=0, deaths=0) as source:
        await world.write(producer, "births", *map(str, range(20)))
        await world.write(producer, "deaths", "x")
        await read(source, 21)
        source.read_from({"births": 3, "deaths": 0})
        assert values((await read(source, 18))["births"]) == [*map(str, range(3, 20))]

        source.reread("births", 10)
        assert values((await read(source, 10))["births"]) == [*map(str, range(10, 20))]

        await world.write(producer, "births", "20", "21", "22", "23")
        (first,) = await source.poll(2_000, 2)
        source.give_back({}, (first,))
        (again,) = await source.poll(2_000, 3)
        source.reread("births", 21)
        rest = await read(source, 3)
        assert values(first.records) == ["20", "21"]
        assert values(again.records)[:2] == ["20", "21"]
        assert values(rest["births"]) == ["21", "22", "23"]


async def test_a_position_no_longer_kept_parks_only_its_dataset(world: InputsWorld) -> None:
    await world.create("births", "deaths")
    async with world.writer() as producer, world.source(births=0, deaths=7_000) as source:
        await world.write(producer, "births", "1")
        found = await read(source, 1)
        assert values(found["births"]) == ["1"]
        await until_parked(source)
        assert source.parked == {"deaths"}


async def test_an_unreadable_batch_parks_its_dataset_after_what_came_before(
    world: InputsWorld,
) -> None:
    await world.create("births", "deaths")
    async with world.writer() as producer, world.source() as source:
        await world.write(producer, "births", "1", "2")
        await write_unreadable(producer, world.topics.inbound("births"))
        await world.write(producer, "births", "3")
        await world.write(producer, "deaths", "x")
        source.read_from({"births": 0, "deaths": 0})
        found = await read(source, 3)
        await until_parked(source)
        assert source.parked == {"births"}
        assert values(found["births"]) == ["1", "2"]
        await world.write(producer, "deaths", "y")
        assert values((await read(source, 1))["deaths"]) == ["y"]


async def until_parked(source: InboundSource) -> None:
    async with asyncio.timeout(10):
        while not source.parked:
            assert await source.poll(50, 500) == ()


async def write_unreadable(producer: AIOKafkaProducer, topic: str) -> None:
    """A header name that is not UTF-8: Kafka takes it."""
    builder = producer.create_batch()
    builder.append(timestamp=None, key=b"k", value=b"v", headers=[("AAAA", b"x")])
    builder.close()
    batch = bytearray(builder._build())
    at = batch.index(b"AAAA")
    batch[at : at + 4] = b"\xff\xfe\xff\xfe"
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    builder._buffer = bytes(batch)
    await (await producer.send_batch(builder, topic, partition=LANE))


async def test_positions_of_many_datasets_come_at_once(world: InputsWorld) -> None:
    datasets = [f"d{n}" for n in range(30)]
    await world.create(*datasets)
    group = world.topics.lanes_group
    async with world.writer(transactional_id=f"{world.topics.prefix}.t") as producer:
        await producer.begin_transaction()
        offsets = {TopicPartition(world.topics.inbound("d3"), LANE): 1}
        await producer.send_offsets_to_transaction(offsets, group)
        await producer.commit_transaction()
    async with world.source() as source:
        committed = await source.committed_all(datasets)
        assert committed == dict.fromkeys(datasets) | {"d3": 1}
        assert await source.committed_all(["d3"]) == {"d3": 1}
        begun = await source.beginnings([*datasets, "not-there"])
        assert begun == dict.fromkeys(datasets, 0)
