"""The schema of what a grant delivers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shutong_core.domain.catalogue import Grade
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Band, Drop, Hash, Keep
from shutong_core.wire import codec
from shutong_core.wire.encode import encode_shape
from shutong_core.wire.projection import mask_fits, project_schema
from unit.schema_examples import DATE, ITEM, MILLIS, STATUS, UUID, decimal, field, one, schema

KEEP, HASH, DROP = Keep(mask="keep", first=3), Hash(mask="hash"), Drop(mask="drop")
BOUNDS, YEAR = Band(mask="band", bounds=(18, 60)), Band(mask="band", by="year")
LINES = {
    "type": "array",
    "items": {"type": "record", "name": "L", "fields": [{"name": "amount", "type": decimal()}]},
}
PERSON = schema(
    field("name", "string", doc="internal remark", aliases=["old_name"]),
    {
        **field("idnum", "string"),
        "shutong": {**ITEM, "grade": "general_4", "sensitive": True},
    },
    field("birth", ["null", DATE], default=None),
    field("income", ["null", decimal()]),
    field("status", STATUS),
    field("lines", LINES),
    doc="register",
    aliases=["Old"],
)


def test_listed_items_in_schema_order_and_nothing_else() -> None:
    delivered = project_schema(PERSON, {"status": "clear", "name": "clear"}, "person")
    assert list(delivered.fields) == ["name", "status"]
    assert delivered.fields["status"] == PERSON.fields["status"]


def test_receivers_see_title_and_mask_and_no_grading() -> None:
    delivered = project_schema(PERSON, {"name": "clear", "idnum": KEEP}, "person")
    assert not delivered.items
    assert {n: (i.title, i.mask) for n, i in delivered.delivered.items()} == {
        "name": ("信息项", "clear"),
        "idnum": ("信息项", "keep"),
    }
    for word in ("general", "sensitive", "remark", "register", "alias"):
        assert word not in delivered.text.lower()


def test_masked_items_are_text_and_nullable_as_before() -> None:
    items: dict[str, Any] = {"idnum": HASH, "birth": YEAR, "income": BOUNDS, "lines": HASH}
    found = project_schema(PERSON, items, "person").fields
    assert {n: (f.avro, f.logical, f.nullable) for n, f in found.items()} == {
        "idnum": ("string", None, False),
        "birth": ("string", None, True),
        "income": ("string", None, True),
        "lines": ("string", None, False),
    }


def test_dropped_items_are_absent() -> None:
    assert list(project_schema(PERSON, {"name": "clear", "idnum": DROP}, "p").fields) == ["name"]
    with pytest.raises(Rejected, match="left to deliver"):
        project_schema(PERSON, {"idnum": DROP}, "person")


def test_the_name_stays_and_the_namespace_tells_the_projection() -> None:
    delivered = project_schema(PERSON, {"name": "clear"}, "person")
    assert re.fullmatch(r"cn\.test\.p[0-9a-f]{8}\.Row", delivered.name)


def test_equal_projections_of_two_versions_share_their_text() -> None:
    newer = schema(*PERSON.parsed["fields"], field("phone", ["null", "string"]), doc="changed")
    items: dict[str, Any] = {"name": "clear", "idnum": KEEP}
    assert project_schema(PERSON, items, "person") == project_schema(newer, items, "person")
    assert project_schema(PERSON, items, "person") != project_schema(PERSON, items, "other")


def test_items_that_this_version_does_not_have_are_left_out() -> None:
    items: dict[str, Any] = {"name": "clear", "phone": "clear"}
    assert list(project_schema(PERSON, items, "person").fields) == ["name"]


def test_a_delivered_schema_cannot_pass_for_a_datasets() -> None:
    delivered = project_schema(PERSON, {"name": "clear"}, "person")
    assert delivered.grade is Grade.CORE
    with pytest.raises(Rejected, match="carries no items"):
        project_schema(delivered, {"name": "clear"}, "person")


def test_a_type_defined_in_a_field_that_is_gone_is_defined_where_it_is_used() -> None:
    inner = {"type": "record", "name": "A", "fields": [{"name": "s", "type": STATUS}]}
    other = {"type": "enum", "name": "Kind", "namespace": "org.other", "symbols": ["K"]}
    source = schema(
        field("a", inner),
        field("b", {"type": "array", "items": "A"}),
        field("s", "Status"),
        field("k", other),
        field("m", {"type": "map", "values": ["null", "org.other.Kind"]}),
        field("t", ["null", "cn.test.Status"]),
    )
    items: dict[str, Any] = {"b": "clear", "s": "clear", "m": "clear", "t": "clear"}
    delivered = project_schema(source, items, "d")
    datum = {"b": [{"s": "CLOSED"}], "s": "ACTIVE", "m": {"x": "K"}, "t": "CLOSED"}
    assert codec.decode(delivered, codec.encode(delivered, datum)) == datum


def test_clear_items_keep_their_bytes() -> None:
    delivered = project_schema(PERSON, {"lines": "clear", "income": "clear"}, "person")
    for name in ("lines", "income"):
        assert delivered.fields[name] == PERSON.fields[name]
        shapes = [
            next(f.shape for f in s.record.fields if f.name == name) for s in (PERSON, delivered)
        ]
        values = {"lines": [], "income": None}
        assert encode_shape(shapes[0], values[name]) == encode_shape(shapes[1], values[name])


@pytest.mark.parametrize(
    ("kind", "fitting"),
    [
        ("string", {"keep", "hash", "drop"}),
        (["null", "string"], {"keep", "hash", "drop"}),
        (UUID, {"hash", "drop"}),
        (STATUS, {"hash", "drop"}),
        ("bytes", {"hash", "drop"}),
        ("boolean", {"hash", "drop"}),
        (LINES, {"hash", "drop"}),
        *((number, {"bounds", "hash", "drop"}) for number in ("int", "long", "float", "double")),
        (decimal(), {"bounds", "hash", "drop"}),
        (DATE, {"year", "hash", "drop"}),
        (MILLIS, {"hash", "drop"}),
    ],
)
def test_which_masks_fit_which_type(kind: Any, fitting: set[str]) -> None:
    source = one(kind)
    masks = {"keep": KEEP, "hash": HASH, "drop": DROP, "bounds": BOUNDS, "year": YEAR}
    assert {n for n, mask in masks.items() if mask_fits(mask, source.fields["x"])} == fitting
    for name in masks.keys() - fitting:
        with pytest.raises(Rejected, match="does not fit item x"):
            project_schema(source, {"x": masks[name]}, "d")
