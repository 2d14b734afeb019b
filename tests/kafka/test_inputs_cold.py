"""Inputs that go cold and come back: nothing lost, doubled or reordered, and noticed at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from kafka.inputs_world import InputsWorld, read, values
from shutong_broker.fetchwire import Bounds
from shutong_broker.source import InboundSource
from shutong_core.runtime.kafka_jars import Toolchain
from shutong_core.runtime.kafka_launch import QUICK
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = pytest.mark.kafka
MIB = 1024 * 1024


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs go cold after a moment, and the patient fetch ends often."""
    monkeypatch.setattr("shutong_broker.fetching.IDLE_S", 0.2)
    monkeypatch.setattr("shutong_broker.fetching.HOT", Bounds(100, 4 * MIB, 2 * MIB))
    monkeypatch.setattr("shutong_broker.fetching.COLD", Bounds(300, 2 * MIB, 2 * MIB))


async def until_cold(source: InboundSource, *datasets: str) -> None:
    """Poll (nothing comes) until only the patient fetch carries these inputs."""
    inputs = [source._inputs[dataset] for dataset in datasets]
    async with asyncio.timeout(20):
        while not all(each.carried_cold and not each.carried_hot for each in inputs):
            assert await source.poll(20, 500) == ()


async def test_moving_between_cold_and_hot_loses_doubles_and_reorders_nothing(
    kafka: EmbeddedKafka, prefix: str, hasty: None
) -> None:
    world, chance = InputsWorld(kafka.bootstrap_servers, prefix), random.Random(3)
    datasets = [f"d{n}" for n in range(8)]
    await world.create(*datasets)
    sent: dict[str, list[str]] = defaultdict(list)
    moves = 0

    async def write_at_random() -> None:
        async with world.writer(linger_ms=1) as producer:
            for round_ in range(60):
                for dataset in chance.sample(datasets, chance.randrange(1, 4)):
                    new = [f"{round_}/{n}" for n in range(chance.choice([1, 1, 2, 40]))]
                    await world.write(producer, dataset, *new)
                    sent[dataset] += new
                await asyncio.sleep(chance.choice([0, 0.005, 0.05, 0.1, 0.35]))

    async with world.source(**dict.fromkeys(datasets, 0)) as source:
        writing = asyncio.create_task(write_at_random())
        got: dict[str, list[str]] = defaultdict(list)
        hot: set[str] = set()
        async with asyncio.timeout(60):
            while not writing.done() or sum(map(len, got.values())) < sum(map(len, sent.values())):
                for each in await source.poll(50, chance.choice([3, 500])):
                    got[each.dataset] += values(each.records)
                    if chance.random() < 0.2:
                        source.reread(each.dataset, each.records[-1].offset)
                        got[each.dataset].pop()
                now = {each.dataset for each in source._inputs.values() if each.is_hot}
                moves += len(now ^ hot)
                hot = now
        await writing
        assert await source.poll(600, 500) == ()
    assert got == sent
    assert moves > 50


async def test_a_record_on_a_cold_input_is_noticed_at_once(
    kafka: EmbeddedKafka, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutong_broker.fetching.IDLE_S", 0.1)
    world = InputsWorld(kafka.bootstrap_servers, prefix)
    datasets = [f"d{n}" for n in range(10)]
    await world.create(*datasets)
    late = []
    async with world.writer() as producer, world.source(**dict.fromkeys(datasets, 0)) as source:
        await until_cold(source, *datasets)
        for dataset in datasets:
            writing = asyncio.create_task(world.write(producer, dataset, "1"))
            began = time.monotonic()
            await read(source, 1)
            late.append(time.monotonic() - began)
            await writing
    assert sorted(late)[5] < 0.1  # one machine runs Kafka, the writer and the reader


async def test_a_cold_input_parks_and_comes_back_where_it_stood(
    kafka: EmbeddedKafka, prefix: str, hasty: None
) -> None:
    world = InputsWorld(kafka.bootstrap_servers, prefix)
    await world.create("births", "deaths")
    async with world.writer() as producer, world.source(births=0, deaths=0) as source:
        await world.write(producer, "births", "1")
        await read(source, 1)
        await until_cold(source, "births", "deaths")
        source.park("births")
        await world.write(producer, "births", "2", "3")
        await world.write(producer, "deaths", "x")
        found = await read(source, 1)
        assert values(found["deaths"]) == ["x"]
        assert await source.poll(400, 500) == ()
        source.unpark("births")
        assert source.datasets == {"deaths"}
        source.read_from({"births": 1, "deaths": 1})
        assert values((await read(source, 2))["births"]) == ["2", "3"]


async def test_the_list_changes_while_inputs_are_cold(
    kafka: EmbeddedKafka, prefix: str, hasty: None
) -> None:
    world = InputsWorld(kafka.bootstrap_servers, prefix)
    await world.create("births", "deaths", "moves")
    async with world.writer() as producer, world.source(births=0, deaths=0) as source:
        await world.write(producer, "births", "1")
        await world.write(producer, "moves", "a", "b")
        await read(source, 1)
        await until_cold(source, "births", "deaths")
        source.read_from({"births": 1, "moves": 1})
        await world.write(producer, "deaths", "not read any more")
        await world.write(producer, "births", "2")
        found = await read(source, 2)
        assert {name: values(records) for name, records in found.items()} == {
            "births": ["2"],
            "moves": ["b"],
        }
        await until_cold(source, "births", "moves")
        source.read_from({"births": 2, "deaths": 0, "moves": 2})
        assert values((await read(source, 1))["deaths"]) == ["not read any more"]


async def test_kafka_starts_again_while_inputs_are_cold(
    tmp_path: Path, kafka_tools: Toolchain, hasty: None
) -> None:
    kafka = EmbeddedKafka(tmp_path / "kafka", kafka_tools, profile=QUICK)
    try:
        await aside(kafka.start)
        world = InputsWorld(kafka.bootstrap_servers, "again")
        await world.create("births", "deaths")
        async with world.writer() as producer, world.source(births=0, deaths=0) as source:
            await world.write(producer, "births", "1")
            await read(source, 1)
            await until_cold(source, "births", "deaths")
            for stop in (kafka.kill9, kafka.stop):
                await aside(stop)
                assert await source.poll(300, 500) == ()
                await aside(kafka.start)
                async with asyncio.timeout(30):
                    await world.write(producer, "births", "2")
                    await world.write(producer, "deaths", "x")
                found = await read(source, 2, seconds=30)
                assert values(found["births"]) == ["2"]
                assert values(found["deaths"]) == ["x"]
                await until_cold(source, "births", "deaths")
    finally:
        await aside(kafka.stop)


async def aside(work: Callable[[], object]) -> None:
    """Run what blocks without holding up the clients."""
    await asyncio.get_running_loop().run_in_executor(None, work)
