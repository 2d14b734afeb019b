"""Records as JSON and as text cells: the conventions, and all faults at once."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from shutong_core.domain.reasons import Reason
from shutong_core.wire import codec, strictjson
from shutong_core.wire.jsonmap import BadValue, dumps, from_json, from_text, to_json, to_text
from unit.schema_examples import DATE, MICROS, MILLIS, STATUS, UUID, decimal, field, one, schema

LOCAL = {"type": "long", "logicalType": "local-timestamp-millis"}
CLOCK = {"type": "int", "logicalType": "time-millis"}
LINES = {
    "type": "array",
    "items": {"type": "record", "name": "L", "fields": [{"name": "amount", "type": decimal()}]},
}


@pytest.mark.parametrize(
    ("kind", "value", "datum"),
    [
        ("string", "张", "张"),
        ("boolean", True, True),
        ("long", 2**63 - 1, 2**63 - 1),
        ("double", 1.5, 1.5),
        ("bytes", "AP8=", b"\x00\xff"),
        ({"type": "fixed", "name": "F", "size": 1}, "AA==", b"\x00"),
        (decimal(), "-12.50", Decimal("-12.50")),
        (decimal(6, 0), "7", Decimal(7)),
        (decimal(6, 6), "0.000001", Decimal("0.000001")),
        (DATE, "1987-05-01", date(1987, 5, 1)),
        (CLOCK, "08:30:00.250", time(8, 30, 0, 250_000)),
        (MILLIS, "2026-01-31T00:00:00.000Z", datetime(2026, 1, 31, tzinfo=UTC)),
        (MICROS, "2026-01-31T00:00:00.000001Z", datetime(2026, 1, 31, microsecond=1, tzinfo=UTC)),
        (LOCAL, "2026-01-31T00:00:00.000", datetime(2026, 1, 31)),  # noqa: DTZ001
        (UUID, str(uuid.UUID(int=5)), uuid.UUID(int=5)),
        (STATUS, "ACTIVE", "ACTIVE"),
        ({"type": "map", "values": "int"}, {"户": 1}, {"户": 1}),
        (LINES, [{"amount": "1.00"}], [{"amount": Decimal("1.00")}]),
        (["null", "int"], None, None),
    ],
)
def test_json_and_value_lead_to_each_other(kind: Any, value: Any, datum: Any) -> None:
    read = from_json(one(kind), {"x": value})
    assert read == {"x": datum}
    assert to_json(one(kind), read) == {"x": value}
    assert codec.decode(one(kind), codec.encode(one(kind), read)) == read
    assert from_text(one(kind), to_text(one(kind), read)) == read


@pytest.mark.parametrize(
    ("kind", "value", "datum"),
    [
        ("double", 3, 3.0),
        (decimal(), "+1.5000", Decimal("1.50")),
        (MILLIS, "2026-01-31T08:00:00+08:00", datetime(2026, 1, 31, tzinfo=UTC)),
        (UUID, str(uuid.UUID(int=171)).upper(), uuid.UUID(int=171)),
    ],
)
def test_other_forms_of_the_same_value_are_understood(kind: Any, value: Any, datum: Any) -> None:
    assert from_json(one(kind), {"x": value}) == {"x": datum}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", 1),
        ("string", "\ud800"),
        ("boolean", 1),
        ("boolean", "true"),
        ("int", True),
        ("int", 1.0),
        ("int", "1"),
        ("int", 2**31),
        ("double", "1"),
        ("double", 2**53 + 1),
        ("float", 1e39),
        ("bytes", "AP8"),
        ("bytes", "AP9="),  # stray bits
        ("bytes", "AP8=\n"),
        (decimal(), 12.5),
        (decimal(), "12.505"),
        (decimal(), "12345.6"),
        (decimal(), "1e3"),
        (decimal(), "１２"),
        (DATE, "19870501"),
        (DATE, "1987-W18-5"),
        (DATE, "2026-02-30"),
        (DATE, "0000-01-01"),
        (CLOCK, "24:00:00"),
        (CLOCK, "08:30:00.2505"),
        (MILLIS, "2026-01-31T08:00:00"),
        (MILLIS, "2026-01-31 08:00:00Z"),
        (MILLIS, "2026-01-31T08:00:00.0001Z"),
        (MILLIS, "0001-01-01T00:00:00+08:00"),
        (MILLIS, 1_769_817_600_000),
        (LOCAL, "2026-01-31T08:00:00Z"),
        (UUID, "{" + str(uuid.UUID(int=5)) + "}"),
        (STATUS, "active"),
        (STATUS, ["ACTIVE"]),
        (LINES, {}),
        (LINES, ["1.00"]),
        ({"type": "map", "values": "int"}, []),
    ],
)
def test_a_value_of_another_form_is_a_bad_value(kind: Any, value: Any) -> None:
    with pytest.raises(BadValue) as refused:
        from_json(one(kind), {"x": value})
    assert refused.value.reason is Reason.BAD_VALUE
    assert refused.value.path.startswith("x")
    assert not refused.value.zh.isascii()


def test_absent_is_null_only_where_the_item_is_nullable() -> None:
    pair = schema(field("x", ["null", "int"]), field("y", "int", default=5))
    assert from_json(pair, {"y": 1}) == {"x": None, "y": 1}
    with pytest.raises(BadValue) as refused:
        from_json(pair, {})
    assert (refused.value.path, refused.value.reason) == ("y", Reason.REQUIRED_MISSING)


def test_all_faults_of_a_record_come_at_once() -> None:
    many = schema(field("x", "int"), field("lines", LINES), field("day", DATE))
    with pytest.raises(BadValue) as refused:
        from_json(many, {"x": "1", "lines": [{"amount": "1"}, {"amount": 2, "b": 0}], "zz": 1})
    assert [(p.path, p.reason.name) for p in refused.value.problems] == [
        ("x", "BAD_VALUE"),
        ("lines[1].amount", "BAD_VALUE"),
        ("lines[1].b", "UNKNOWN_ITEM"),
        ("day", "REQUIRED_MISSING"),
        ("zz", "UNKNOWN_ITEM"),
    ]


def test_faults_are_bounded_and_show_no_value() -> None:
    ints = one({"type": "array", "items": "int"})
    with pytest.raises(BadValue) as refused:
        from_json(ints, {"x": ["110105199001011234"] * 300_000})
    assert len(refused.value.problems) == 100
    assert not any("110105" in p.en + p.zh + p.path for p in refused.value.problems)
    with pytest.raises(BadValue) as named:
        from_json(ints, {"x": [], "a\n\x1b[31m" + "b" * 500: 1})
    assert named.value.path == "a???31m" + "b" * 57


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_a_record_must_be_an_object(value: Any) -> None:
    with pytest.raises(BadValue):
        from_json(one("int"), value)


@pytest.mark.parametrize(
    ("kind", "cell", "datum"),
    [
        (["null", "int"], "", None),
        (["null", "string"], "", None),
        ("string", "", ""),
        ("string", " a ", " a "),
        ("int", " -5 ", -5),
        ("double", "1e3", 1000.0),
        ("boolean", "是", True),
        ("boolean", "FALSE", False),
        ("boolean", "0", False),
        (decimal(), "12.5", Decimal("12.50")),
        (DATE, "19870501", date(1987, 5, 1)),
        (DATE, "1987/5/1", date(1987, 5, 1)),
        (MILLIS, "2026-01-31 08:00:00+08:00", datetime(2026, 1, 31, tzinfo=UTC)),
        (LINES, '[{"amount": "1"}]', [{"amount": Decimal("1.00")}]),
        (STATUS, "CLOSED ", "CLOSED"),
    ],
)
def test_text_cells(kind: Any, cell: str, datum: Any) -> None:
    assert from_text(one(kind), {"x": cell}) == {"x": datum}


@pytest.mark.parametrize(
    ("kind", "cell", "reason"),
    [
        ("int", "", Reason.REQUIRED_MISSING),
        ("int", "1.5", Reason.BAD_VALUE),
        ("int", "٣", Reason.BAD_VALUE),
        ("int", "1_0", Reason.BAD_VALUE),
        ("double", "nan", Reason.BAD_VALUE),
        ("double", "1e999", Reason.BAD_VALUE),
        ("boolean", "yes", Reason.BAD_VALUE),
        (DATE, "1987/13/1", Reason.BAD_VALUE),
        (LINES, "[", Reason.BAD_VALUE),
        (LINES, '[{"amount": "1", "amount": "2"}]', Reason.BAD_VALUE),
    ],
)
def test_text_cells_that_mean_nothing_are_faults(kind: Any, cell: str, reason: Reason) -> None:
    with pytest.raises(BadValue) as refused:
        from_text(one(kind), {"x": cell})
    assert refused.value.reason is reason


def test_an_unknown_column_is_a_fault() -> None:
    with pytest.raises(BadValue) as refused:
        from_text(one("int"), {"x": "1", "备注": ""})
    assert refused.value.problems[0].reason is Reason.UNKNOWN_ITEM
    assert refused.value.path == "备注"


@pytest.mark.parametrize(
    "bad", ["", "{", '{"a":1,"a":2}', "NaN", "-Infinity", "[" * 70 + "]" * 70, b"\xff", "[" * 10**6]
)
def test_json_that_readers_take_differently_is_refused(bad: str | bytes) -> None:
    with pytest.raises(strictjson.NotJson) as refused:
        strictjson.loads(bad)
    assert not re.search(r"[a-z]{4}", refused.value.zh.replace("Infinity", ""))
    assert str(refused.value) == refused.value.en


@pytest.mark.parametrize(
    ("bad", "zh", "en"),
    [
        (
            b'{"a":}',
            "第 6 个字符处缺少值，或有多余的逗号",
            "a value is missing, or a comma is too many",
        ),
        (b'{"a":1', "第 7 个字符处缺少逗号或右括号", "a comma or a closing bracket is missing"),
        (b"{a:1}", "第 2 个字符处键应写在双引号中", "a key in double quotes is missing"),
        (b'{"a" 1}', "第 6 个字符处键后缺少冒号", "a colon is missing after a key"),
        (b'["a\t"]', "第 4 个字符处文本中有未转义的控制字符", "a control character"),
        (b'["\\x"]', "第 3 个字符处转义写法有误", "a wrong escape"),
        (b'["a', "第 2 个字符处文本的引号没有闭合", "not closed"),
        (b"{} {}", "第 4 个字符处一个值之后还有内容", "something follows"),
        (b'{\n"a":}', "第 2 行第 5 个字符处缺少值", "at line 2 character 5"),
        (b"\n", "内容为空", "it is empty"),
        (b"[\xb0]", "第 2 个字节起不是 UTF-8 编码", "not UTF-8 from byte 2 on"),
        (b"9" * 5000, "有数字过长", "a number is too long"),
    ],
)
def test_broken_json_is_told_in_both_languages_with_its_place(bad: bytes, zh: str, en: str) -> None:
    with pytest.raises(strictjson.NotJson) as refused:
        strictjson.loads(bad)
    assert zh in refused.value.zh
    assert en in refused.value.en


def test_a_byte_order_mark_before_json_is_passed_over() -> None:
    assert strictjson.loads(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    ("kind", "value", "zh", "en"),
    [
        (decimal(), "六百", "不是数", "not a number"),
        (decimal(), 600, "应写成文本", "written as text"),
        (DATE, "2026-02-30", "没有这一天", "no such day"),
        (MILLIS, "2026-02-30T00:00:00Z", "没有这个日期或时间", "no such date or time"),
    ],
)
def test_a_wrong_value_is_told_as_what_is_wrong_with_it(
    kind: Any, value: Any, zh: str, en: str
) -> None:
    with pytest.raises(BadValue) as refused:
        from_json(one(kind), {"x": value})
    assert zh in refused.value.zh
    assert en in refused.value.en


def test_json_text_keeps_chinese_readable() -> None:
    assert dumps({"名": "张"}) == '{"名":"张"}'
