"""Bar: 10,000 grants over 1,000 datasets in the list, against a list of one grant.

Topics exist for 300 datasets, of which 20 are active and 280 idle, and for 1,500 grants. Each
active dataset has the reference job's three grants, the others of its ten match no record. The
bar's figure is the rate against a list of one dataset with one grant of all rows; for orientation
the same against one dataset with those three grants, which places the same outputs.

Afterwards each grant with a topic gets records once, then the broker's memory is read.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator, Mapping

from bench import audittrail, flow, job, lists
from bench.drain import drain, peak_mb, profiled, wait_drained
from bench.registry import Bench, Result
from bench.sparse import SETTING, SparseStage
from bench.stage import Stage
from shutong_core.runtime.cluster import existing_topics

ROUNDS = 5
RECORDS = 300_000
DATASETS, GRANTS_EACH = 1_000, 10
ACTIVE, WITH_TOPICS, GRANT_TOPICS = 20, 300, 1_500
#: Records for each topic when memory is measured: a prime.
MEMORY_RECORDS = 109
#: Order of the contestants in a round; turned round in every second one.
_ORDER = ("one", "three", "many")


def measure(bench: Bench) -> list[Result]:
    """Ratio of the rates, median of rounds in turns; resident memory of the broker in MiB."""
    datasets = [f"d{n:04d}" for n in range(DATASETS)]
    grants = lists.many(datasets, GRANTS_EACH)
    used = _used(datasets, [grant["id"] for grant in grants])
    with (
        bench.stage() as one,
        bench.stage() as three,
        SparseStage(bench.kafka, used.__contains__) as many,
    ):
        contestants: dict[str, Stage] = {"one": one, "three": three, "many": many}
        targets = {
            "one": _publish(one, datasets[:1], [lists.whole_grant("d0000-b", "d0000", "one")]),
            "three": _publish(three, datasets[:1], lists.reference_grants("d0000", "one")),
            "many": _publish(many, datasets, grants),
        }
        bench.say(f"  list of {len(grants):,} grants published, topics made")
        ratios, same = _rounds(bench, contestants, targets)
        memory = _memory(bench, many, targets["many"], used)
    shape = f"{len(grants):,} grants over {len(datasets):,} datasets"
    return [
        Result(f"{shape}, of one grant", statistics.median(ratios), "x", ">= 0.85", ratios),
        Result(f"{shape}, of the same three", statistics.median(same), "x", None, same),
        Result(f"broker memory, {GRANT_TOPICS:,} grants used", memory, "MiB", "<= 500", [memory]),
    ]


def _used(datasets: list[str], grants: list[str]) -> frozenset[str]:
    """The datasets with topics, and their first grants: all ten of the active, five of others."""
    there = datasets[:WITH_TOPICS]
    by_dataset = {name: [g for g in grants if g.startswith(f"{name}-")] for name in there}
    taken = [grant for name in there[:ACTIVE] for grant in by_dataset[name]]
    rank = 0
    while len(taken) < GRANT_TOPICS:
        taken += [by_dataset[name][rank] for name in there[ACTIVE:]]
        rank += 1
    return frozenset([*there, *taken[:GRANT_TOPICS]])


def _publish(stage: Stage, datasets: list[str], grants: list[dict[str, object]]) -> dict[str, int]:
    """Put a list in force; inbound topics with their schema ids, by the list's order."""
    version = stage.publish(lists.sections(datasets, grants, 4), job.reference_schemas())
    found = {}
    for name in datasets[:WITH_TOPICS]:
        dataset = version.dataset(name)
        if dataset is None:
            raise RuntimeError(f"the list has no dataset {name}")
        found[stage.topics.inbound(name)] = dataset.schemas[0].id
    return found


def _rounds(
    bench: Bench, contestants: Mapping[str, Stage], targets: Mapping[str, dict[str, int]]
) -> tuple[list[float], list[float]]:
    """Rates against the list of one grant, and against that of three, by round."""
    records, total = flow.made(20_000), bench.records or RECORDS
    ratios, same = [], []
    for n in range(bench.rounds or ROUNDS):
        rates = {}
        for name in _ORDER if n % 2 == 0 else reversed(_ORDER):
            into = dict(list(targets[name].items())[:ACTIVE])
            env = {**bench.env, **(SETTING if name == "many" else {})}
            profile = f"{bench.profile}/{name}" if bench.profile else None
            found = drain(contestants[name], into, records, f"r{n}", total, env, profile)
            if found.refused:
                raise RuntimeError(f"{name}: {found.refused} records were refused")
            bench.say(f"  round {n}, {name}: {found}")
            rates[name] = found.rate
        ratios.append(rates["many"] / rates["one"])
        same.append(rates["many"] / rates["three"])
    return ratios, same


def _memory(bench: Bench, stage: Stage, targets: Mapping[str, int], used: frozenset[str]) -> float:
    """Resident memory in MiB once every dataset with a topic had records for every grant of it."""
    env = {**bench.env, **SETTING}
    with stage.brokers(1, env, command=profiled(None)) as (broker,):
        started = broker.rss_mb
        since = audittrail.ends(stage.bootstrap, stage.topics.audit)
        total = 0
        for number, (places, topics) in enumerate(_places(stage, targets, used)):
            # A prime number of records: each topic gets each of them.
            records = flow.made(MEMORY_RECORDS, places)
            flow.fill(stage.bootstrap, topics, records, f"m{number}", len(records) * len(topics))
            total += len(records) * len(topics)
        wait_drained(stage, targets, broker)
        held, peak = broker.rss_mb, peak_mb(broker.pid)
    _require_used(stage)
    placed = sum(b.placed for b in audittrail.blocks(stage.bootstrap, stage.topics.audit, since))
    bench.say(f"  memory: {started:.0f} MiB started, {held:.0f} used, {peak:.0f} at most")
    bench.say(f"  {total:,} records, {placed:,} placed")
    return held


def _places(
    stage: Stage, targets: Mapping[str, int], used: frozenset[str]
) -> Iterator[tuple[list[str], dict[str, int]]]:
    """Towns whose records reach every grant that has a topic and no other, with the datasets'
    inbound topics: a grant without one would stop its dataset."""
    cities = [lists.towns_of(job.city(n))[0] for n in range(job.CITIES)]
    nowhere = lists.towns_of(job.city(lists.NOWHERE))
    groups: dict[int, dict[str, int]] = {}
    for topic, schema_id in targets.items():
        dataset = stage.topics.dataset_of(topic)
        towns = sum(f"{dataset}-{n:03d}" in used for n in range(GRANTS_EACH))
        groups.setdefault(towns, {})[topic] = schema_id
    for towns, topics in groups.items():
        yield [*cities, *nowhere[:towns]], topics


def _require_used(stage: Stage) -> None:
    """Raises RuntimeError unless every delivery topic has records."""
    names = asyncio.run(existing_topics(stage.node.client, stage.prefix))
    delivery = sorted(name for name in names if stage.topics.grant_of(name))
    ends = audittrail.all_ends(stage.bootstrap, delivery)
    unused = [name for name in delivery if not sum(ends[name])]
    if unused or len(delivery) != GRANT_TOPICS:
        raise RuntimeError(f"{len(unused)} of {len(delivery)} delivery topics were not used")
