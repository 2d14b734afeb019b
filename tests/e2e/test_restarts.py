"""Services stop and start under load, the whole bus stops and goes on: nothing lost or doubled."""

from __future__ import annotations

import time
from typing import Any

import pytest

from e2e.kafka_reading import Stored, read_all
from e2e.load import Load
from e2e.samples import aid
from e2e.scene import decoded
from e2e.waiting import until
from e2e.whole_bus import SERVICES, Bus


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_drains_on_sigterm_and_goes_on_without_loss_or_doubles(
    bus: Bus, service: str
) -> None:
    load = Load(bus)
    drain_s = bus.settings.limits.drain_s
    with load.running():
        asked = time.monotonic()
        assert bus.end_service(service, drain_s + 2) == 0
        assert time.monotonic() - asked <= drain_s
        time.sleep(0.3)  # the others meet its absence
        bus.start_service(service)
    load.check()


def test_the_bus_stopped_and_started_on_the_same_data_goes_on(bus: Bus) -> None:
    before = [aid() for _ in range(30)]
    assert bus.publish("city-civil", "aid-decision", list(before)).status == 200
    first_page = bus.pull("city-medical", "aid-city", limit=5).json
    keys, address = dict(bus.keys), bus.bootstrap
    control = _control(bus)
    held = _delivered(bus)

    bus.stop()  # perhaps before all of them were decided
    bus.start()

    assert bus.bootstrap == address
    assert _control(bus) == control, "the same list file made no new list version and no schema"
    assert _delivered(bus)[: len(held)] == held
    bus.keys = keys
    after = [aid() for _ in range(30)]
    assert bus.publish("city-civil", "aid-decision", list(after)).status == 200
    assert bus.publish("city-civil", "aid-decision", list(before)).status == 200
    bus.wait_decided()
    cases = [datum["case_no"] for _, datum in decoded(bus, _delivered(bus))]
    ours = [each["data"]["case_no"] for each in (*before, *after)]
    assert {case: cases.count(case) for case in ours} == dict.fromkeys(ours, 1)
    again = bus.pull("city-medical", "aid-city", limit=1, cursor=first_page["next_cursor"]).json
    assert again["records"][0]["offset"] > first_page["records"][-1]["offset"]
    ids = {each["id"] for each in before}
    told = until(
        lambda: _all(len(ids), [each for each in bus.refusals("city-civil") if each["id"] in ids]),
        5,
        "the publisher is told of its repeats",
    )
    assert [each["reason"] for each in told] == ["DUPLICATE"] * len(before)


def _control(bus: Bus) -> list[Stored]:
    found = read_all(bus.bootstrap, [bus.topics.lists, bus.topics.schemas])
    # librdkafka gives each topic in order, the two of them in any.
    return sorted(found, key=lambda each: (each.topic, each.offset))


def _delivered(bus: Bus) -> list[Stored]:
    return read_all(bus.bootstrap, [bus.topics.delivery("aid-city")])


def _all(count: int, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return found if len(found) >= count else []
