"""Bar: 100 matching grants with ten distinct projections, against encoding each output by itself.

The goal is held against the policy alone, in processor time of one process: outputs per second of
the compiled policy, and of fastavro writing every output from a decoded record (its mask-free best:
no dictionary is made for a projection, nothing is framed, no verdict is taken). What goes through
the whole bus is printed for orientation.
"""

from __future__ import annotations

import io
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import fastavro

from bench import flow, job, lists
from bench.drain import drain
from bench.registry import Bench, Result
from shutong_broker.policy.build import build_policy
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.model import DatasetPolicy, InboundRecord
from shutong_control.allot import allot
from shutong_core.domain.listfile import read_list_file
from shutong_core.domain.version import ListVersion, next_version
from shutong_core.wire.framing import frame
from shutong_core.wire.schemarecords import Registry
from shutong_core.wire.schemas import Schema
from shutong_core.wire.topics import Topics

ROUNDS = 7
GRANTS, PROJECTIONS = 100, 10
RECORDS = 4_000
RUN = 500
BUS_RECORDS = 60_000
NOW_MS = 1_795_000_000_000


def measure(bench: Bench) -> list[Result]:
    """Ratio of the two output rates, the median of rounds; and the bus's own output rate."""
    sections = _sections()
    version, schemas = _in_force(sections)
    made = flow.made(bench.records or RECORDS)
    policy = build_policy(version, schemas, job.divisions(), _key, CompiledPolicy)[job.DATASET]
    dataset = version.dataset(job.DATASET)
    if dataset is None:
        raise RuntimeError("the list has no dataset")
    inbound = [_inbound(n, each, dataset.schemas[0].id) for n, each in enumerate(made)]
    projected = [
        fastavro.parse_schema(dict(schemas[grant.projections[0].delivered_id].parsed))
        for grant in version.grants_by_dataset[job.DATASET]
    ]
    _same_bytes(policy, inbound, projected)
    ratios, ours, theirs = [], [], []
    for _ in range((bench.rounds or ROUNDS) + 1):
        ours.append(_policy_rate(policy, inbound))
        theirs.append(_encoding_rate(inbound[:200], projected))
        ratios.append(ours[-1] / theirs[-1])
    bench.say(f"  outputs/s: policy {statistics.median(ours):,.0f}")
    bench.say(f"  outputs/s: fastavro {statistics.median(theirs):,.0f}")
    name = f"{GRANTS} grants, {PROJECTIONS} projections, policy"
    return [
        Result(name, statistics.median(ratios[1:]), "x fastavro", ">= 5", ratios[1:]),
        _through_the_bus(bench, sections, statistics.median(theirs)),
    ]


def _sections() -> dict[str, Any]:
    """A list of 100 grants of all rows; item sets grow from four to twelve of the twelve items."""
    names = list(json.loads(job.schema_text())["fields"])
    order = [field["name"] for field in names]
    grants = []
    for n in range(GRANTS):
        kind = n % PROJECTIONS
        items = dict.fromkeys(["id_number", "town_code"], "clear")
        items |= dict.fromkeys(order[kind % 3 : kind % 3 + 3 + kind], "clear")
        row = lists.whole_grant(f"g{n:03d}", job.DATASET, "one", n)
        grants.append(row | {"items": items})
    return lists.sections([job.DATASET], grants, GRANTS)


def _in_force(sections: dict[str, Any]) -> tuple[ListVersion, dict[int, Schema]]:
    """The list with its schemas allotted, without a Kafka."""
    draft = read_list_file(json.dumps(sections, ensure_ascii=False) + "\n...\n", "bench.yaml")
    texts = {name: text.encode() for name, text in job.reference_schemas().items()}
    registry = Registry()
    allotted = allot(draft, texts, registry, Topics("bench"))
    return next_version(None, allotted.rows, (), NOW_MS), dict(registry.schemas)


def _key(key_id: str) -> bytes:
    return key_id.encode().ljust(32, b".")[:32]


def _inbound(n: int, made: flow.Made, schema_id: int) -> InboundRecord:
    key, body, lane = made
    headers = (("shutong_publisher", job.PUBLISHER), ("ce_id", b"event-%d" % n))
    return InboundRecord(job.DATASET, lane, n, key, frame(schema_id, body), headers, NOW_MS)


def _policy_rate(policy: DatasetPolicy, inbound: Sequence[InboundRecord]) -> float:
    """Outputs per second of processor time."""
    lanes = [[each for each in inbound if each.partition == n] for n in range(job.LANES)]
    runs = [lane[at : at + RUN] for lane in lanes for at in range(0, len(lane), RUN)]
    outputs = 0
    began = time.process_time()
    for run in runs:
        columns = policy.run(run, bytes(16), NOW_MS)
        outputs += sum(len(each.values) for each in columns.placed.values())
    took = time.process_time() - began
    if outputs != len(inbound) * GRANTS:
        raise RuntimeError(f"{outputs} outputs of {len(inbound)} records")
    return outputs / took


def _encoding_rate(inbound: Sequence[InboundRecord], projected: Sequence[Any]) -> float:
    """Outputs per second of processor time: decode once, then write each grant's output."""
    whole = fastavro.parse_schema(json.loads(job.schema_text()))
    outputs = 0
    began = time.process_time()
    for record in inbound:
        values = fastavro.schemaless_reader(io.BytesIO((record.value or b"")[5:]), whole, None)
        for schema in projected:
            into = io.BytesIO()
            fastavro.schemaless_writer(into, schema, values)
            outputs += len(into.getvalue()) > 0
    return outputs / (time.process_time() - began)


def _same_bytes(
    policy: DatasetPolicy, inbound: Sequence[InboundRecord], projected: Sequence[Any]
) -> None:
    """Both must make the same outputs, or nothing is compared."""
    whole = fastavro.parse_schema(json.loads(job.schema_text()))
    columns = policy.run(inbound[:1], bytes(16), NOW_MS)
    values = fastavro.schemaless_reader(io.BytesIO((inbound[0].value or b"")[5:]), whole, None)
    for grant, schema in zip(policy.grants, projected, strict=True):
        into = io.BytesIO()
        fastavro.schemaless_writer(into, schema, values)
        if columns.placed[grant].values[0][5:] != into.getvalue():
            raise RuntimeError(f"grant {grant}: the outputs differ")


def _through_the_bus(bench: Bench, sections: dict[str, Any], encoding: float) -> Result:
    """Records placed per second by one broker process with its full audit, of fastavro's rate."""
    with bench.stage() as stage:
        dataset = stage.publish(sections, job.reference_schemas()).dataset(job.DATASET)
        if dataset is None:
            raise RuntimeError("the list has no dataset")
        targets = {stage.topics.inbound(job.DATASET): dataset.schemas[0].id}
        total = bench.records or BUS_RECORDS
        found = drain(
            stage, targets, flow.made(total), "bus", total, bench.env, profile=bench.profile
        )
    bench.say(f"  bus: {found}, {found.placed_rate / encoding:.2f} of fastavro's outputs alone")
    return Result(f"{GRANTS} grants placed by the bus", found.placed_rate, "records/s")
