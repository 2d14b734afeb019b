"""Broker processes that were frozen for long and wake up as if nothing had happened."""

from __future__ import annotations

import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Producer

from faults.checker import Report, check, read, snapshot
from faults.fault_bus import Bus, Flow, until
from faults.processes import BrokerProcess
from shutong_core.audit.header import parse_header
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
#: Longer than the transaction timeout (15 s) and the session timeout (6 s).
FROZEN_S = 18.0
LANES = 4


def _held(broker: BrokerProcess) -> set[int]:
    """Lanes that the process serves by its own word."""
    state: dict[int, str] = {}
    for each in broker.events("lane status"):
        state[each["lane"]] = each["state"]
    return {lane for lane, status in state.items() if status == "serving"}


def _tenures_begin_with_a_take(bus: Bus, *brokers: BrokerProcess) -> None:
    """Where the writer of a lane's blocks changes, the new one had taken the lane just there."""
    taken: dict[int, set[int]] = defaultdict(set)
    for broker in brokers:
        for each in broker.events("lane taken"):
            taken[each["lane"]].add(each["sequence"])
    log = read(bus, bus.topics.audit)
    for (_, lane), blocks in log.items():
        writer = None
        for block in blocks:
            header = parse_header(block.key or b"")
            if header.instance != writer:
                assert header.sequence - 1 in taken[lane], (lane, header.sequence, taken[lane])
            writer = header.instance


def _lanes_taken_unasked(broker: BrokerProcess, woken: str) -> set[int]:
    """Lanes that the process took after `woken` (a time) before it was in the group again."""
    joined = [
        each["ts"]
        for each in broker.entries()
        if each["event"].startswith("Successfully synced group") and each["ts"] > woken
    ]
    first = min(joined, default="9")
    return {each["lane"] for each in broker.events("lane taken") if woken < each["ts"] < first}


def _frozen_beside_another(bus: Bus, *, busy: bool) -> tuple[Report, set[int]]:
    """Freeze one of two brokers for long; the report, and the lanes that a fence ended."""
    bus.publish_list()
    flow = Flow(bus, per_second=100)
    with BrokerProcess(bus) as first, BrokerProcess(bus) as second:
        until(lambda: len(_held(first)) == len(_held(second)) == LANES / 2, 40, "two lanes each")
        flow.write(200)
        bus.wait_drained()
        if busy:
            flow.__enter__()
            time.sleep(1)
        held = _held(first)
        first.signal(signal.SIGSTOP)
        frozen = time.monotonic()
        until(lambda: held <= _held(second), 25, "the other broker takes the lanes")
        if not busy:
            flow.write(200)
        time.sleep(max(0.0, FROZEN_S - (time.monotonic() - frozen)))
        before = snapshot(bus)
        woken = max(each["ts"] for each in second.entries())
        first.signal(signal.SIGCONT)
        # Every old tenure ends: by a fence, by a lost transaction, or because the group said so.
        until(
            lambda: held <= {each["lane"] for each in first.endings() if each["ts"] > woken},
            25,
            f"{held} let go: {first.tail()}",
        )
        until(
            lambda: (
                _held(first) | _held(second) == set(range(LANES))
                and len(_held(first)) == len(_held(second)) == LANES / 2
            ),
            30,
            f"every lane with one broker: {_held(first)} {_held(second)}",
        )
        if busy:
            time.sleep(1)
            flow.__exit__()
        else:
            flow.write(100)
        bus.wait_drained()
        assert not _lanes_taken_unasked(first, woken)
        first.stop()
        second.stop()
        fenced = {each["lane"] for each in first.failures("Fenced")}
    _tenures_begin_with_a_take(bus, first, second)
    return check(bus, flow.acknowledged, snapshots=[before]), fenced


def _frozen_alone(bus: Bus) -> tuple[Report, set[int]]:
    bus.publish_list()
    with BrokerProcess(bus) as broker, Flow(bus) as flow:
        broker.wait_serving(bus.lanes)
        time.sleep(1)
        broker.signal(signal.SIGSTOP)
        time.sleep(FROZEN_S)
        before = snapshot(bus)
        broker.signal(signal.SIGCONT)
        time.sleep(2)
        flow.__exit__()
        bus.wait_drained()
        broker.stop()
        fenced = {each["lane"] for each in broker.failures("Fenced")}
    _tenures_begin_with_a_take(bus, broker)
    return check(bus, flow.acknowledged, snapshots=[before]), fenced


Outcome = Future[tuple[Report, set[int]]]
CASES: dict[str, Callable[[Bus], tuple[Report, set[int]]]] = {
    "busy": lambda bus: _frozen_beside_another(bus, busy=True),
    "idle": lambda bus: _frozen_beside_another(bus, busy=False),
    "alone": _frozen_alone,
}


@pytest.fixture(scope="module")
def outcomes(
    fault_kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Outcome]]:
    """All cases side by side: most of their time is waiting."""
    directory = Path(tmp_path_factory.mktemp("zombie"))
    with ThreadPoolExecutor(len(CASES)) as pool:
        yield {
            name: pool.submit(run, Bus(fault_kafka.bootstrap_servers, directory / name, LANES))
            for name, run in CASES.items()
        }


@pytest.mark.parametrize("case", CASES)
def test_a_broker_frozen_for_long_is_out_of_its_lanes_and_doubles_nothing(
    outcomes: dict[str, Outcome], sightings: Counter[str], case: str
) -> None:
    report, fenced = outcomes[case].result(150)
    report.require()
    assert report.inbound > 200
    sightings["fenced"] += len(fenced)


def test_a_lane_whose_transactional_id_another_takes_is_fenced_and_asks_before_it_goes_on(
    new_bus: Callable[..., Bus], sightings: Counter[str]
) -> None:
    bus = new_bus("taken", lanes=1)
    with BrokerProcess(bus) as broker, Flow(bus) as flow:
        broker.wait_serving()
        until(lambda: broker.transactions("committed") > 2, 15, "commits")
        for round_number in (1, 2, 3):
            intruder = Producer(
                {
                    "bootstrap.servers": bus.bootstrap,
                    "transactional.id": bus.topics.transactional_id(0),
                }
            )
            intruder.init_transactions(20)
            until(
                lambda: len(broker.failures("Fenced")) >= round_number,  # noqa: B023
                20,
                f"fenced: {broker.tail()}",
            )
            until(
                lambda: len(broker.events("lane taken")) > round_number,  # noqa: B023
                20,
                "the lane taken again, as the group still assigns it",
            )
        assert broker.transactions("fenced") == 3
        sightings["fenced"] += 3
        flow.__exit__()
        bus.wait_drained()
        broker.stop()
    check(bus, flow.acknowledged).require()
    _tenures_begin_with_a_take(bus, broker)
