"""Long work on the event loop lets everything else run in between."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from shutong_core.domain.steps import Steps
from shutong_core.runtime.slices import BRISK, GENTLE, in_slices


class Clock:
    """Goes on only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def work(clock: Clock, seconds: float, steps: int, done: list[float]) -> Steps[str]:
    for _ in range(steps):
        clock.now += seconds
        done.append(clock.now)
        yield
    return "done"


async def alongside(clock: Clock, each_s: float, seen: list[float]) -> None:
    """Another task that takes `each_s` whenever it is let."""
    while True:
        clock.now += each_s
        seen.append(clock.now)
        await asyncio.sleep(0)


async def sliced(
    each_s: float, pace: tuple[float, float] = BRISK
) -> tuple[list[float], list[float]]:
    clock, done, seen = Clock(), [], []  # type: ignore[var-annotated]
    other = asyncio.create_task(alongside(clock, each_s, seen))
    assert await in_slices(work(clock, 0.001, 100, done), clock, pace=pace) == "done"
    other.cancel()
    return done, seen


def longest_run(done: list[float], seen: list[float]) -> int:
    """Most steps between two turns of the other task."""
    edges = [0.0, *seen, float("inf")]
    return max(sum(begin < each < end for each in done) for begin, end in itertools.pairwise(edges))


@pytest.mark.parametrize(
    ("others_s", "pace", "slice_s"),
    [
        (0.0, BRISK, BRISK[0]),
        (0.010, BRISK, 0.010),
        (1.0, BRISK, BRISK[1]),
        (0.0, GENTLE, GENTLE[0]),
        (0.003, GENTLE, 0.003),
        (1.0, GENTLE, GENTLE[1]),
    ],
)
async def test_a_slice_is_as_long_as_what_the_others_take_within_the_limits_of_its_pace(
    others_s: float, pace: tuple[float, float], slice_s: float
) -> None:
    done, seen = await sliced(others_s, pace)
    assert longest_run(done, seen) == pytest.approx(slice_s * 1000, abs=1)


async def test_the_others_run_while_there_is_work() -> None:
    done, seen = await sliced(0.001)
    assert len([each for each in seen if each < done[-1]]) > 20


async def test_what_the_work_raises_comes_out() -> None:
    def failing() -> Iterator[None]:
        yield
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_slices(failing())  # type: ignore[arg-type]
