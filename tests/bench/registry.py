"""The bars: one line each. A bar is a function that measures and gives its results.

    def measure(bench: Bench) -> list[Result]

It takes stages from `bench.stage()` (a fresh prefix on the run's Kafka; `with`), measures
`bench.rounds` times, and says on the way by `bench.say` what a person wants to see. A bar that
needs a Kafka of other settings starts its own by `Stage(BenchKafka(…))`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.stage import BenchKafka, Stage


@dataclass(frozen=True, slots=True)
class Result:
    """One figure of a bar; `goal` reads like `>= 1.4` or `<= 50`, None for orientation only."""

    bar: str
    value: float
    unit: str
    goal: str | None = None
    rounds: Sequence[float] = ()

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.goal is None:
            return None
        sign, _, bound = self.goal.partition(" ")
        if sign not in {">=", "<="}:
            raise ValueError(f"a goal begins with >= or <=: {self.goal}")
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)

    def as_json(self) -> dict[str, Any]:
        """The entry of bench.json."""
        return {
            "bar": self.bar,
            "value": self.value,
            "unit": self.unit,
            "goal": self.goal,
            "met": self.met,
            "rounds": list(self.rounds),
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """What a bar is given: the run's Kafka and how much to measure.

    `records` and `rounds` are None unless asked for on the command line: each bar has its own
    defaults. `only` names contestants of a bar that has several. `env` are settings for brokers.
    `quick`: peers race with the setting known to be good, nothing is tried first.
    """

    kafka: BenchKafka
    records: int | None = None
    rounds: int | None = None
    only: frozenset[str] = frozenset()
    env: Mapping[str, str] = field(default_factory=dict)
    profile: str | None = None
    quick: bool = False

    def stage(self) -> Stage:
        """A stage with a fresh prefix; to be entered by `with`."""
        return Stage(self.kafka)

    def say(self, line: str) -> None:
        """Tell a person how it goes."""
        print(line, flush=True)


Measure = Callable[[Bench], list[Result]]

#: Bar → module and function; imported when measured, so that one bar's fault is its own.
BARS: dict[str, str] = {
    "throughput": "bench.bar_throughput:measure",
    "latency": "bench.bar_latency:measure",
    "scale": "bench.bar_scale:measure",
    "territory": "bench.bar_territory:measure",
    "sharing": "bench.bar_sharing:measure",
    "switch": "bench.bar_switch:measure",
    "verification": "bench.bar_verification:measure",
}


def measure_of(bar: str) -> Measure:
    """The function that measures `bar`. Raises KeyError if there is none."""
    module, _, name = BARS[bar].partition(":")
    measure: Measure = getattr(importlib.import_module(module), name)
    return measure
