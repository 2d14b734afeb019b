"""kill -9 of the producer service: what it acknowledged is in, what is sent again counts once."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError

import pytest

from faults import visits
from faults.checker import check
from faults.fault_bus import Bus
from faults.processes import BrokerProcess, ProducerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
PATH = f"/v1/datasets/{visits.DATASET}/records?mode=per-record"
#: Failpoint, or seconds until a kill; and records in each request.
KILLS: tuple[tuple[str | float, int], ...] = (
    ("before-ack:1", 40),
    ("after-ack:1", 40),
    ("between-batches:1", 1300),
    ("before-ack:4", 40),
    ("after-ack:4", 40),
    (0.05, 1300),
    (0.15, 400),
    (0.3, 40),
)


class Publisher:
    """A department's client: sends each batch until it is acknowledged, always by the same ids."""

    def __init__(self, bus: Bus) -> None:
        self._random = random.Random(5)
        self._number = 0
        self.key = bus.keyring.issue_api_key("visits-system")
        self.acknowledged: list[str] = []
        self._waiting: list[dict[str, Any]] = []

    def send(self, service: ProducerProcess, count: int) -> None:
        """Send `count` new records, or those of before. Raises OSError without an answer."""
        if not self._waiting:
            self._waiting = [self._next() for _ in range(count)]
        lines = [json.dumps({"id": each["serial"], "data": each}) for each in self._waiting]
        answer = self._answer(service, "\n".join(lines).encode())
        assert answer["accepted"] == len(self._waiting), answer
        self.acknowledged += [each["serial"] for each in self._waiting]
        self._waiting = []

    def _answer(self, service: ProducerProcess, body: bytes) -> dict[str, Any]:
        """As a client should: told to come later, it comes later; no answer is an OSError."""
        for _ in range(100):
            try:
                return service.ask(PATH, self.key, body)
            except HTTPError as error:
                if error.code not in (429, 503):
                    raise AssertionError(error.read()[:500]) from error
                time.sleep(0.2)
        raise AssertionError("told to come later for ever")

    def send_on(self, service: ProducerProcess, count: int) -> None:
        """Send batch after batch until there is no answer: OSError."""
        for _ in range(1000):
            self.send(service, count)

    def _next(self) -> dict[str, Any]:
        self._number += 1
        serial = f"H{self._number:06d}"
        return {
            "serial": serial,
            "person": f"P{self._random.randrange(12)}",
            "town_code": self._random.choice([visits.MEIZHOU, visits.GUANGZHOU]),
            "amount": self._random.randrange(1000),
            "remarks": f"{visits.CANARY}-{serial}",
        }


def _sent_until_killed(bus: Bus, publisher: Publisher, kill: str | float, count: int) -> None:
    failpoint = kill if isinstance(kill, str) else None
    with ProducerProcess(bus, failpoint=failpoint) as service:
        service.wait_ready(publisher.key)
        killer = None
        if not isinstance(kill, str):
            killer = threading.Timer(kill, service.kill9)
            killer.start()
        with pytest.raises(OSError):  # noqa: PT011 - connections break in many ways
            publisher.send_on(service, count)
        if killer is not None:
            killer.join()
        service.wait_killed()


def test_a_killed_producer_service_loses_nothing_acknowledged_and_repeats_count_once(
    new_bus: Callable[..., Bus],
) -> None:
    bus = new_bus("intake")
    publisher = Publisher(bus)
    with BrokerProcess(bus, records_max=200) as broker:
        for kill, count in KILLS:
            _sent_until_killed(bus, publisher, kill, count)
        with ProducerProcess(bus) as service:
            service.wait_ready(publisher.key)
            publisher.send(service, 40)
            service.stop()
        bus.wait_drained()
        broker.stop()
    report = check(bus, publisher.acknowledged)
    report.require()
    assert len(publisher.acknowledged) > 1300
    assert report.refused > 0, "nothing was sent twice: the kills met no doubt"
