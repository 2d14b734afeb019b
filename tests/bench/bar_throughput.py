"""Bar: enforced throughput of the reference job, against its peers in the same run.

BENCH=throughput python -m bench                               everybody, 1,000,000 records
BENCH=throughput python -m bench --only bus-1 --records 300000 --rounds 1

`--only` takes names by comma; `bus` means bus-1 and bus-2.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from dataclasses import astuple

from bench.children import ChildFailed
from bench.contestants import Contestant, everyone
from bench.inbound import CHUNK, Records
from bench.outputs import WrongOutput
from bench.peerjob import Tuning
from bench.race import Run, run
from bench.registry import Bench, Result

RECORDS = 1_000_000
ROUNDS = 5
TUNING_RECORDS_MIN = 50_000
#: Ratios of medians: contestant, its rival, the goal.
GOALS = (
    ("bus-1", "streams", ">= 1.4"),
    ("bus-1", "fastavro", ">= 3"),
    ("bus-2", "streams", ">= 2"),
    ("native-1", "streams", ">= 2.5"),
    ("native-2", "streams", ">= 3.5"),
    ("bus-1", "quix", None),
)
#: Contestant → its rounds; None where it gave no valid result.
Runs = dict[str, list[Run | None]]


def measure(bench: Bench) -> list[Result]:
    """Tune the peers, then race everybody in rotated rounds."""
    count = _whole(bench.records or RECORDS)
    warm = _whole(max(20_000, count // 5))
    bench.say(f"reference job: {count:,} records a round after {warm:,} to warm up")
    records = Records(warm + count)
    gc.collect()
    gc.freeze()  # a million records are no garbage; looking through them would cost the racers
    # Kafka's own JVM is cold too: a copy of the records that nobody counts.
    _run(bench, everyone({}, None)[-1], Tuning(), records, warm, count)
    racers = [each for each in everyone(bench.env, bench.profile) if _may_race(bench, each)]
    tuned = {each.name: _tuned(bench, each, records, warm, count) for each in racers}
    runs: Runs = {each.name: [] for each in racers}
    for number in range(bench.rounds or ROUNDS):
        at = number % max(1, len(racers))
        for racer in racers[at:] + racers[:at]:
            part = _whole(int(count * racer.share))
            found = _run(bench, racer, tuned[racer.name], records, warm, part)
            bench.say(f"  round {number + 1}  {racer.name:9} {found}")
            runs[racer.name].append(found)
    for name, rounds in runs.items():
        if valid := [each for each in rounds if each is not None]:
            bench.say(f"  median   {name:9} {_median(valid)}")
    return _results(runs)


def _median(runs: Sequence[Run]) -> Run:
    """Each figure's own median."""
    return Run(*(statistics.median(figures) for figures in zip(*map(astuple, runs), strict=True)))


def _whole(count: int) -> int:
    return max(CHUNK, count // CHUNK * CHUNK)


def _may_race(bench: Bench, contestant: Contestant) -> bool:
    kind = contestant.name.partition("-")[0]
    if bench.only and not bench.only & {contestant.name, kind}:
        return False
    reason = contestant.missing()
    if reason is not None:
        bench.say(f"  {contestant.name} does not race: {reason}")
    return reason is None


def _tuned(bench: Bench, racer: Contestant, records: Records, warm: int, count: int) -> Tuning:
    """The tuning that is fastest on a third of the records."""
    tunings = racer.tunings
    if len(tunings) == 1 or bench.quick:
        return tunings[0]
    part = _whole(min(count, max(TUNING_RECORDS_MIN, int(count * racer.share / 3))))
    rates: dict[Tuning, float] = {}
    for tuning in tunings:
        found = _run(bench, racer, tuning, records, min(warm, part), part)
        bench.say(f"  tuning   {racer.name:9} {found} ({tuning})")
        rates[tuning] = found.rate if found else 0.0
    best = max(rates, key=lambda each: rates[each])
    bench.say(f"  {racer.name} races with {best}")
    return best


def _run(
    bench: Bench, racer: Contestant, tuning: Tuning, records: Records, warm: int, count: int
) -> Run | None:
    try:
        return run(bench, racer, tuning, records, warm, count)
    except (WrongOutput, ChildFailed) as error:
        bench.say(f"  {racer.name}: no result: {error}")
        return None


def _results(runs: Runs) -> list[Result]:
    rates = {
        name: [each.rate for each in rounds if each is not None] for name, rounds in runs.items()
    }
    medians = {name: statistics.median(found) for name, found in rates.items() if found}
    results = [
        Result(f"throughput: {name}", medians[name], "records/s", None, rates[name])
        for name in medians
    ]
    for name, rival, goal in GOALS:
        if name in medians and rival in medians:
            pairs = zip(runs[name], runs[rival], strict=True)
            each = [a.rate / b.rate for a, b in pairs if a is not None and b is not None]
            ratio = medians[name] / medians[rival]
            results.append(Result(f"throughput: {name} / {rival}", ratio, "times", goal, each))
    invalid = sum(each is None for rounds in runs.values() for each in rounds)
    return [*results, Result("throughput: runs without a valid result", invalid, "runs", "<= 0")]
