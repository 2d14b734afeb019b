"""Bar: a list of 10,000 grants, published under load, stalls no lane for more than 100 ms.

The reference job's dataset runs at a steady rate under a small list. Then the large list, in which
that dataset stands unchanged among 999 others, is published by the library that `shutong list
publish` uses. A lane's stall is the longest time between two of its blocks in the audit, by Kafka's
clock; the longest within the same time before the switch is shown beside it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import audittrail, flow, job, lists
from bench.drain import profiled
from bench.registry import Bench, Result
from bench.sparse import PUBLISH_S_MAX, SETTING, SparseStage

ROUNDS = 3
RATE = 6_000
DATASETS, GRANTS_EACH = 1_000, 10
#: Steady load before the publisher starts; the baseline is taken from its second half.
BEFORE_S, AFTER_S = 20.0, 15.0


@dataclass(frozen=True, slots=True)
class Switched:
    """Longest time between two blocks of any lane, in milliseconds."""

    before_ms: int
    around_ms: int
    by_lane: dict[int, int]
    transaction_ms: float


def measure(bench: Bench) -> list[Result]:
    """The worst lane's longest gap around the switch, worst of the rounds."""
    found = []
    for n in range(bench.rounds or ROUNDS):
        found.append(_round(bench, n))
        bench.say(f"  round {n}: {found[-1]}")
    worst = [float(each.around_ms) for each in found]
    before = [float(each.before_ms) for each in found]
    return [
        Result("longest stall of a lane at a list of 10,000", max(worst), "ms", "<= 100", worst),
        Result("longest gap of a lane before it", max(before), "ms", None, before),
    ]


def _round(bench: Bench, n: int) -> Switched:
    datasets = [f"d{number:04d}" for number in range(DATASETS)]
    small = lists.sections(datasets[:1], lists.reference_grants("d0000", "one"), 4)
    large = lists.sections(datasets, lists.many(datasets, GRANTS_EACH), 4)
    used = {"d0000", *(f"d0000-{name}" for name in job.REFERENCE)}
    with SparseStage(bench.kafka, used.__contains__) as stage:
        first = stage.publish(small, job.reference_schemas())
        dataset = first.dataset("d0000")
        if dataset is None:
            raise RuntimeError("the list has no dataset")
        targets = {stage.topics.inbound("d0000"): dataset.schemas[0].id}
        seconds = BEFORE_S + PUBLISH_S_MAX
        load = flow.Load(stage.bootstrap, targets, RATE, seconds, f"switch{n}")
        env = {**bench.env, **SETTING}
        command = profiled(bench.profile)
        with stage.brokers(1, env, command=command):
            sender = flow.Worker("send", load)
            try:
                since = audittrail.ends(stage.bootstrap, stage.topics.audit)
                sender.go(flow.soon_ns())
                time.sleep(BEFORE_S)
                began_ms = time.time_ns() // 1_000_000
                committed_ms = stage.publish_aside(large, job.reference_schemas())
                time.sleep(AFTER_S)
            finally:
                sender.end()
        found = audittrail.blocks(stage.bootstrap, stage.topics.audit, since)
    if max(block.list_number for block in found) <= first.number:
        raise RuntimeError("the new list was not taken up")
    return _switched(found, began_ms, committed_ms)


def _switched(found: Sequence[audittrail.Block], began_ms: int, committed_ms: int) -> Switched:
    """Gaps of the lanes: in the ten seconds before the publisher started, and from its commit
    to the end. What comes between is the publisher at work on this same machine."""
    end_ms = max(block.written_ms for block in found)
    around = audittrail.gaps_ms(found, committed_ms, end_ms)
    before = audittrail.gaps_ms(found, began_ms - 10_000, began_ms)
    return Switched(
        before_ms=max(before.values()),
        around_ms=max(around.values()),
        by_lane=around,
        transaction_ms=audittrail.transaction_ms(found),
    )
