"""Compatibility: Avro's rules as the reference implementation has them, logical types stricter."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse as avro_parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from properties.avro_strategies import schema_objects
from shutong_core.domain.errors import Rejected
from shutong_core.wire.compat import full_transitive, unreadable
from shutong_core.wire.schemas import Schema, parse_schema_text
from unit.schema_examples import DATE, MICROS, MILLIS, STATUS, decimal, field, one, schema


def says(reader: Schema, writer: Schema) -> list[tuple[str, str]]:
    return [(found.path, found.en) for found in unreadable(reader, writer)]


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


def fixed(size: int, name: str = "F", **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        ("long", "int"),
        ("double", "float"),
        ("bytes", "string"),
        ("string", "bytes"),
        (["null", "int"], "int"),
        (["null", "long"], ["null", "int"]),
        (enum("A", "B"), enum("A")),
        (enum("A", default="A"), enum("A", "B")),
        (fixed(4, "G", aliases=["F"]), fixed(4)),
        (fixed(4, namespace="org.other"), fixed(4)),
        (decimal(8, 2), decimal(6, 2)),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}),
    ],
)
def test_readable(reader: Any, writer: Any) -> None:
    assert says(one(reader), one(writer)) == []


@pytest.mark.parametrize(
    ("reader", "writer", "why"),
    [
        ("int", "long", "long cannot be read as int"),
        ("string", "int", "int cannot be read as string"),
        ("int", ["null", "int"], "written nullable, read non-nullable"),
        (enum("A"), enum("A", "B"), "the reader lacks the symbols B"),
        (fixed(4), fixed(5), "5 bytes cannot be read as 4"),
        (fixed(4, "G"), fixed(4), "renamed"),
        (decimal(6, 3), decimal(6, 2), "scale 2 would be read as 3"),
        (decimal(5, 2), decimal(6, 2), "precision 6 does not fit into 5"),
        (MICROS, MILLIS, "timestamp-millis would be read as timestamp-micros"),
        (DATE, "int", "logical type none would be read as date"),
        ("long", DATE, "logical type date would be read as none"),
        ("bytes", decimal(), "logical type decimal would be read as none"),
        ({"type": "map", "values": "int"}, {"type": "array", "items": "int"}, "array cannot"),
    ],
)
def test_unreadable_with_a_reason(reader: Any, writer: Any, why: str) -> None:
    found = says(one(reader), one(writer))
    assert any(path == "x" and why in en for path, en in found), found


def test_the_path_leads_into_nested_types() -> None:
    def lines(kind: Any) -> Schema:
        inside = {"type": "record", "name": "L", "fields": [{"name": "amount", "type": kind}]}
        return one({"type": "map", "values": {"type": "array", "items": inside}})

    assert says(lines("int"), lines("long")) == [("x{}[].amount", "long cannot be read as int")]


def test_a_new_item_needs_a_default_and_may_be_taken_away_again() -> None:
    first = schema(field("x", "int"))
    optional = schema(field("x", "int"), field("y", ["null", "int"], default=None))
    demanded = schema(field("x", "int"), field("y", "int"))
    assert full_transitive(optional, [first]) == ()
    assert full_transitive(first, [optional, first]) == ()
    (found,) = full_transitive(demanded, [first])
    assert found.path == "y"
    assert found.en.startswith("the new schema cannot read data of version 1: the writer lacks")
    assert "version 1 cannot read" in full_transitive(first, [demanded])[0].en


def test_an_alias_finds_the_old_name() -> None:
    assert says(schema(field("y", "int", aliases=["x"])), schema(field("x", "int"))) == []


def test_all_earlier_versions_count() -> None:
    versions = [one(enum("A", "B")), one(enum("A", default="A"))]
    found = full_transitive(one(enum("A", "C", default="A")), versions)
    assert [f.en.split(":")[0] for f in found] == ["version 1 cannot read data of the new schema"]


def test_status_enum_grows_with_a_default() -> None:
    old, new = {**STATUS, "default": "CLOSED"}, {**STATUS, "default": "CLOSED"}
    new["symbols"] = [*STATUS["symbols"], "PAUSED"]
    assert full_transitive(one(new), [one(old)]) == ()


# The reference implementation as oracle; it knows nothing of logical types.


def _without_logical(raw: Any) -> Any:
    if isinstance(raw, list):
        return [_without_logical(value) for value in raw]
    if isinstance(raw, dict):
        dropped = ("logicalType", "precision", "scale")
        return {k: _without_logical(v) for k, v in raw.items() if k not in dropped}
    return raw


def _places(raw: Any) -> list[dict[str, Any]]:
    """Every object in the JSON of a schema, metadata left aside."""
    if isinstance(raw, list):
        return [place for value in raw for place in _places(value)]
    if isinstance(raw, dict):
        inside = [place for k, v in raw.items() if k != "shutong" for place in _places(v)]
        return [raw, *inside]
    return []


def _change(draw: st.DrawFn, raw: dict[str, Any]) -> None:
    """Change one place of a schema; what is then not admitted is thrown away by the caller."""
    place = draw(st.sampled_from(_places(raw)))
    kind = draw(st.integers(0, 5))
    if "fields" in place and kind < 3:
        extra = {"name": "added", "type": draw(st.sampled_from(["int", ["null", "int"]]))}
        if draw(st.booleans()):
            extra["default"] = None if isinstance(extra["type"], list) else 0
        if place is raw:
            extra["shutong"] = raw["fields"][0]["shutong"]
        if kind == 0 and len(place["fields"]) > 1:
            place["fields"].pop()
        else:
            place["fields"].append(extra)
    elif "symbols" in place and kind < 3:
        if kind:
            place["default"] = place["symbols"][0]
        place["symbols"] = draw(st.sampled_from([["S0"], ["S0", "S1", "NEW"], place["symbols"]]))
    elif "size" in place and kind < 2:
        place["size"] += 1
    elif isinstance(place.get("name"), str) and kind in (3, 4) and place is not raw:
        if draw(st.booleans()):
            space = f"{place['namespace']}." if "namespace" in place else ""
            place["aliases"] = [f"{space}{place['name']}"]
        place["name"] += "x"
    elif isinstance(place.get("type"), str) and "name" not in place:
        if place["type"] not in ("array", "map"):
            place["type"] = draw(st.sampled_from(["int", "long", "double", "string", "bytes"]))
    elif "type" in place and "name" in place and "fields" not in place:
        swap = ["int", "long", "float", ["null", "int"], ["null", "long"], "string"]
        place["type"] = draw(st.sampled_from(swap))


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(st.data())
def test_the_reference_implementation_agrees(source: st.DataObject) -> None:
    first = _without_logical(source.draw(schema_objects()))
    second = copy.deepcopy(first)

    @st.composite
    def changes(draw: st.DrawFn) -> None:
        for _ in range(draw(st.integers(1, 2))):
            _change(draw, second)

    source.draw(changes())
    try:
        pair = [parse_schema_text(json.dumps(raw)) for raw in (first, second)]
    except Rejected:
        return
    for reader, writer in (pair, pair[::-1]):
        theirs = ReaderWriterCompatibilityChecker().get_compatibility(
            avro_parse(reader.text), avro_parse(writer.text)
        )
        compatible = theirs.compatibility is SchemaCompatibilityType.compatible
        assert (unreadable(reader, writer) == ()) is compatible, (reader.text, writer.text)
