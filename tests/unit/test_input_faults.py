"""A fault of one input stops that input alone; a fault of the fetching is never silent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import OffsetOutOfRangeError, TopicAuthorizationFailedError

from shutong_broker import fetching
from shutong_broker.fetchwire import Fetched, FetchLine
from shutong_broker.input import Input
from shutong_broker.source import InboundSource
from shutong_core.domain.errors import Retryable
from shutong_core.wire.topics import Topics

AUTHORIZATION, OUT_OF_RANGE, STORAGE = 29, 1, 56


def source_of(*datasets: str) -> InboundSource:
    source = InboundSource({}, Topics("p"), "group", 0)
    source._inputs = {name: Input(name, f"p.inbound.{name}", 0, 0) for name in datasets}
    source._fetching._inputs = {each.topic: each for each in source._inputs.values()}
    return source


def told(source: InboundSource, dataset: str, code: int) -> None:
    """Kafka answers a fetch of this input with a fault."""
    topic = f"p.inbound.{dataset}"
    source._fetching._take(Fetched(topic, 0, code, (), b""), {topic: 0})


@pytest.mark.parametrize(
    ("code", "error"),
    [(AUTHORIZATION, TopicAuthorizationFailedError), (OUT_OF_RANGE, OffsetOutOfRangeError)],
)
async def test_a_fault_of_one_input_parks_it_alone(code: int, error: type[Exception]) -> None:
    source = source_of("births", "deaths")
    told(source, "births", code)
    assert await source.poll(1, 10) == ()
    assert source.parked == {"births"}
    # What an operator can allow again is told apart from what is gone for good.
    assert source.denied == ({"births"} if error is TopicAuthorizationFailedError else set())
    source.unpark("births")
    assert not source.parked | source.denied


async def test_a_partition_that_only_answers_with_faults_is_told_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(fetching, "_now", lambda: clock[0])
    source = source_of("births", "deaths")
    for second in range(0, 50, 10):
        clock[0] = float(second)
        told(source, "births", STORAGE)
        told(source, "deaths", STORAGE)
    told(source, "deaths", 0)  # well again
    clock[0] = 61.0
    told(source, "births", STORAGE)
    told(source, "deaths", STORAGE)
    assert await source.poll(1, 10) == ()
    assert source.parked == source.denied == {"births"}


async def test_a_topic_that_is_gone_is_told_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(fetching, "_now", lambda: clock[0])
    source = source_of("births", "deaths")
    leaders = {"p.inbound.deaths": 1}
    source._client.cluster = SimpleNamespace(leader_for_partition=lambda tp: leaders.get(tp.topic))
    monkeypatch.setattr(source._fetching, "_start", lambda _: [])
    for second in range(0, 70, 5):
        clock[0] = float(second)
        source._fetching._look_up_leaders()
    assert await source.poll(1, 10) == ()
    assert source.parked == source.denied == {"births"}


async def test_a_node_that_does_not_answer_holds_up_the_others_little_longer_than_a_fetch() -> None:
    fetch_s = fetching.COLD.wait_ms / 1000 + fetching.PATIENCE_S
    timeout_s = source_of()._client._request_timeout_ms / 1000
    assert fetch_s < timeout_s <= 15


async def test_fetching_that_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> list[Fetched]:
        raise ValueError("nobody foresaw this")

    monkeypatch.setattr(FetchLine, "fetch", broken)
    source = source_of("births")
    source._client.cluster = SimpleNamespace(leader_for_partition=lambda _: 1)
    source.read_from({"births": 0})
    try:
        async with asyncio.timeout(5):
            while all(not task.done() for task in source._fetching._tasks()):
                await asyncio.sleep(0)
        with pytest.raises(Retryable, match="ValueError"):
            await source.poll(10, 10)
    finally:
        await source.close()
