"""Which schemas are admitted; each refusal names the place."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from shutong_core.domain.catalogue import Grade
from shutong_core.domain.errors import Rejected
from shutong_core.domain.schemaview import FieldType
from shutong_core.wire.lint import lint_schema
from shutong_core.wire.schemas import SchemaRefused, parse_schema_text, schema_guid
from unit.schema_examples import DATE, ITEM, STATUS, UUID, decimal, field, record, schema, text


def findings(*fields: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    return [(found.path, found.en) for found in lint_schema(text(*fields, **more))]


def nested(levels: int) -> Any:
    kind: Any = "string"
    for _ in range(levels):
        kind = {"type": "array", "items": kind}
    return kind


REFERENCE = {"type": "record", "name": "A", "fields": [{"name": "a", "type": "int"}]}
RECURSIVE = {
    "type": "record",
    "name": "Node",
    "fields": [{"name": "next", "type": ["null", "Node"]}],
}


@pytest.mark.parametrize(
    "kind",
    [
        *("boolean", "int", "long", "float", "double", "bytes", "string"),
        {"type": "string"},
        DATE,
        UUID,
        decimal(38, 38),
        STATUS,
        {"type": "fixed", "name": "F", "size": 16},
        {"type": "fixed", "name": "F", "size": 4, "logicalType": "decimal", "precision": 9},
        {"type": "map", "values": ["null", {"type": "array", "items": REFERENCE}]},
        ["null", REFERENCE],
        nested(14),
    ],
)
def test_admitted_type(kind: Any) -> None:
    assert findings(field("x", kind)) == []


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("null", "null may only stand"),
        ({"type": "null"}, "`type` must directly name"),
        (["string", "null"], 'exactly ["null", T]'),
        (["null", "string", "int"], 'exactly ["null", T]'),
        (["null", ["null", "int"]], 'exactly ["null", T]'),
        (["null", "null"], 'exactly ["null", T]'),
        ([], 'exactly ["null", T]'),
        ({"type": {"type": "string"}}, "`type` must directly name"),
        ({"type": "error", "name": "E", "fields": []}, "`type` must directly name"),
        (7, "a type is a name"),
        (None, "a type is a name"),
        ("Nowhere", "not defined before"),
        (RECURSIVE, "recursive"),
        ({"type": "array", "items": "null"}, "null may only stand"),
        ({"type": "array"}, "a type is a name"),
        ({"type": "record", "name": "Empty", "fields": []}, "at least one field"),
        ({"type": "fixed", "name": "F", "size": 0}, "size must be"),
        ({"type": "fixed", "name": "F", "size": -1}, "size must be"),
        ({"type": "fixed", "name": "F", "size": True}, "size must be"),
        ({"type": "enum", "name": "E", "symbols": []}, "symbols must be"),
        ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "symbols must be"),
        ({"type": "enum", "name": "E", "symbols": ["正常"]}, "symbols must be"),
        ({"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}, "not a symbol"),
        ({"type": "enum", "name": "E", "symbols": ["A"], "default": None}, "not a symbol"),
        ({"type": "enum", "name": "a b", "symbols": ["A"]}, "breaks Avro's rule"),
        ({"type": "enum", "name": "E\n", "symbols": ["A"]}, "breaks Avro's rule"),
        ({"type": "enum", "name": "string", "symbols": ["A"]}, "breaks Avro's rule"),
        ({"type": "enum", "name": "Row", "symbols": ["A"]}, "defined twice"),
        ({"type": "int", "__fastavro_parsed": True}, "`__fastavro_parsed` is not allowed"),
        ({"type": "long", "logicalType": "date"}, "not admitted on long"),
        ({"type": "string", "logicalType": "decimal", "precision": 4}, "not admitted on string"),
        ({"type": "long", "logicalType": "timestamp-nanos"}, "not admitted on long"),
        ({"type": "int", "logicalType": None}, "not admitted on int"),
        (decimal(0), "a decimal needs precision"),
        (decimal(39), "a decimal needs precision"),
        (decimal(2, 3), "a decimal needs precision"),
        (decimal(2, -1), "a decimal needs precision"),
        (
            {"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 5},
            "precision 1 to 4",
        ),
        (nested(15), "nested deeper than 16"),
    ],
)
def test_refused_type_names_the_item_and_the_rule(kind: Any, says: str) -> None:
    found = findings(field("x", kind))
    assert any(path.startswith("x") and says in en for path, en in found), found


def test_depth_counts_through_references() -> None:
    deep = {"type": "record", "name": "D", "fields": [{"name": "d", "type": nested(8)}]}
    use: Any = "D"
    for _ in range(6):
        use = {"type": "array", "items": use}
    assert "nested deeper" in findings(field("x", deep), field("y", use))[0][1]


def test_fields_count_at_each_use_of_a_type() -> None:
    wide = {
        "type": "record",
        "name": "W",
        "fields": [{"name": f"w{n}", "type": "int"} for n in range(100)],
    }
    uses = [field("x", wide), *(field(f"y{n}", "W") for n in range(5))]
    assert findings(*uses[:5]) == []
    assert findings(*uses) == [("y4", "more than 512 fields in all")]


def test_references_that_double_at_every_level_do_not_explode() -> None:
    fields = [field("x0", {**REFERENCE, "name": "R0"})]
    for n in range(1, 14):
        pair = [{"name": side, "type": f"R{n - 1}"} for side in "lr"]
        fields.append(field(f"x{n}", {"type": "record", "name": f"R{n}", "fields": pair}))
    assert any("more than 512 fields" in en for _, en in findings(*fields))


@pytest.mark.parametrize(
    ("changed", "path", "says"),
    [
        ({"name": "身份证号"}, "", "a field needs a name"),
        ({"name": "x" * 65}, "", "a field needs a name"),
        ({"logicalType": "date"}, "x", "logicalType goes into its type"),
        ({"order": "sideways"}, "x", "order must be"),
        ({"aliases": "y"}, "x", "aliases must be"),
        ({"aliases": ["a.b"]}, "x", "is no name"),
        ({"aliases": ["x"]}, "", "used twice"),
        ({"default": 1}, "x", "default does not fit"),
        ({"shutong": None}, "x", "is missing, write"),
        ({"shutong": "t"}, "x", "must be an object"),
        ({"shutong": {"title": "t"}}, "x", "grade"),
        ({"shutong": {**ITEM, "grade": "secret"}}, "x", "grade"),
        ({"shutong": {**ITEM, "personal": "true"}}, "x", "personal"),
        ({"shutong": {**ITEM, "extra": 1}}, "x", "extra"),
    ],
)
def test_refused_field(changed: dict[str, Any], path: str, says: str) -> None:
    found = findings({**field("x", "string"), **changed})
    assert any(where == path and says in en for where, en in found), found


@pytest.mark.parametrize(
    ("kind", "default", "fits"),
    [
        (["null", "string"], None, True),
        (["null", "string"], "", False),
        ("int", 1, True),
        ("int", 1.5, False),
        ("int", True, False),
        ("int", 2**31, False),
        (DATE, 2_932_897, False),
        ("double", 1, True),
        ("bytes", "ÿ", True),
        ("bytes", "中", False),
        (decimal(2, 0), "\x63", True),
        (decimal(2, 0), "\x00\x63", False),
        (decimal(2, 0), "\x64", False),
        (UUID, "6BA7B810-9dad-11d1-80b4-00c04fd430c8", False),
        (STATUS, "ACTIVE", True),
        (STATUS, "GONE", False),
        ({"type": "array", "items": "int"}, [1, 2], True),
        ({"type": "array", "items": "int"}, [1, "2"], False),
        ({"type": "map", "values": "int"}, {"a": 1}, True),
        (REFERENCE, {"a": 1}, True),
        (REFERENCE, {}, False),
    ],
)
def test_a_default_must_fit_the_first_branch(kind: Any, default: Any, fits: bool) -> None:
    assert (findings(field("x", kind, default=default)) == []) is fits


def test_what_is_wrong_with_the_catalogue_entry_is_told_whole_in_both_languages() -> None:
    wrong = {"title": "", "grade": "secret", "share": "x", "personal": 1, "note": "t"}
    found = lint_schema(text({**field("x", "string"), "shutong": wrong}))
    assert [each.path for each in found] == ["x"] * 5
    told = "\n".join(each.zh for each in found)
    for words in ("title应为", "分级）应为以下之一：general_1", "unconditional", "不应有 note"):
        assert words in told
    assert not any(" be " in each.zh or "Input" in each.zh + each.en for each in found)
    lacking = findings({**field("x", "string"), "shutong": {"title": "t"}})
    assert lacking == [
        (
            "x",
            "property `shutong` (catalogue entry of the item) lacks grade, which must be one of: "
            + ", ".join(Grade),
        )
    ]


def test_a_field_without_catalogue_entry_or_name_still_has_its_type_looked_at() -> None:
    found = findings({"name": "x", "type": ["string", "null"]}, field("身份证", ["int", "null"]))
    assert [path for path, _ in found] == ["x", "x", "", "fields[2]"]
    assert "field 2 `身份证`" in found[2][1]
    assert "exactly" in found[0][1]
    assert "exactly" in found[3][1]


def test_two_fields_of_one_name_are_refused() -> None:
    assert "used twice" in findings(field("x", "int"), field("x", "string"))[0][1]


def test_metadata_belong_on_top_level_fields_only() -> None:
    inside = {"type": "record", "name": "A", "fields": [field("a", "int")]}
    assert findings(field("x", inside)) == [
        ("x.a", "property `shutong` belongs on top-level fields only")
    ]


def test_items_of_dataset_and_delivery_do_not_mix() -> None:
    delivered = {**field("y", "int"), "shutong": {"title": "t", "mask": "clear"}}
    assert "mixed" in findings(field("x", "int"), delivered)[0][1]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'"string"',
        b'{"type":"enum"}',
        b'{"type":"record","type":"record"}',
        b'{"type":"record","x":NaN}',
        b'{"type":"record","x":1e999}',
        b'{"type":"record","x":9007199254740993}',
        b'{"type":"record","x":"\\ud800"}',
        b"[" * 60_000,
        b'{"type":"record","x":' + b"[" * 500 + b"]" * 500 + b"}",
        b" " * (64 * 1024 + 1),
        text(field("x", "int", doc="x" * 64 * 1024)).encode(),
    ],
)
def test_text_that_is_no_usable_json_is_refused(bad: bytes) -> None:
    assert len(lint_schema(bad)) == 1
    with pytest.raises(Rejected):
        parse_schema_text(bad)


def test_the_number_of_findings_is_bounded() -> None:
    assert len(findings(*(field(f"x{n}", "null") for n in range(200)))) == 50


def test_every_finding_speaks_chinese_and_english() -> None:
    for found in lint_schema(text(field("x", "null"), field("y", "int", default="1"))):
        assert found.en.isascii()
        assert not found.zh.isascii()


def test_identity_ignores_formatting_and_sees_metadata() -> None:
    plain = parse_schema_text(json.dumps(record(field("x", "int"))))
    spread = parse_schema_text(json.dumps(record(field("x", "int")), indent=4, sort_keys=True))
    graded = schema({**field("x", "int"), "shutong": {**ITEM, "grade": "general_3"}})
    assert plain == spread
    assert plain.guid == spread.guid == schema_guid(plain.digest)
    assert plain != graded
    assert plain.guid[14] == "8"


def test_a_schema_tells_types_items_and_the_highest_grade() -> None:
    high = {**ITEM, "grade": "important", "personal": True}
    found = schema(field("x", ["null", STATUS]), {**field("y", DATE), "shutong": high})
    assert found.grade is Grade.IMPORTANT
    assert list(found.items) == list(found.fields) == ["x", "y"]
    assert found.fields["x"] == FieldType("x", "enum", None, True, ("ACTIVE", "CLOSED"))
    assert found.fields["y"] == FieldType("y", "int", "date", False, ())
    assert found.items["y"].personal


def test_refusal_carries_all_findings() -> None:
    with pytest.raises(SchemaRefused) as refused:
        schema(field("x", "null"), field("y", "null"))
    assert [found.path for found in refused.value.findings] == ["x", "y"]


def test_a_broken_type_is_reported_once_not_at_each_use() -> None:
    broken = {"type": "enum", "name": "E", "symbols": []}
    assert [path for path, _ in findings(field("x", broken), field("y", "E"))] == ["x"]


def test_logical_types_do_not_stand_on_other_types() -> None:
    kind = {"type": "array", "items": "int", "logicalType": "date"}
    assert findings(field("x", kind)) == [("x", "no logical type is admitted on array")]


def test_a_text_full_of_aliases_is_linted_quickly() -> None:
    aliases = [f"a{n}" for n in range(8000)]
    began = time.perf_counter()
    assert findings(field("x", "int", aliases=[*aliases, "a1"])) != []
    assert time.perf_counter() - began < 1
