"""Records per second of the policy alone: `python tests/bench/policy_bench.py [seconds]`.

One process, no Kafka: interpreter and compiled policy on the same records of the reference job (12
items, three grants), then the compiled policy under 1, 100 and 10,000 grants of which one matches.
Every figure is the median of rounds in processor time, since the machine may be shared.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import job
from shutong_broker.policy.build import build_policy
from shutong_broker.policy.columns import Columns
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.model import DatasetPolicy, InboundRecord, LaneFacts
from shutong_broker.policy.native import native_runner
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.version import next_version
from shutong_core.wire.keys import partition_of
from shutong_core.wire.projection import project_schema
from shutong_core.wire.schemas import Schema

RECORDS = 4000
ROUNDS = 7
NOW_MS = 1_795_000_000_000
RUN = 250  # records
SALT = bytes(16)

#: The job's schema, for other benches of the policy.
schema = job.schema


def world(
    grants: Mapping[str, Mapping[str, Any]],
    make: Callable[..., DatasetPolicy],
    table: RegionTable,
) -> DatasetPolicy:
    """The policy of a list with those grants."""
    of = job.schema()
    schemas = {1: of}
    ref = {"version": 1, "id": 1, "guid": of.guid, "digest": of.digest.hex()}
    rows = [*job.base_rows(), job.parsed_row(job.dataset_row(), "dataset", schemas=[ref])]
    delivered: dict[str, tuple[int, Schema]] = {}
    for grant_id, given in grants.items():
        key = json.dumps(given["items"])
        body = job.grant_row(grant_id, given) | {"purpose": "social-relief"}
        if key not in delivered:
            row = job.parsed_row(body, "grant", projections=[])
            made = project_schema(of, row.items, job.DATASET)
            delivered[key] = (101 + len(delivered), made)
            schemas[delivered[key][0]] = made
        number, made = delivered[key]
        projection = {"schema_id": 1, "delivered_id": number, "guid": made.guid}
        rows.append(job.parsed_row(body, "grant", projections=[projection]))
    version = next_version(None, rows, (), 0)
    keys = lambda key_id: key_id.encode().ljust(32, b".")[:32]  # noqa: E731
    return build_policy(version, schemas, table, keys, make)[job.DATASET]


def records(count: int) -> list[InboundRecord]:
    """`count` sound records, as the lane reads them."""
    made = []
    for n, each in enumerate(job.messages(0, count, 1)):
        lane = partition_of(each.key, job.LANES)
        made.append(InboundRecord(job.DATASET, lane, n, each.key, each.value, each.headers, NOW_MS))
    return made


def rate(policy: DatasetPolicy, inbound: list[InboundRecord]) -> float:
    """Records per second of processor time: the median of rounds after one to warm up."""
    facts = LaneFacts()
    found = []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        for record in inbound:
            policy.decide(record, facts, NOW_MS)
        found.append(len(inbound) / (time.process_time() - began))
    return statistics.median(found[1:])


def run_rate(
    run: Callable[[Sequence[InboundRecord]], Columns], inbound: list[InboundRecord]
) -> float:
    """Records per second of processor time where a lane's records are decided in runs."""
    lanes = [[each for each in inbound if each.partition == lane] for lane in range(job.LANES)]
    runs = [lane[at : at + RUN] for lane in lanes for at in range(0, len(lane), RUN)]
    found = []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        rows = sum(run(each).rows for each in runs)
        found.append(len(inbound) / (time.process_time() - began))
        if rows != len(inbound):
            raise RuntimeError(f"{len(inbound) - rows} records were left to others")
    return statistics.median(found[1:])


def in_runs(policy: CompiledPolicy, table: RegionTable, inbound: list[InboundRecord]) -> None:
    """Print what runs come to, by the generated policy and by the compiled kernel if it is here."""
    rates = {"runs, generated": run_rate(lambda run: policy.run(run, SALT, NOW_MS), inbound)}
    for version in policy._by_prefix.values():
        if version.generated is not None:
            runner = native_runner(policy._plan, version.plan, version.generated, table)
            moment = version.generated.matcher.moment(NOW_MS)
            if runner is not None:
                native = lambda run: runner.run(run, 0, len(run), SALT, moment)  # noqa: E731, B023
                rates["runs, kernel"] = run_rate(native, inbound)
    for name, found in rates.items():
        print(f"  {name:20} {found:10,.0f} records/s {1e6 / found:8.2f} µs")
    if "runs, kernel" not in rates:
        print("  the optional compiled kernel is not installed: make kernel")


def many(count: int) -> dict[str, dict[str, Any]]:
    """`count` grants; the first gets all rows, the others a town without records each."""
    towns = job.towns(job.CITIES)
    items = job.REFERENCE["b"]["items"]
    made: dict[str, dict[str, Any]] = {"g00000": {"items": items, "regions": None}}
    for n in range(1, count):
        made[f"g{n:05d}"] = {"items": items, "codes": [towns[n % len(towns)]]}
    return made


def main() -> None:
    table = job.divisions()
    inbound = records(RECORDS)
    size = statistics.mean(len(record.value or b"") for record in inbound)
    print(f"reference job, {size:.0f} bytes a record, three grants")
    rates = {}
    for make, some in ((PolicyInterpreter, inbound[:400]), (CompiledPolicy, inbound)):
        policy = world(job.REFERENCE, make, table)
        rates[make] = rate(policy, some)
        print(f"  {make.__name__:20} {rates[make]:10,.0f} records/s {1e6 / rates[make]:8.2f} µs")
        if isinstance(policy, CompiledPolicy) and policy.declined:
            print(f"  {policy.declined} records were left to the interpreter")
        if isinstance(policy, CompiledPolicy):
            in_runs(policy, table, inbound)
    print(f"  ratio {rates[CompiledPolicy] / rates[PolicyInterpreter]:.1f}")
    alone = 0.0
    for count in (1, 100, 10_000):
        grants = many(count)
        policy = world(grants, CompiledPolicy, table)
        found = rate(policy, inbound)
        alone = alone or found
        print(f"  {count:6,} grants        {found:10,.0f} records/s, {found / alone:.2f} of one")


if __name__ == "__main__":
    main()
