"""Full garbage collections come when there is little to do."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from shutong_broker.collector import IDLE_LOOKS, MIDDLE_MAX, ROWS_DUE, Collector


class Process:
    """A process whose clocks a test sets."""

    def __init__(self) -> None:
        self.now_s = self.worked_s = 0.0
        self.full = 0

    def passes(self, seconds: float, worked: float) -> None:
        self.now_s += seconds
        self.worked_s += worked

    def collected(self, phase: str, info: dict[str, int]) -> None:
        self.full += phase == "start" and info["generation"] == 2


@pytest.fixture
def process() -> Iterator[Process]:
    process, threshold = Process(), gc.get_threshold()
    gc.callbacks.append(process.collected)
    yield process
    gc.callbacks.remove(process.collected)
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.fixture
def collector(process: Process) -> Collector:
    return Collector(lambda: process.worked_s, lambda: process.now_s)


def look(collector: Collector, process: Process, times: int, worked: float) -> None:
    for _ in range(times):
        process.passes(0.5, 0.5 * worked)
        collector.tend()


def test_the_first_list_is_collected_and_frozen_at_once(
    collector: Collector, process: Process
) -> None:
    collector.taken_up(3)
    assert process.full == 1
    assert gc.get_freeze_count() > 0


def test_python_never_starts_a_full_collection_by_itself(
    collector: Collector, process: Process
) -> None:
    collector.taken_up(3)
    kept = [[index] for index in range(200_000)]
    assert process.full == 1
    assert len(kept) == 200_000


def test_while_lanes_work_a_large_list_is_not_gone_through(
    collector: Collector, process: Process
) -> None:
    collector.taken_up(3)
    collector.taken_up(ROWS_DUE)
    look(collector, process, 100, worked=0.9)
    assert process.full == 1
    look(collector, process, IDLE_LOOKS, worked=0.01)
    assert process.full == 2
    look(collector, process, IDLE_LOOKS, worked=0.01)
    assert process.full == 2


def test_much_that_is_new_is_collected_also_while_lanes_work(
    collector: Collector, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.taken_up(3)
    look(collector, process, 1, worked=0.9)
    assert process.full == 1
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, MIDDLE_MAX))
    look(collector, process, 1, worked=0.9)
    assert process.full == 2
