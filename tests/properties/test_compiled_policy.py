"""The generated decision against the plain one, on schemas and lists of every admitted kind.

Both must give equal decisions for every input: sound records, records with any value in any role,
and bytes that are nearly a record. The generated code must also decide what is sound by itself.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from properties import avro_strategies as avro
from shutong_broker.policy.build import build_policy
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.lanehash import lanes_of
from shutong_broker.policy.literals import Kind, kind_of
from shutong_broker.policy.model import DatasetPolicy, Decision, InboundRecord, LaneFacts
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.domain.schemaview import FieldType
from shutong_core.domain.version import next_version, parse_row
from shutong_core.wire.codec import encode
from shutong_core.wire.framing import frame
from shutong_core.wire.keys import key_bytes, partition_of
from shutong_core.wire.projection import mask_fits, project_schema
from shutong_core.wire.schemas import Schema, parse_schema_text
from unit import listing_fixtures as listing
from unit.policy_world import ADULT, CHILD, keys, now_ms, table

TABLE = table()
NOW_MS = now_ms()
LANES = 6
DATASET = "minimum-living"
REGIONS = ["441424", "441424100", "441424104000", "441424000000@self", "440106001000", "", "x"]
#: Refusals that the generated code leaves to the interpreter.
LEFT = {
    Reason.MALFORMED,
    Reason.NOT_CANONICAL,
    Reason.WRONG_KEY,
    Reason.RULE_ERROR,
    Reason.BAD_FRAMING,
    Reason.UNKNOWN_SCHEMA,
}
EXAMPLES = 60  # of a round
ROUNDS_MIN, ROUNDS_MAX = 3, 15
TIMES_MIN = 10
#: No calendar reaches there.
BEYOND = 10**18
#: Values that rules, operations and births ask for.
USUAL: dict[Any, list[Any]] = {
    ("string", None): ["put", "correct", "441424", ADULT, CHILD, listing.PROVIDER],
    ("int", "date"): [date(2012, 11, day) for day in (19, 20, 21, 27)],
}
Draw = st.DrawFn


@dataclass(frozen=True)
class World:
    """One list on one schema, decided by both."""

    schema: Schema
    key: tuple[str, ...]
    plain: DatasetPolicy
    compiled: CompiledPolicy


@st.composite
def schemas(draw: Draw) -> Schema:
    """A schema with a region item among items of any type."""
    parsed = draw(avro.schema_objects(fields_max=6))
    town: dict[str, Any] = {"name": "town", "type": "string", "shutong": avro.ITEM}
    if draw(st.integers(0, 3)) == 2:
        town |= {"type": ["null", "string"], "default": None}
    parsed["fields"].insert(draw(st.integers(0, len(parsed["fields"]))), town)
    return parse_schema_text(json.dumps(parsed))


def literal(draw: Draw, schema: Schema, field: FieldType) -> str:
    """A literal of CEL for the item, often one that a record may hold."""
    shape = next(each.shape for each in schema.record.fields if each.name == field.name)
    value = draw(avro.data(shape))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal) and draw(st.booleans()):
        return format(value + Decimal("0.001"), "f")
    if isinstance(value, int | Decimal | float):
        return format(value, "f") if isinstance(value, Decimal) else repr(value)
    if isinstance(value, date | datetime):
        return f'"{value.isoformat()}"'
    return json.dumps(str(value) if isinstance(value, UUID) else value or "")


def comparison(draw: Draw, schema: Schema) -> str:
    field = draw(st.sampled_from(sorted(schema.fields.values(), key=lambda each: each.name)))
    kind = kind_of(field)
    ops = ["==", "!="] + (["<", "<=", ">", ">="] if kind is Kind.ORDER else [])
    choices = ["has"]
    if kind is not Kind.PRESENCE:
        choices += ["literal", "literal", "in", "items"]
    if field.avro == "boolean":
        choices.append("flag")
    choice = draw(st.sampled_from(choices))
    if choice == "has":
        return f"has({field.name})"
    if choice == "flag":
        return field.name
    if choice == "in":
        literals = [literal(draw, schema, field) for _ in range(draw(st.integers(1, 3)))]
        return f"{field.name} in [{', '.join(literals)}]"
    op = draw(st.sampled_from(ops))
    if choice == "items":
        like = [
            other.name
            for other in schema.fields.values()
            if (other.avro, other.logical, other.symbols)
            == (field.avro, field.logical, field.symbols)
        ]
        return f"{field.name} {op} {draw(st.sampled_from(like))}"
    return f"{field.name} {op} {literal(draw, schema, field)}"


def condition(draw: Draw, schema: Schema) -> str:
    terms = [comparison(draw, schema) for _ in range(draw(st.integers(1, 3)))]
    terms = [f"!({term})" if draw(st.booleans()) else term for term in terms]
    return draw(st.sampled_from([" && ", " || "])).join(terms)


def masks(draw: Draw, schema: Schema) -> dict[str, Any]:
    """Some items, in clear or under a mask that fits."""
    items: dict[str, Any] = {}
    for name, field in schema.fields.items():
        ends = {"first": draw(st.integers(0, 3)), "last": draw(st.integers(0, 3))}
        bounds = sorted(draw(st.sets(st.sampled_from([-5, 0, 0.1, 1, 2.5, 1e9]), min_size=1)))
        choices = [
            "clear",
            "clear",
            {"mask": "hash"},
            {"mask": "drop"},
            {"mask": "keep", **ends},
            {"mask": "band", "bounds": bounds},
            {"mask": "band", "by": draw(st.sampled_from(["year", "month"]))},
        ]
        chosen = draw(st.sampled_from([None, *choices]))
        if chosen is None:
            continue
        row = parse_row(listing.grant("g").body() | {"items": {name: chosen}})
        mask = row.items[name]  # type: ignore[union-attr]
        if chosen == "clear" or mask_fits(mask, field):
            items[name] = chosen
    return items or {"town": "clear"}


def grants(draw: Draw, schema: Schema, schemas: dict[int, Schema]) -> list[dict[str, Any]]:
    made = []
    for n in range(draw(st.integers(1, 4))):
        body: dict[str, Any] = listing.grant(f"g{n}").body() | {
            "items": masks(draw, schema),
            "scope": {
                "role": draw(st.sampled_from(["受理地", "受理地", "户籍地", "无"])),
                "regions": draw(
                    st.lists(st.sampled_from(["440000", "441400", "441424100", "440100"]))
                ),
            },
            "condition": condition(draw, schema) if draw(st.booleans()) else None,
            "minors": draw(st.booleans()),
            "cloudevents": draw(st.booleans()),
            "projections": [],
        }
        body["scope"]["regions"] = [r.ljust(12, "0") for r in body["scope"]["regions"]]
        if draw(st.integers(0, 9)) == 7:
            body["suspended"] = {"since": "2026-01-01T00:00:00+08:00", "reason": "x"}
        try:
            row = parse_row(body)
            delivered = project_schema(schema, row.items, DATASET)  # type: ignore[union-attr]
        except Rejected:
            continue
        known = [i for i, each in schemas.items() if each == delivered]
        delivered_id = known[0] if known else 101 + len(schemas)
        schemas[delivered_id] = delivered
        body["projections"] = [
            {"schema_id": 1, "delivered_id": delivered_id, "guid": delivered.guid}
        ]
        made.append(body)
    return made


def fitting(draw: Draw, schema: Schema, *types: str) -> list[str]:
    """Names of items of those Avro types; now and then of any, which then cannot be applied."""
    names = [name for name, field in schema.fields.items() if field.avro in types]
    return names if names and draw(st.integers(0, 19)) != 13 else list(schema.fields)


def quality(draw: Draw, schema: Schema) -> list[dict[str, Any]]:
    rule = draw(st.sampled_from([None] * 9 + ["required", "required", "id_number", "uscc", "sum"]))
    if rule in (None, "sum") and not {"int", "long", "bytes"} & {
        field.avro for field in schema.fields.values()
    }:
        return []
    types = {"sum": ("int", "long"), "required": tuple({f.avro for f in schema.fields.values()})}
    some = st.sampled_from(fitting(draw, schema, *types.get(str(rule), ("string",))))
    names = draw(st.lists(some, min_size=1, max_size=2, unique=True))
    if rule is None:
        return []
    if rule == "sum":
        return [{"rule": "sum", "total": draw(some), "parts": names}]
    return [{"rule": rule, "items": names}]


@st.composite
def worlds(draw: Draw) -> World:
    schema = draw(schemas())
    names = list(schema.fields)
    scalar = [
        name
        for name, field in schema.fields.items()
        if field.avro not in ("array", "map", "record")
    ]
    key = tuple(draw(st.lists(st.sampled_from(scalar), min_size=1, max_size=3, unique=True)))
    registered = {1: schema}
    some = st.lists(st.sampled_from(names), max_size=2, unique=True)
    operation: Any = draw(st.sampled_from([None, None, None, None, "ce_type", "item"]))
    if operation == "item":
        operation = {"item": draw(st.sampled_from(fitting(draw, schema, "string", "enum")))}
    body = listing.dataset().body() | {
        "key": key,
        "regions": {
            "受理地": "town",
            "户籍地": draw(st.sampled_from(fitting(draw, schema, "string"))),
        },
        "subjects": draw(st.sampled_from([[], [], ["town"]])),
        "birth_items": draw(some),
        "quality": quality(draw, schema),
        "operation": operation,
        "schemas": [{"version": 1, "id": 1, "guid": schema.guid, "digest": schema.digest.hex()}],
    }
    rows = [listing.bus(lanes=LANES), listing.organisation(), listing.requester()]
    rows += [listing.system(), parse_row(body)]
    rows += [parse_row(each) for each in grants(draw, schema, registered)]
    version = next_version(None, rows, (), 0)
    plain, compiled = (
        build_policy(version, registered, TABLE, keys, make)[DATASET]
        for make in (PolicyInterpreter, CompiledPolicy)
    )
    assert isinstance(compiled, CompiledPolicy)
    return World(schema, key, plain, compiled)


def inbound(draw: Draw, world: World, body: bytes, key: bytes) -> InboundRecord:
    headers = {
        "shutong_publisher": f"{listing.PROVIDER}/wuhua-civil",
        "ce_id": draw(st.sampled_from(["event-1", "事件", "a b", None])),
        "ce_type": draw(
            st.sampled_from(
                [None, None, None, None, "x.put", "x.put", "x.correct", "x.delete", "x.y"]
            )
        ),
    }
    return InboundRecord(
        dataset=DATASET,
        partition=partition_of(key, LANES),
        offset=draw(st.integers(0, 2**40)),
        key=key,
        value=frame(1, body),
        headers=tuple((name, each.encode()) for name, each in headers.items() if each is not None),
        timestamp_ms=NOW_MS,
    )


def agreed(world: World, record: InboundRecord, now_ms: int) -> tuple[Decision, bool]:
    """The one decision of both, and whether the generated code left it to the interpreter."""
    before = world.compiled.declined
    plain = world.plain.decide(record, LaneFacts(), now_ms)
    compiled = world.compiled.decide(record, LaneFacts(), now_ms)
    assert compiled == plain
    assert world.compiled.id_hash(record) == world.plain.id_hash(record)
    told = [each.grant for each in (*compiled.placements, *compiled.withheld)]
    assert plain.refusal is not None or sorted(told) == list(world.plain.grants)
    return plain, world.compiled.declined > before


@st.composite
def records(draw: Draw) -> tuple[World, dict[str, Any]]:
    world = draw(worlds())
    datum = draw(avro.data(world.schema.record))
    if draw(st.integers(0, 9)) != 7:
        some = REGIONS if draw(st.integers(0, 4)) == 3 else REGIONS[:4]
        datum["town"] = draw(st.sampled_from(some))
    for name, field in world.schema.fields.items():
        usual = USUAL.get((field.avro, field.logical))
        if usual and name != "town" and draw(st.booleans()):
            datum[name] = draw(st.sampled_from(usual))
    return world, datum


def may_be_left(text: str, decision: Decision) -> bool:
    """Whether the generated code has a reason to leave this to the interpreter."""
    return (
        "by the interpreter:" in text
        or decision.refusal in LEFT
        or any(each.reason is Reason.CONDITION_ERROR for each in decision.withheld)
    )


SEEN: Counter[Any] = Counter()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
    database=None,
)
@given(st.data())
def compare(data: st.DataObject) -> None:
    world, datum = data.draw(records())
    text = world.compiled.explain_source()
    SEEN["left to the interpreter" if "by the interpreter:" in text else "generated"] += 1
    body = encode(world.schema, datum)
    key = key_bytes(world.schema, world.key, datum)
    record = inbound(data.draw, world, body, key)
    for moment in (NOW_MS, NOW_MS + 7 * 86_400_000, -(10**9), BEYOND):
        decision, declined = agreed(world, record, moment)
        SEEN[decision.refusal and decision.refusal.name] += 1
        SEEN.update(each.reason.name for each in decision.withheld)
        SEEN["placed"] += len(decision.placements)
        assert not declined or moment == BEYOND or may_be_left(text, decision)
    for _ in range(6):
        nearly = data.draw(avro.mutated(body))
        decision, declined = agreed(world, record._replace(value=frame(1, nearly)), NOW_MS)
        SEEN["nearly", decision.refusal and decision.refusal.name] += 1
        assert not declined or may_be_left(text, decision)


def missed() -> dict[Any, int]:
    """What the comparison is there to try and has hardly tried."""
    shown = ["placed", "REGION_OUT_OF_SCOPE", "CONDITION_NOT_MET", "MINOR_NOT_GRANTED"]
    wanted = [*shown, ("nearly", "MALFORMED"), ("nearly", "NOT_CANONICAL"), ("nearly", None)]
    return {name: SEEN[name] for name in wanted if SEEN[name] < TIMES_MIN}


def test_the_generated_decision_equals_the_plain_one_for_every_schema_and_list() -> None:
    SEEN.clear()
    for done in range(ROUNDS_MAX):
        if done < ROUNDS_MIN or missed():
            compare()
    assert missed() == {}
    assert SEEN["generated"] > SEEN["left to the interpreter"]


@settings(max_examples=300, deadline=None, database=None)
@given(st.data(), st.integers(0, 70), st.integers(1, 64))
def test_a_lane_is_kafkas_partition(data: st.DataObject, size: int, lanes: int) -> None:
    some = st.binary(min_size=size, max_size=size) | st.binary(min_size=size, max_size=size)
    same = data.draw(st.lists(some, max_size=20))
    mixed = data.draw(st.lists(st.binary(max_size=70) | st.none(), max_size=20))
    for some_keys in (same, mixed):
        plain = [-1 if key is None else partition_of(key, lanes) for key in some_keys]
        assert lanes_of(some_keys, lanes) == plain
