"""Bar: one dataset split over every town of a province by one class grant, against one plain grant.

The broker writes one topic for the class; the consumer service splits it when somebody reads. The
same records, of all 1,757 towns, go through a list with one plain grant of all rows and through
one with one class grant of the same items, in turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from bench import flow, job, lists
from bench.drain import drain
from bench.registry import Bench, Result
from bench.stage import Stage

ROUNDS = 5
RECORDS = 200_000


def measure(bench: Bench) -> list[Result]:
    """Ratio of the two rates, the median of rounds in turns."""
    towns = lists.towns_of(job.PROVINCE)
    records = flow.made(20_000, towns)
    plain = lists.whole_grant("g", job.DATASET, "lanes")
    ratios = []
    with bench.stage() as one, bench.stage() as split:
        targets = {
            "plain": _publish(one, plain),
            "class": _publish(split, _class_grant(plain)),
        }
        stages = {"plain": one, "class": split}
        for n in range(bench.rounds or ROUNDS):
            rates = {}
            for name in ("plain", "class") if n % 2 == 0 else ("class", "plain"):
                args = (targets[name], records, f"round{n}", bench.records or RECORDS, bench.env)
                found = drain(stages[name], *args, profile=bench.profile)
                if found.refused:
                    raise RuntimeError(f"{found.refused} records were refused")
                bench.say(f"  round {n}, {name}: {found}")
                rates[name] = found.rate
            ratios.append(rates["class"] / rates["plain"])
    value = statistics.median(ratios)
    return [Result(f"one class grant, {len(towns):,} territories", value, "x", ">= 0.9", ratios)]


def _publish(stage: Stage, grant: Mapping[str, Any]) -> dict[str, int]:
    made = lists.sections([job.DATASET], [grant], 1)
    dataset = stage.publish(made, job.reference_schemas()).dataset(job.DATASET)
    if dataset is None:
        raise RuntimeError("the list has no dataset")
    return {stage.topics.inbound(job.DATASET): dataset.schemas[0].id}


def _class_grant(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The same items for every town of the province, each its own residents."""
    row = {name: value for name, value in plain.items() if name != "requester"}
    of = {"level": "town", "within": job.PROVINCE}
    return row | {"requester_class": of, "return_flow": True, "scope": {"role": job.ROLE}}
