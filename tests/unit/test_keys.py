"""Keys: Kafka's own hash, the three key functions, the key a subscriber sees."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.errors import Rejected
from shutong_core.wire.keys import delivered_key, key_bytes, key_rule, murmur2, partition_of

SEX = {"type": "enum", "name": "Sex", "symbols": ["MALE", "FEMALE"]}
RECORD: dict[str, Any] = {
    "type": "record",
    "name": "Decision",
    "namespace": "cn.example",
    "fields": [
        {"name": "number", "type": "string"},
        {"name": "serial", "type": "long"},
        {"name": "sex", "type": SEX},
        {"name": "spouse_sex", "type": "cn.example.Sex"},
        {"name": "child_sex", "type": ["null", "Sex"]},
        {"name": "note", "type": ["null", "string"]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "moment", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {
            "name": "amount",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        },
        {"name": "uid", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}


@pytest.mark.parametrize(
    ("data", "java"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_the_values_of_kafkas_own_test(data: bytes, java: int) -> None:
    # org.apache.kafka.common.utils.UtilsTest.testMurmur2, signed there
    assert murmur2(data) == java & 0xFFFFFFFF


@given(st.binary(max_size=200))
def test_murmur2_agrees_with_aiokafka(data: bytes) -> None:
    assert murmur2(data) == aiokafka_murmur2(data)


@given(st.binary(max_size=50), st.integers(1, 64))
def test_a_lane_is_the_partition_kafkas_default_partitioner_picks(key: bytes, lanes: int) -> None:
    every = list(range(lanes))
    assert partition_of(key, lanes) == DefaultPartitioner()(key, every, every)


def encoded(avro: Any, value: Any) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(avro), value)
    return out.getvalue()


def test_one_string_item_is_its_utf8_bytes() -> None:
    rule = key_rule(RECORD, ["number"])
    assert rule.as_text
    assert rule.key({"number": "粤民〔2026〕1号"}) == "粤民〔2026〕1号".encode()
    assert rule.key({"number": ""}) == b""


def test_a_string_with_a_logical_type_is_still_a_string() -> None:
    text = "12345678-9abc-def0-1234-56789abcdef0"
    import uuid

    rule = key_rule(RECORD, ["uid"])
    assert rule.key({"uid": uuid.UUID(text)}) == text.encode() == rule.key({"uid": text})


@pytest.mark.parametrize(
    ("item", "value", "expected"),
    [
        ("serial", 150, b"\xac\x02"),
        ("sex", "FEMALE", b"\x02"),
        ("spouse_sex", "FEMALE", b"\x02"),
        ("child_sex", None, b"\x00"),
        ("child_sex", "MALE", b"\x02\x00"),
        ("note", "甲", b"\x02\x06\xe7\x94\xb2"),
        ("day", date(1970, 1, 3), b"\x04"),
        ("moment", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), b"\xd0\x0f"),
        ("amount", Decimal("1.27"), b"\x02\x7f"),
    ],
)
def test_one_other_item_is_its_avro_encoding(item: str, value: Any, expected: bytes) -> None:
    rule = key_rule(RECORD, [item])
    assert not rule.as_text
    assert rule.key({item: value}) == expected


def test_a_decimal_key_has_the_bytes_of_the_canonical_body() -> None:
    assert key_rule(RECORD, ["amount"]).key({"amount": Decimal("-1.28")}) == b"\x02\x80"


def test_several_items_are_joined_in_schema_order_whatever_the_lists_order() -> None:
    datum = {"number": "AB", "serial": 1, "sex": "MALE", "spouse_sex": "FEMALE"}
    expected = b"\x04AB" + b"\x02" + b"\x00" + b"\x02"
    for order in (
        ["number", "serial", "sex", "spouse_sex"],
        ["spouse_sex", "sex", "serial", "number"],
    ):
        rule = key_rule(RECORD, order)
        assert rule.items == ("number", "serial", "sex", "spouse_sex")
        assert rule.key(datum) == expected


@given(st.text(st.characters(codec="utf-8")), st.integers(-(2**63), 2**63 - 1))
def test_several_items_equal_the_record_of_just_these_items(number: str, serial: int) -> None:
    record = {**RECORD, "fields": RECORD["fields"][:2]}
    datum = {"number": number, "serial": serial}
    assert key_rule(RECORD, ["serial", "number"]).key(datum) == encoded(record, datum)


def test_a_schema_parsed_by_fastavro_gives_the_same_rule() -> None:
    datum = {"number": "AB", "spouse_sex": "FEMALE", "child_sex": "MALE"}
    parsed = fastavro.parse_schema(RECORD)
    items = ["number", "spouse_sex", "child_sex"]
    assert key_rule(parsed, items).key(datum) == key_rule(RECORD, items).key(datum)


def test_key_bytes_reads_the_schema_from_its_holder() -> None:
    @dataclass
    class Holder:
        parsed: Any

    assert key_bytes(Holder(RECORD), ["number"], {"number": "n"}) == b"n"


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "must be named"),
        (["number", "number"], "each once"),
        (["nothing"], "not in the schema: nothing"),
        (["tags"], "tags cannot be a key item: its type is array"),
    ],
)
def test_a_rule_that_cannot_hold_is_rejected(items: list[str], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        key_rule(RECORD, items)


@pytest.mark.parametrize("parsed", [None, "string", {"type": "string"}, []])
def test_only_record_schemas_have_keys(parsed: Any) -> None:
    with pytest.raises(Rejected, match="record schema"):
        key_rule(parsed, ["a"])


@pytest.mark.parametrize(
    ("item", "value"),
    [("number", 7), ("number", None), ("number", "\ud800"), ("serial", "x"), ("sex", "OTHER")],
)
def test_a_value_that_does_not_fit_is_rejected_without_showing_it(item: str, value: Any) -> None:
    with pytest.raises(Rejected) as caught:
        key_rule(RECORD, [item]).key({item: value})
    assert item in str(caught.value)
    assert str(value) not in str(caught.value).replace(item, "")


def test_a_missing_item_is_rejected() -> None:
    with pytest.raises(Rejected, match="serial is missing"):
        key_rule(RECORD, ["number", "serial"]).key({"number": "x"})


def test_a_delivered_key_is_the_same_if_every_key_item_is_granted_in_clear() -> None:
    assert delivered_key(b"key", True, b"secret") == b"key"


def test_a_delivered_key_is_otherwise_a_keyed_hash_of_sixteen_bytes() -> None:
    expected = hmac.new(b"secret", b"shutong-key-v1key", hashlib.sha256).digest()[:16]
    assert delivered_key(b"key", False, b"secret") == expected
    assert delivered_key(b"key", False, b"other") != expected


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.dates()
    | st.datetimes()
    | st.decimals()
    | st.lists(st.integers(), max_size=2)
)


@given(
    st.lists(st.sampled_from([f["name"] for f in RECORD["fields"][:-1]]), min_size=1, unique=True),
    st.dictionaries(st.sampled_from([f["name"] for f in RECORD["fields"]]), ANYTHING),
)
def test_any_values_give_a_key_or_rejected(items: list[str], datum: dict[str, Any]) -> None:
    rule = key_rule(RECORD, items)
    with contextlib.suppress(Rejected):
        assert isinstance(rule.key(datum), bytes)
