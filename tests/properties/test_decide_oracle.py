"""The policy against an independent reading of the rules, on random records and lists.

Each example is aimed at one reason: a sound case is drawn, then bent so that this reason applies,
sometimes bent once more so that precedence is tried too. The run counts what came out and fails
if a reason or a pair of mask and type was hardly seen.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from properties import oracle
from properties.oracle import Item
from shutong_broker.policy.build import build_policy
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.model import Decision, InboundRecord, LaneFacts
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import parse_table
from shutong_core.domain.version import next_version, parse_row
from shutong_core.wire.projection import project_schema
from shutong_core.wire.schemas import Schema, parse_schema_text
from unit import listing_fixtures as listing

EXAMPLES_PER_ROUND = 20
ROUNDS_MAX = 8
REASON_TIMES_MIN = 10
MASK_TIMES_MIN = 20
LANES = 6
NOW_MS = 1_795_000_000_000  # 2026-11-18
WUHUA, MEIZHOU = listing.WUHUA, listing.MEIZHOU
#: Reasons that deciding gives; the others belong to requests.
DECIDED = {reason.name for reason in Reason if reason.number < 150}
PROVIDER, NEIGHBOUR = listing.PROVIDER, listing.REQUESTER

ROWS = (
    ("000000000000", "0", "国家", "", "nation"),
    ("440000000000", "1", "省级", "000000000000", "province"),
    ("440100000000", "2", "地级", "440000000000", "city"),
    ("440106000000", "3", "县级", "440100000000", "county"),
    ("440106001000", "4", "街道", "440106000000", "town"),
    ("441400000000", "2", "地级", "440000000000", "city"),
    ("441424000000", "3", "县级", "441400000000", "county"),
    ("441424100000", "4", "镇", "441424000000", "town"),
    ("441424104000", "4", "镇", "441424000000", "town"),
    ("441481000000", "3", "县级", "441400000000", "county"),
    ("441481100000", "4", "镇", "441481000000", "town"),
    ("441900000000", "2", "不设区县的地级市", "440000000000", "city"),
    ("441900003000", "4", "街道", "441900000000", "town"),
)
TABLE = parse_table(
    (
        "#divisions\t2023-06-30\n"
        + "".join(f"{code}\t{n}\t{kind}\t{up}\tx\n" for code, n, kind, up, _ in ROWS)
        + "!441425000000\tx\t1990\t441481000000\n"
        + "!441426000000\tx\t1990\t441424000000,441481000000\n"
    ).encode()
)
CODES = [row[0] for row in ROWS]
IN_WUHUA = ["441424", "441424100", "441424104000", "441424000000", "441424100000@self"]
ANYWHERE = [*CODES, "440106", "441425", "441900003", "440000000000@self", "441424@self"]
NOWHERE = ["", "441426000000", "999999", "4414", "441424100000@other", "中国", "０" * 12]

ITEMS = (
    Item("doc", "string"),
    Item("seq", "long"),
    Item("idno", "string", nullable=True),
    Item("owner", "string", nullable=True),
    Item("name", "string"),
    Item("kind", "enum", symbols=("URBAN", "RURAL", "OTHER")),
    Item("kind2", "enum", nullable=True, symbols=("A", "B")),
    Item("flag", "boolean", nullable=True),
    Item("sure", "boolean"),
    Item("small", "int"),
    Item("total", "int"),
    Item("part_a", "int"),
    Item("part_b", "int", nullable=True),
    Item("big", "long", nullable=True),
    Item("f", "float"),
    Item("f2", "float", nullable=True),
    Item("x", "double", nullable=True),
    Item("y", "double"),
    Item("fee", "decimal"),
    Item("fee2", "decimal", nullable=True, precision=5, scale=0),
    Item("day", "date"),
    Item("born", "date", nullable=True),
    Item("at", "millis"),
    Item("at2", "millis", nullable=True),
    Item("blob", "bytes", nullable=True),
    Item("raw", "bytes"),
    Item("region", "string"),
    Item("home", "string", nullable=True),
    Item("deed", "string", nullable=True),
)
AVRO: dict[str, Any] = {
    **{name: name for name in ("string", "int", "long", "float", "double", "boolean", "bytes")},
    "date": {"type": "int", "logicalType": "date"},
    "millis": {"type": "long", "logicalType": "timestamp-millis"},
}
MASKS_OF = {
    "keep": {"string"},
    "band": {"int", "long", "float", "double", "decimal"},
    "year": {"date"},
    "month": {"date"},
}
TYPES = {item.type for item in ITEMS}
PAIRS = {(mask, kind) for mask, kinds in MASKS_OF.items() for kind in kinds} | {
    (mask, kind) for mask in ("hash", "drop", "clear") for kind in TYPES
}


@lru_cache(maxsize=64)
def schema_of(items: tuple[Item, ...]) -> Schema:
    fields = []
    for item in items:
        avro = AVRO.get(item.type)
        if item.type == "enum":
            avro = {"type": "enum", "name": f"E_{item.name}", "symbols": list(item.symbols)}
        if item.type == "decimal":
            avro = {"type": "bytes", "logicalType": "decimal"}
            avro |= {"precision": item.precision, "scale": item.scale}
        metadata = {"title": item.name, "grade": item.grade}
        if item.share is not None:
            metadata["share"] = item.share
        made: dict[str, Any] = {"name": item.name, "type": avro, "shutong": metadata}
        if item.nullable:
            made |= {"type": ["null", avro], "default": None}
        fields.append(made)
    return parse_schema_text(
        json.dumps({"type": "record", "name": "R", "namespace": "gov", "fields": fields})
    )


@lru_cache(maxsize=2048)
def projected(items: tuple[Item, ...], grant_items: str) -> Schema:
    grant = parse_row(listing.grant("g").body() | {"items": json.loads(grant_items)})
    return project_schema(schema_of(items), grant.items, "minimum-living")  # type: ignore[union-attr]


# Values. Texts hold no NUL (SQLite) and no surrogates (UTF-8).
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
ADULT_DAYS = st.integers(-18000, 15000)  # 1920 … 2011-01


def id_number(days: int, serial: int = 1) -> str:
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)
    body = f"440000{day:%Y%m%d}{serial:03d}"
    total = sum(int(c) * (2 ** (17 - n) % 11) for n, c in enumerate(body))
    return body + "10X98765432"[total % 11]


def value_of(item: Item) -> st.SearchStrategy[Any]:
    special: dict[str, st.SearchStrategy[Any]] = {
        "doc": st.text("AZ中19-", min_size=1, max_size=6),
        "idno": ADULT_DAYS.map(id_number),
        "owner": st.integers(1, 999).map(listing.uscc),
        "born": ADULT_DAYS,
        "region": st.sampled_from(IN_WUHUA),
        "home": st.sampled_from(ANYWHERE),
        "deed": st.sampled_from(["put", "correct", "delete"]),
        "part_a": st.integers(-1000, 1000),
        "part_b": st.integers(-1000, 1000),
    }
    cents = 10**item.precision - 1
    by_type: dict[str, st.SearchStrategy[Any]] = {
        "string": TEXT,
        "enum": st.sampled_from(item.symbols or ("",)),
        "boolean": st.booleans(),
        "int": st.integers(-40, 40) | st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-40, 40) | st.integers(-(2**63), 2**63 - 1),
        "float": st.integers(-160, 160).map(lambda n: n / 4)
        | st.floats(width=32, allow_nan=False, allow_infinity=False),
        "double": st.integers(-160, 160).map(lambda n: n / 4)
        | st.floats(allow_nan=False, allow_infinity=False),
        "decimal": (st.integers(-4000, 4000) | st.integers(-cents, cents)).map(
            lambda n: Fraction(n, 10**item.scale)
        ),
        "date": st.integers(-30000, 30000),
        "millis": st.integers(-(10**12), 2 * 10**12),
        "bytes": st.binary(max_size=6),
    }
    strategy = special.get(item.name, by_type[item.type])
    return strategy | st.none() if item.nullable else strategy


VALUES = st.fixed_dictionaries({item.name: value_of(item) for item in ITEMS})
BOUNDS = st.lists(st.integers(-160, 160), min_size=1, max_size=4, unique=True).map(
    lambda quarters: sorted(n / 4 for n in quarters)
)


def mask_of(item: Item) -> st.SearchStrategy[Any]:
    choices: list[st.SearchStrategy[Any]] = [
        st.just("clear"),
        st.just({"mask": "hash"}),
        st.just({"mask": "drop"}),
    ]
    if item.type in MASKS_OF["keep"]:
        ends = st.integers(0, 3)
        choices.append(
            st.fixed_dictionaries({"mask": st.just("keep"), "first": ends, "last": ends})
        )
    if item.type in MASKS_OF["band"]:
        choices.append(st.fixed_dictionaries({"mask": st.just("band"), "bounds": BOUNDS}))
    if item.type == "date":
        choices.append(
            st.sampled_from(["year", "month"]).map(lambda by: {"mask": "band", "by": by})
        )
    return st.one_of(choices)


GRANT_ITEMS = st.fixed_dictionaries({}, optional={item.name: mask_of(item) for item in ITEMS}).map(
    lambda items: {**items, "sure": "clear"}
)


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, str, tuple[Any, ...]]:
    """One comparison or has, maybe negated or joined with another: (CEL, SQL, parameters)."""
    item = draw(st.sampled_from(["small", "kind", "flag", "x", "kind2"]))
    of = next(each for each in ITEMS if each.name == item)
    if draw(st.booleans()) and of.nullable:
        made = (f"has({item})", f"({item} IS NOT NULL)", ())
    else:
        strategy = value_of(replace(of, nullable=False))
        value = draw(strategy.map(float) if item == "x" else strategy)
        op = draw(st.sampled_from(["==", "!="] if of.type in ("enum", "boolean") else ["<", ">="]))
        text = json.dumps(value) if isinstance(value, str | bool) else repr(value)
        made = (f"{item} {op} {text}", f"({item} {'=' if op == '==' else op} ?)", (value,))
    if draw(st.booleans()):
        made = (f"!({made[0]})", f"(NOT {made[1]})", made[2])
    if draw(st.integers(0, 3)) == 2:
        other = draw(conditions())
        cel, sql = draw(st.sampled_from([("&&", "AND"), ("||", "OR")]))
        made = (
            f"({made[0]}) {cel} ({other[0]})",
            f"({made[1]} {sql} {other[1]})",
            made[2] + other[2],
        )
    return made


@dataclass
class Case:
    """A sound case until bent; the record is rendered last."""

    dataset: dict[str, Any]
    grants: list[dict[str, Any]]
    sql: dict[str, tuple[str, tuple[Any, ...]]]
    values: dict[str, Any]
    headers: list[tuple[str, bytes]]
    versions: dict[int, tuple[Item, ...]]
    schema_id: int = 1
    negatives: list[dict[str, Any]] = field(default_factory=list)
    systems: dict[str, str] = field(
        default_factory=lambda: {"wuhua-civil": PROVIDER, "meizhou-civil": NEIGHBOUR}
    )
    topic_of: str = "minimum-living"
    repeat: str | None = None
    now_ms: int = NOW_MS
    on_body: Callable[[bytes], bytes] | None = None
    on_value: Callable[[bytes], bytes | None] | None = None
    on_key: Callable[[bytes], bytes | None] | None = None
    partition_shift: int = 0


SCOPES = st.one_of(
    st.just({"role": "受理地", "regions": [MEIZHOU]}),
    st.just({"role": "受理地", "regions": [WUHUA, "440100000000"]}),
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["受理地", "户籍地"]),
            "regions": st.lists(
                st.sampled_from([*CODES, "440000000000@self"]), min_size=1, max_size=3
            ),
        }
    ),
)
CLASSES = st.fixed_dictionaries(
    {
        "level": st.sampled_from(["province", "city", "county", "town"]),
        "within": st.sampled_from(CODES),
        "also": st.lists(st.sampled_from(CODES), max_size=1),
    }
)


@st.composite
def grants(draw: st.DrawFn, grant_id: str) -> tuple[dict[str, Any], tuple[Any, ...] | None]:
    body = listing.grant(grant_id).body() | {
        "items": draw(GRANT_ITEMS),
        "scope": draw(SCOPES),
        "cloudevents": draw(st.booleans()),
        "minors": draw(st.booleans()),
        "key_epoch": draw(st.integers(1, 3)),
    }
    if draw(st.integers(0, 3)) == 2:
        del body["requester"]
        body["requester_class"] = draw(CLASSES)
        body["scope"] = {"role": draw(st.sampled_from(["受理地", "户籍地"]))}
    if draw(st.integers(0, 2)) > 0:
        return body, None
    cel, sql, values = draw(conditions())
    return body | {"condition": cel}, (sql, values)


@st.composite
def sound_cases(draw: st.DrawFn) -> Case:
    """A record that no check refuses; grants may place or withhold it."""
    values = draw(VALUES)
    values["total"] = values["part_a"] + (values["part_b"] or 0)
    rules: list[dict[str, Any]] = [
        {"rule": "required", "items": ["doc", "region"]},
        {"rule": "id_number", "items": ["idno"]},
        {"rule": "uscc", "items": ["owner"]},
    ]
    if values["part_b"] is not None:
        rules.append({"rule": "sum", "total": "total", "parts": ["part_a", "part_b"]})
    operation = draw(st.sampled_from([None, "ce_type", {"item": "deed"}]))
    dataset = listing.dataset().body() | {
        "key": draw(
            st.sampled_from([["doc"], ["seq"], ["idno"], ["seq", "doc"], ["kind", "doc", "day"]])
        ),
        "regions": {"受理地": "region", "户籍地": "home"},
        "subjects": draw(st.sampled_from([[], ["idno"], ["name", "idno"]])),
        "birth_items": draw(st.sampled_from([[], ["idno"], ["born"], ["idno", "born"]])),
        "quality": draw(st.lists(st.sampled_from(rules), max_size=4, unique_by=repr)),
        "inbound": draw(st.sampled_from(["producer_service", "producer_service", "own_client"])),
    }
    if operation is not None:
        dataset["operation"] = operation
    headers = [("shutong_publisher", f"{PROVIDER}/wuhua-civil".encode())]
    if draw(st.booleans()):
        headers.append(("ce_id", draw(st.sampled_from(["a", "事件 1", "x" * 128])).encode()))
    if operation == "ce_type" and draw(st.booleans()):
        suffix = draw(st.sampled_from(["put", "correct", "delete"]))
        headers.append(("ce_type", f"minimum-living.{suffix}".encode()))
    if draw(st.booleans()):
        headers.append(("note", b"\xff\x00"))
    drawn = [draw(grants(f"g{n}")) for n in range(draw(st.integers(1, 3)))]
    versions = {1: ITEMS, 2: tuple(each for each in ITEMS if each.name not in ("y", "raw"))}
    return Case(
        dataset=dataset,
        grants=[body for body, _ in drawn],
        sql={body["id"]: sql for body, sql in drawn if sql is not None},
        values=values,
        headers=headers,
        versions=versions,
        schema_id=draw(st.sampled_from([1, 1, 2])),
    )


def without_header(case: Case, name: str) -> None:
    case.headers = [each for each in case.headers if each[0] != name]


def with_header(case: Case, name: str, value: bytes) -> None:
    without_header(case, name)
    case.headers.append((name, value))


def easy(grant: dict[str, Any], case: Case) -> dict[str, Any]:
    """The first grant with nothing that could withhold before what the aim is about."""
    grant.pop("requester_class", None)
    grant.pop("condition", None)
    case.sql.pop(grant["id"], None)
    grant |= {"requester": NEIGHBOUR, "minors": True}
    grant["scope"] = {"role": "受理地", "regions": ["440000000000"]}
    if case.values["region"].endswith("@self"):
        case.values["region"] = "441424100000"
    return grant


# Bends: one for each reason, by name; each takes the drawing function and the case.
Draw = Any


def dataset_not_in_force(draw: Draw, case: Case) -> None:
    if draw(st.booleans()):
        case.topic_of = "another"
    else:
        case.dataset["nature"] = "state"


def null_value(draw: Draw, case: Case) -> None:
    case.on_value = lambda _: None


def null_key(draw: Draw, case: Case) -> None:
    case.on_key = lambda _: None


def too_large(draw: Draw, case: Case) -> None:
    kind = draw(st.sampled_from(["value", "headers", "count"]))
    if kind == "value":
        case.on_value = lambda value: value + bytes(2**20)
    elif kind == "headers":
        case.headers.append(("big", bytes(8193)))
    else:
        case.headers += [("h", b"")] * 33


def bad_framing(draw: Draw, case: Case) -> None:
    head = draw(st.sampled_from([b"\x01\0\0\0\1abc", b"", b"\0\0\0\1", b"{}"]))
    case.on_value = lambda _: head


def unknown_schema(draw: Draw, case: Case) -> None:
    case.on_value = lambda value: b"\0\0\0\0\x4d" + (value or b"")[5:]


def malformed(draw: Draw, case: Case) -> None:
    kind = draw(st.sampled_from(["cut", "more", "twice", "control"]))
    if kind == "cut":
        cut = draw(st.integers(1, 20))
        case.on_body = lambda body: body[:-cut]
    elif kind == "more":
        case.on_body = lambda body: body + b"\0"
    elif kind == "twice":
        case.headers += [("ce_type", b"a.put"), ("ce_type", b"a.put")]
    else:
        with_header(case, "ce_type", b"a\x07.put")


def not_canonical(draw: Draw, case: Case) -> None:
    # The first item is a short text: its length gets a second, empty group.
    case.on_body = lambda body: bytes([body[0] | 0x80, 0]) + body[1:]


def wrong_key(draw: Draw, case: Case) -> None:
    extra = draw(st.binary(min_size=1, max_size=3))
    case.on_key = lambda key: key + extra


def wrong_partition(draw: Draw, case: Case) -> None:
    case.partition_shift = draw(st.integers(1, LANES - 1))


def unknown_publisher(draw: Draw, case: Case) -> None:
    if case.dataset["inbound"] == "own_client":
        case.systems["wuhua-second"] = PROVIDER
        return
    told = [f"{PROVIDER}/nobody", f"{PROVIDER}/meizhou-civil", "nonsense", ""]
    with_header(case, "shutong_publisher", draw(st.sampled_from(told)).encode())


def publisher_not_allowed(draw: Draw, case: Case) -> None:
    case.dataset["inbound"] = "producer_service"
    with_header(case, "shutong_publisher", f"{NEIGHBOUR}/meizhou-civil".encode())


def publisher_of_another_region(draw: Draw, case: Case) -> None:
    publisher_not_allowed(draw, case)
    region = draw(st.sampled_from(CODES))
    case.dataset["publishers"] = [{"organisation": NEIGHBOUR, "region": region}]


def own_client_for_the_provider(draw: Draw, case: Case) -> None:
    publisher_of_another_region(draw, case)
    case.dataset["inbound"] = "own_client"
    without_header(case, "shutong_publisher")


def unknown_operation(draw: Draw, case: Case) -> None:
    operation = case.dataset.get("operation")
    if isinstance(operation, dict):
        case.values["deed"] = draw(st.sampled_from(["", "PUT", "erase"]))
    else:
        suffix = "delete" if operation is None else draw(st.sampled_from(["erase", "Put", "a"]))
        with_header(case, "ce_type", f"minimum-living.{suffix}".encode())


def unknown_region(draw: Draw, case: Case) -> None:
    case.values["region"] = draw(st.sampled_from(NOWHERE))


def out_of_jurisdiction(draw: Draw, case: Case) -> None:
    outside = ["441481100000", "440106", "441400000000", "000000000000", "441900003000"]
    case.values["region"] = draw(st.sampled_from(outside))


def secret(draw: Draw, case: Case) -> None:
    if draw(st.booleans()):
        case.dataset["secrecy"] = draw(st.sampled_from(["work", "state"]))
    else:
        change_item(case, draw(st.sampled_from(["blob", "sure"])), grade="core")


def required_missing(draw: Draw, case: Case) -> None:
    item, empty = draw(st.sampled_from([("name", ""), ("blob", None), ("blob", b""), ("x", None)]))
    case.values[item] = empty
    case.dataset["quality"] = [{"rule": "required", "items": ["kind", item]}]


def bad_id_number(draw: Draw, case: Case) -> None:
    case.values["idno"] = draw(st.sampled_from(["", "1", "440000199001010010", "x" * 18]))
    case.dataset["quality"] = [{"rule": "id_number", "items": ["owner", "idno"][1:]}]


def bad_uscc(draw: Draw, case: Case) -> None:
    case.values["owner"] = draw(st.sampled_from(["", PROVIDER[:-1] + "I", PROVIDER.lower()]))
    case.dataset["quality"] = [{"rule": "uscc", "items": ["owner"]}]


def items_disagree(draw: Draw, case: Case) -> None:
    if draw(st.booleans()):
        case.values["part_b"] = None
    else:
        case.values["total"] += draw(st.sampled_from([-1, 1]))
        case.values["part_b"] = case.values["part_b"] or 0
    case.dataset["quality"] = [{"rule": "sum", "total": "total", "parts": ["part_a", "part_b"]}]


def rule_error(draw: Draw, case: Case) -> None:
    case.dataset["quality"] = [
        {"rule": "id_number", "items": [draw(st.sampled_from(["seq", "day"]))]}
    ]


def bad_event_id(draw: Draw, case: Case) -> None:
    bad = draw(st.sampled_from([b"", b"\x07", b"x" * 129, b"\xff\xfe"]))
    with_header(case, "ce_id", bad)


def duplicate(draw: Draw, case: Case) -> None:
    case.repeat = "DUPLICATE"


def id_reused(draw: Draw, case: Case) -> None:
    case.repeat = "ID_REUSED"


def region_out_of_scope(draw: Draw, case: Case) -> None:
    grant = easy(case.grants[0], case)
    grant["scope"]["regions"] = draw(
        st.lists(st.sampled_from(["440100000000", "441481000000", "441900000000"]), min_size=1)
    )


def condition_not_met(draw: Draw, case: Case) -> None:
    grant = easy(case.grants[0], case)
    item = draw(st.sampled_from(["x", "flag"]))
    case.values[item] = None
    text, sql = draw(
        st.sampled_from(
            [
                ("has({})", "({} IS NOT NULL)"),
                ("{} != {v}", "({} <> 1)"),
                ("!({} == {v})", "NOT ({} = 1)"),
            ]
        )
    )
    grant["condition"] = text.format(item, v="true" if item == "flag" else "1")
    case.sql[grant["id"]] = (sql.format(item), ())


def condition_error(draw: Draw, case: Case) -> None:
    grant = easy(case.grants[0], case)
    grant["condition"] = draw(st.sampled_from(["nickname == 1", "small ==", "small", "raw == 'x'"]))


def move_to(case: Case, text: str) -> None:
    moment = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    case.now_ms = moment // timedelta(milliseconds=1)


def not_yet_valid(draw: Draw, case: Case) -> None:
    early = ["2025-12-31T23:59:59.999Z", "2020-02-29T00:00:00Z", "2026-01-01T07:59:59.999+08:00"]
    move_to(case, draw(st.sampled_from(early)))


def expired(draw: Draw, case: Case) -> None:
    move_to(case, draw(st.sampled_from(["2027-01-01T00:00:00Z", "2031-05-05T05:05:05Z"])))


def at_the_edges(draw: Draw, case: Case) -> None:
    edges = ["2026-01-01T00:00:00Z", "2026-12-31T23:59:59.999Z"]
    move_to(case, draw(st.sampled_from(edges)))
    easy(case.grants[0], case)


def suspended(draw: Draw, case: Case) -> None:
    since = NOW_MS + draw(st.sampled_from([0, -1, -10_000, 0, 1]))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=since)
    case.grants[0]["suspended"] = {"since": moment.isoformat(), "reason": "核查"}


def minor_not_granted(draw: Draw, case: Case) -> None:
    grant = easy(case.grants[0], case)
    grant["minors"] = False
    case.dataset["birth_items"] = ["idno", "born"]
    case.dataset["quality"] = []
    today = NOW_MS // 86_400_000
    near = st.integers(today - 14 * 366, today - 13 * 365)
    if draw(st.booleans()):
        case.values["born"] = draw(near | st.integers(today - 4000, today + 10))
    else:
        case.values["idno"] = draw(near.map(id_number) | st.sampled_from(["", "1", "x" * 18]))


def around_the_birthday(draw: Draw, case: Case) -> None:
    minor_not_granted(draw, case)
    turning_14 = NOW_MS // 86_400_000 - 14 * 365 - 3  # three leap days lie between
    case.values["born"] = turning_14 + draw(st.integers(-1, 1))
    case.values["idno"] = None


def grant_region_unknown(draw: Draw, case: Case) -> None:
    grant = easy(case.grants[0], case)
    grant["scope"]["role"] = draw(st.sampled_from(["户籍地", "居住地"]))
    case.values["home"] = draw(st.sampled_from([None, *NOWHERE]))


def schema_not_granted(draw: Draw, case: Case) -> None:
    grant = case.grants[0]
    if draw(st.booleans()):
        grant["projections"] = []
    else:
        grant["items"] |= {"raw": "clear", "small": {"mask": "keep", "first": 1}}


def negative_list(draw: Draw, case: Case) -> None:
    kind = draw(st.sampled_from(["row", "all", "item", "dataset"]))
    if kind == "dataset":
        case.dataset["share"] = "not_shared"
    elif kind == "item":
        item = draw(st.sampled_from(["sure", "name"]))
        change_item(case, item, share="not_shared")
    else:
        items = draw(st.lists(st.sampled_from(["sure", "name", "x"]), min_size=1, max_size=2))
        case.negatives.append({"id": "no", "items": items if kind == "row" else []})


def placed(draw: Draw, case: Case) -> None:
    """Nothing withholds, and every item is granted in some form."""
    for grant in case.grants:
        easy(grant, case)
        grant["items"] = {item.name: draw(mask_of(item)) for item in ITEMS} | {"sure": "clear"}


def alike(draw: Draw, case: Case) -> None:
    """Grants that differ in nothing but their keys, or in how much a mask keeps."""
    placed(draw, case)
    first = case.grants[0]
    first["items"] = {"sure": "clear", "name": {"mask": "keep", "first": 1}}
    if draw(st.booleans()):
        first["items"]["seq"] = {"mask": "hash"}
    case.grants = [
        first,
        first | {"id": "g8"},
        first | {"id": "g9", "items": first["items"] | {"name": {"mask": "keep", "first": 2}}},
    ]
    case.sql = {}


def flipped(draw: Draw, case: Case) -> None:
    place, bit = draw(st.integers(0, 400)), draw(st.integers(0, 7))

    def flip(body: bytes) -> bytes:
        at = place % len(body)
        return body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]

    case.on_body = flip


def change_item(case: Case, name: str, **change: Any) -> None:
    case.versions = {
        n: tuple(replace(each, **change) if each.name == name else each for each in items)
        for n, items in case.versions.items()
    }


BENDS: dict[str, Callable[[Draw, Case], None]] = {
    bend.__name__: bend
    for bend in (
        dataset_not_in_force,
        null_value,
        null_key,
        too_large,
        bad_framing,
        unknown_schema,
        malformed,
        not_canonical,
        wrong_key,
        wrong_partition,
        unknown_publisher,
        publisher_not_allowed,
        publisher_of_another_region,
        own_client_for_the_provider,
        unknown_operation,
        unknown_region,
        out_of_jurisdiction,
        secret,
        required_missing,
        bad_id_number,
        bad_uscc,
        items_disagree,
        rule_error,
        bad_event_id,
        duplicate,
        id_reused,
        region_out_of_scope,
        condition_not_met,
        condition_error,
        not_yet_valid,
        expired,
        at_the_edges,
        suspended,
        minor_not_granted,
        around_the_birthday,
        grant_region_unknown,
        schema_not_granted,
        negative_list,
        placed,
        alike,
        flipped,
    )
}


@st.composite
def cases(draw: st.DrawFn, aim: str) -> Case:
    case = draw(sound_cases())
    if draw(st.integers(0, 4)) == 3:
        BENDS[draw(st.sampled_from(sorted(BENDS)))](draw, case)
    BENDS[aim](draw, case)
    return case


# Running a case by both readings.


def secret_of(key_id: str) -> bytes:
    return (key_id.encode() * 3)[:32]


def bind(case: Case) -> dict[int, Schema]:
    """Registers schemas and projections, as publishing does, and puts the ids into the rows."""
    schemas = {n: schema_of(items) for n, items in case.versions.items()}
    case.dataset["schemas"] = [
        {"version": n, "id": n, "guid": each.guid, "digest": each.digest.hex()}
        for n, each in sorted(schemas.items())
    ]
    for grant in case.grants:
        if grant.get("projections") == [] and "bound" not in grant:
            continue
        grant["projections"] = []
        for n in case.versions:
            try:
                delivered = projected(case.versions[n], json.dumps(grant["items"]))
            except Rejected:
                continue
            known = [i for i, each in schemas.items() if i > 100 and each == delivered]
            delivered_id = known[0] if known else 101 + len(schemas)
            schemas[delivered_id] = delivered
            grant["projections"].append(
                {"schema_id": n, "delivered_id": delivered_id, "guid": delivered.guid}
            )
    return schemas


def render(case: Case) -> dict[str, Any]:
    items = case.versions[case.schema_id]
    body = b"".join(oracle.write_item(item, case.values[item.name]) for item in items)
    key: bytes | None = oracle.key_of(items, case.dataset["key"], case.values)
    if case.on_body is not None:
        body = case.on_body(body)
    value: bytes | None = b"\0" + struct.pack(">I", case.schema_id) + body
    if case.on_value is not None and value is not None:
        value = case.on_value(value)
    if case.on_key is not None and key is not None:
        key = case.on_key(key)
    lane = (oracle.murmur2(key or b"") & (2**31 - 1)) % LANES
    return {
        "dataset": case.topic_of,
        "partition": (lane + case.partition_shift) % LANES,
        "offset": 77,
        "key": key,
        "value": value,
        "headers": case.headers,
        "timestamp_ms": NOW_MS - 1234,
    }


def decided(case: Case, schemas: dict[int, Schema], record: dict[str, Any]) -> Decision:
    """What both implementations decide; they must agree to the byte."""
    bodies = [
        case.dataset,
        *case.grants,
        *(
            {"kind": "negative", "dataset": "minimum-living", "basis": "示例"} | row
            for row in case.negatives
        ),
        *(
            {"kind": "system", "id": system, "organisation": owner, "title": "x"}
            for system, owner in case.systems.items()
        ),
    ]
    rows = [
        listing.bus(lanes=LANES),
        listing.organisation(),
        listing.requester(),
        *(parse_row(body) for body in bodies),
    ]
    version = next_version(None, rows, (), 0)
    facts = LaneFacts(Reason[case.repeat] if case.repeat else None)
    policies = [
        build_policy(version, schemas, TABLE, secret_of, make)["minimum-living"]
        for make in (PolicyInterpreter, CompiledPolicy)
    ]
    inbound = InboundRecord(**record)
    plain, compiled = (policy.decide(inbound, facts, case.now_ms) for policy in policies)
    assert compiled == plain
    assert policies[0].id_hash(inbound) == policies[1].id_hash(inbound)
    # A record that is placed or withheld never needs the slow way.
    assert isinstance(policies[1], CompiledPolicy)
    assert plain.refusal is not None or not policies[1].declined
    return plain


def expected(case: Case, record: dict[str, Any]) -> oracle.Verdict:
    world = oracle.World(
        lanes=LANES,
        dataset=case.dataset,
        grants=case.grants,
        negatives=case.negatives,
        organisations={PROVIDER: WUHUA, NEIGHBOUR: MEIZHOU},
        systems=case.systems,
        schemas=case.versions,
        parents={row[0]: row[3] for row in ROWS},
        levels={row[0]: row[4] for row in ROWS},
        retired={"441425000000": "441481000000"},
        keys=secret_of,
        sql=case.sql,
    )
    return oracle.decide(world, record, case.repeat, case.now_ms)


def as_verdict(decision: Decision) -> oracle.Verdict:
    return oracle.Verdict(
        refusal=decision.refusal.name if decision.refusal else None,
        path=decision.path,
        publisher=decision.publisher,
        event_id=decision.event_id,
        body=decision.body,
        tokens=list(decision.tokens),
        operation=str(decision.operation),
        placed={each.grant: (each.key, each.value, each.headers) for each in decision.placements},
        withheld={each.grant: each.reason.name for each in decision.withheld},
    )


def count(case: Case, verdict: oracle.Verdict, seen: Counter[Any]) -> None:
    if verdict.refusal is not None:
        seen[verdict.refusal] += 1
    seen.update(verdict.withheld.values())
    types = {item.name: item.type for item in case.versions[case.schema_id]}
    for grant in case.grants:
        if grant["id"] not in verdict.placed:
            continue
        for name, mask in grant["items"].items():
            if name in types and case.values[name] is not None:
                how = mask if mask == "clear" else mask.get("by") or mask["mask"]
                seen[how, types[name]] += 1


def compare(aim: str, seen: Counter[Any]) -> None:
    """One round of examples for one aim; counts what came out."""

    @settings(
        max_examples=EXAMPLES_PER_ROUND,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        database=None,
    )
    @given(cases(aim))
    def agrees(case: Case) -> None:
        schemas = bind(case)
        record = render(case)
        wanted = expected(case, record)
        assert as_verdict(decided(case, schemas, record)) == wanted
        count(case, wanted, seen)

    agrees()


def missed(aim: str, seen: Counter[Any]) -> dict[Any, int]:
    """What an aim is there to show and has not shown often enough."""
    if aim == "placed":
        return {pair: seen[pair] for pair in PAIRS if seen[pair] < MASK_TIMES_MIN}
    name = aim.upper()
    return {name: seen[name]} if name in DECIDED and seen[name] < REASON_TIMES_MIN else {}


def test_the_policy_agrees_with_an_independent_reading_of_the_rules() -> None:
    seen: Counter[Any] = Counter()
    assert {aim.upper() for aim in BENDS} >= DECIDED
    for aim in BENDS:
        for _ in range(ROUNDS_MAX):
            compare(aim, seen)
            if not missed(aim, seen):
                break
        assert missed(aim, seen) == {}
