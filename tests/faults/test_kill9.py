"""kill -9 of the broker at every step of a transaction and at random times.

The buses run side by side: a dead member's session takes seconds to end, and that is waiting.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest

from faults.checker import Log, Report, aborted, check, snapshot
from faults.fault_bus import Bus, Flow
from faults.processes import BrokerProcess
from shutong_broker.failpoint import Step
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
STEPS: tuple[Step, ...] = get_args(Step)
#: How often the step is reached before the kill, round by round.
ROUNDS = (2, 7, 19)
RANDOM_BUSES, RANDOM_KILLS = 4, 5
BUSES_AT_ONCE = 6


def _settle(bus: Bus, flow: Flow, snapshots: list[Log]) -> tuple[Report, int]:
    """Let a broker without a fault finish, stop it, check."""
    with BrokerProcess(bus) as broker:
        broker.wait_serving(bus.lanes)
        bus.wait_drained()
        broker.stop()
    return check(bus, flow.acknowledged, snapshots=snapshots), aborted(bus)


def _killed_at(bus: Bus, step: Step) -> tuple[Report, int]:
    bus.publish_list()
    snapshots = []
    with Flow(bus, seed=STEPS.index(step)) as flow:
        for nth in ROUNDS:
            with BrokerProcess(bus, failpoint=f"{step}:{nth}") as broker:
                broker.wait_killed()
            snapshots.append(snapshot(bus))
    return _settle(bus, flow, snapshots)


def _killed_at_random(bus: Bus, seed: int) -> tuple[Report, int]:
    bus.publish_list()
    rng = random.Random(seed)
    snapshots = []
    with Flow(bus, seed=seed) as flow:
        for _ in range(RANDOM_KILLS):
            with BrokerProcess(bus) as broker:
                if rng.random() < 0.8:
                    broker.wait_serving()
                time.sleep(rng.uniform(0, 1.5))
                broker.kill9()
            snapshots.append(snapshot(bus))
    return _settle(bus, flow, snapshots)


Outcome = tuple[Report, int]


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest,
    fault_kafka: EmbeddedKafka,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[Outcome]]]:
    """All runs that tests ask for, started together; each test waits for its own."""
    directory = tmp_path_factory.mktemp("kill9")

    def bus(name: str) -> Bus:
        return Bus(fault_kafka.bootstrap_servers, Path(directory) / name)

    chosen = [item.callspec.params for item in request.session.items if item.path == request.path]
    with ThreadPoolExecutor(BUSES_AT_ONCE) as pool:
        started: dict[str, Future[Outcome]] = {}
        for params in chosen:
            if "step" in params:
                step = params["step"]
                started[step] = pool.submit(_killed_at, bus(step), step)
            else:
                name = f"random-{params['seed']}"
                started[name] = pool.submit(_killed_at_random, bus(name), params["seed"])
        yield started


@pytest.mark.parametrize("step", STEPS)
def test_a_broker_killed_at_a_step_loses_and_doubles_nothing(
    outcomes: dict[str, Future[Outcome]], step: str, sightings: Counter[str]
) -> None:
    report, aborted_records = outcomes[step].result(300)
    report.require()
    assert report.inbound > 100
    assert report.placed > 100
    assert report.refused > 10
    # Before `after-flush` batches are handed to the client, which may not have sent them yet.
    if step in ("after-flush", "after-offsets"):
        assert aborted_records > 0, "the kill came too early: nothing was under way"
    sightings["aborted"] += aborted_records


@pytest.mark.parametrize("seed", range(RANDOM_BUSES))
def test_a_broker_killed_at_random_times_loses_and_doubles_nothing(
    outcomes: dict[str, Future[Outcome]], seed: int
) -> None:
    report, _ = outcomes[f"random-{seed}"].result(300)
    report.require()
    assert report.inbound > 100
