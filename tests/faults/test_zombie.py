"""Broker processes that were frozen for long and wake up as if nothing had happened."""

from __future__ import annotations

import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest

from faults.checker import check, read, snapshot
from faults.fault_bus import BrokerProcess, Bus, Flow, until
from shutong_core.audit.header import parse_header

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
#: Longer than the transaction timeout (15 s) and the session timeout (6 s).
FROZEN_S = 19.0


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


def _freeze(broker: BrokerProcess) -> set[int]:
    held = _held(broker)
    broker.signal(signal.SIGSTOP)
    return held


def _fenced_lanes(broker: BrokerProcess) -> set[int]:
    return {each["lane"] for each in broker.failures("Fenced")}


def test_a_frozen_broker_is_fenced_from_every_lane_it_held(
    new_bus: Callable[..., Bus], sightings: Counter[str]
) -> None:
    bus = new_bus("shared", lanes=4)
    with BrokerProcess(bus) as first, BrokerProcess(bus) as second, Flow(bus, 120) as flow:
        until(
            lambda: len(_held(first)) == len(_held(second)) == 2,
            30,
            "two lanes each",
        )
        time.sleep(1)
        held = _freeze(first)
        assert len(held) == 2
        until(lambda: held <= _held(second), 20, "the other broker takes the lanes")
        time.sleep(FROZEN_S - 8)
        before = snapshot(bus)
        first.signal(signal.SIGCONT)
        until(lambda: held <= _fenced_lanes(first), 20, f"{held} fenced, {first.tail()}")
        assert first.transactions("fenced") >= len(held)
        sightings["fenced"] += len(_fenced_lanes(first))
        # It comes back into the group and shares the lanes again.
        until(
            lambda: _held(first) | _held(second) == {0, 1, 2, 3}
            and not _held(first) & _held(second),
            30,
            f"every lane with one broker: {_held(first)} {_held(second)}",
        )
        time.sleep(1)
        flow.__exit__()
        bus.wait_drained()
        first.stop()
        second.stop()
    check(bus, flow.acknowledged, snapshots=[before]).require()
    _tenures_begin_with_a_take(bus, first, second)


def test_a_broker_frozen_alone_takes_its_lanes_again(new_bus: Callable[..., Bus]) -> None:
    bus = new_bus("alone")
    with BrokerProcess(bus) as broker, Flow(bus) as flow:
        broker.wait_serving(bus.lanes)
        time.sleep(1)
        _freeze(broker)
        time.sleep(FROZEN_S)
        before = snapshot(bus)
        broker.signal(signal.SIGCONT)
        flow.__exit__()
        bus.wait_drained()
        broker.stop()
    check(bus, flow.acknowledged, snapshots=[before]).require()
    _tenures_begin_with_a_take(bus, broker)
