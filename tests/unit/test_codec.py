"""Canonical Avro: what is refused, why, and at which place."""

from __future__ import annotations

import time
import tracemalloc
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from shutong_core.domain.reasons import Reason
from shutong_core.wire import codec
from shutong_core.wire.encode import varint
from unit.schema_examples import (
    DATE,
    MICROS,
    MILLIS,
    STATUS,
    UUID,
    decimal,
    field,
    one,
    schema,
)

MALFORMED, NOT_CANONICAL = Reason.MALFORMED, Reason.NOT_CANONICAL
MAP = {"type": "map", "values": "int"}
INTS = {"type": "array", "items": "int"}
LINES = {
    "type": "array",
    "items": {
        "type": "record",
        "name": "Line",
        "fields": [{"name": "amount", "type": ["null", decimal()]}],
    },
}
FIXED_DECIMAL = {"type": "fixed", "name": "F", "size": 4, "logicalType": "decimal", "precision": 9}


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("int", b"", MALFORMED),
        ("int", b"\x80", MALFORMED),
        ("int", b"\x02\x00", MALFORMED),  # bytes after the end
        ("int", b"\x82\x00", NOT_CANONICAL),  # 1 in two bytes
        ("int", varint(2**31), MALFORMED),
        ("long", b"\xff" * 9 + b"\x02", MALFORMED),  # 65 bits
        ("long", b"\x80" * 20 + b"\x01", MALFORMED),
        ("boolean", b"\x07", MALFORMED),
        (["null", "int"], b"\x04", MALFORMED),  # branch 2
        (["null", "int"], b"\x01", MALFORMED),  # branch -1: the last one to a careless reader
        (STATUS, b"\x04", MALFORMED),
        (STATUS, b"\x01", MALFORMED),
        ("float", b"\x00\x00\xc0\x7f", MALFORMED),  # NaN
        ("double", b"\x00" * 6 + b"\xf0\x7f", MALFORMED),  # infinity
        ("string", b"\x04\xc0\xaf", MALFORMED),  # overlong UTF-8
        ("string", b"\x06\xed\xa0\x80", MALFORMED),  # surrogate
        ("string", varint(2**40), MALFORMED),
        ("bytes", b"\x01", MALFORMED),  # length -1
        (DATE, varint(2_932_897), MALFORMED),  # year 10000
        (MILLIS, varint(2**60), MALFORMED),
        ({"type": "int", "logicalType": "time-millis"}, varint(86_400_000), MALFORMED),
        (UUID, varint(36) + b"6BA7B810-9dad-11d1-80b4-00c04fd430c8", NOT_CANONICAL),
        (UUID, varint(4) + b"none", MALFORMED),
        (decimal(), b"\x00", NOT_CANONICAL),  # zero as no bytes
        (decimal(), b"\x04\x00\x01", NOT_CANONICAL),
        (decimal(), b"\x04\xff\x80", NOT_CANONICAL),  # -128 in two bytes
        (decimal(2, 0), b"\x02\x64", MALFORMED),  # 100
        (FIXED_DECIMAL, b"\x3b\x9a\xca\x00", MALFORMED),  # 10^9
        (INTS, b"\x02\x02\x02\x04\x00", NOT_CANONICAL),  # two blocks
        (INTS, b"\x01\x02\x02\x00", NOT_CANONICAL),  # block with byte size
        (MAP, b"\x04\x02a\x02\x02a\x04\x00", NOT_CANONICAL),
        (MAP, b"\x04\x02b\x02\x02a\x02\x00", NOT_CANONICAL),  # keys descending
        (MAP, b"\x04\x02a\x02\x00\x02\x00", NOT_CANONICAL),  # the empty key comes first
        (
            MAP,
            b"\x04\x08" + "😀".encode() + b"\x02\x06" + "￮".encode() + b"\x02\x00",
            NOT_CANONICAL,
        ),
    ],
)
def test_bytes_that_are_not_the_canonical_form_are_refused(
    kind: Any, body: bytes, reason: Reason
) -> None:
    for read in (codec.decode, codec.check):
        with pytest.raises(codec.Undecodable) as refused:
            read(one(kind), body)
        assert refused.value.reason is reason
        assert refused.value.path.startswith("x") or "after the end" in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        ("int", b"\x01", -1),
        ("long", b"\xff" * 9 + b"\x01", -(2**63)),
        (decimal(), b"\x02\x80", Decimal("-1.28")),  # as Java's BigInteger writes it
        (decimal(), b"\x02\x00", Decimal("0.00")),
        (FIXED_DECIMAL, b"\xff\xff\xff\xff", Decimal(-1)),
        (INTS, b"\x00", []),
        (DATE, varint(-719_162), date(1, 1, 1)),
        (MICROS, varint(1), datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (["null", STATUS], b"\x02\x02", "CLOSED"),
        (["null", STATUS], b"\x00", None),
    ],
)
def test_canonical_bytes_lead_to_the_value_and_back(kind: Any, body: bytes, value: Any) -> None:
    assert codec.decode(one(kind), body) == {"x": value}
    assert codec.encode(one(kind), {"x": value}) == body


def test_the_path_names_the_place() -> None:
    body = b"\x04" + b"\x00" + b"\x02\x04\x00\x01" + b"\x00"
    with pytest.raises(codec.Undecodable) as refused:
        codec.decode(schema(field("items", LINES)), body)
    assert refused.value.path == "items[1].amount"


def test_messages_never_show_content() -> None:
    with pytest.raises(codec.Undecodable) as refused:
        codec.decode(one(UUID), varint(18) + "张三丰".encode() + b"123456789"[:9])
    assert "张" not in str(refused.value)
    with pytest.raises(codec.Unencodable) as refused_value:
        codec.encode(one(STATUS), {"x": "张三"})
    assert "张" not in str(refused_value.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", True),
        ("int", 1.0),
        ("int", "1"),
        ("int", 2**31),
        ("long", 2**63),
        ("boolean", 1),
        ("double", 1),
        ("double", float("nan")),
        ("float", 1e39),
        ("string", b"a"),
        ("string", "\ud800"),
        ("bytes", "a"),
        ("bytes", bytearray(b"a")),
        (STATUS, "GONE"),
        (STATUS, 0),
        (DATE, datetime(2026, 1, 1, tzinfo=UTC)),
        (DATE, "2026-01-01"),
        (DATE, 5),
        (MILLIS, datetime(2026, 1, 1)),  # noqa: DTZ001 - no offset: no instant
        (MILLIS, datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)),
        (MILLIS, 0),
        (MICROS, datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=8)))),  # the year before 1
        ({"type": "long", "logicalType": "local-timestamp-micros"}, datetime(1, 1, 1, tzinfo=UTC)),
        (UUID, str(uuid.UUID(int=0))),
        (decimal(), 1),
        (decimal(), Decimal("NaN")),
        (decimal(), Decimal("0.001")),
        (decimal(), Decimal("10000")),
        (decimal(), Decimal("1E999999")),
        (decimal(), Decimal("1E-999999")),
        (INTS, (1,)),
        (INTS, [1, None]),
        ({"type": "map", "values": "int"}, {1: 1}),
        ("int", None),
    ],
)
def test_values_of_another_type_are_never_coerced(kind: Any, value: Any) -> None:
    with pytest.raises(codec.Unencodable) as refused:
        codec.encode(one(kind), {"x": value})
    assert refused.value.path.startswith("x")


def test_missing_and_extra_fields_are_refused() -> None:
    pair = schema(field("x", ["null", "int"], default=None), field("y", "int"))
    for datum, path in [({"y": 1}, "x"), ({"x": None, "y": 1, "z": 1}, ""), ({"x": 1}, "y")]:
        with pytest.raises(codec.Unencodable) as refused:
            codec.encode(pair, datum)
        assert refused.value.path == path


def test_equal_decimals_have_equal_bytes() -> None:
    one_decimal = one(decimal())
    texts = ("1.5", "1.50", "1.500", "0.15E1")
    assert len({codec.encode(one_decimal, {"x": Decimal(t)}) for t in texts}) == 1
    assert codec.encode(one_decimal, {"x": Decimal("-0")}) == b"\x02\x00"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (INTS, varint(10**8) + b"\x00" * 100),
        (INTS, varint(200_000) + b"\x00" * 200_001),
        ({"type": "array", "items": INTS}, varint(90_000) + b"\x00" * 90_001 + b"\x00" * 90_000),
        ({"type": "array", "items": INTS}, (varint(400) + b"\x00" * 400) * 2000),
        ({"type": "map", "values": "bytes"}, varint(2**62) + b"\x00" * 1000),
        ("bytes", varint(2**40) + b"\x00" * 1000),
        (decimal(), varint(1_000_000) + b"\x7f" * 1_000_000),
    ],
)
def test_bombs_are_refused_before_they_cost_anything(kind: Any, body: bytes) -> None:
    bomb = one(kind)
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(codec.Undecodable):
        codec.decode(bomb, body)
    seconds = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2
    assert peak < 4 * 1024 * 1024


def test_what_encodes_also_decodes_up_to_the_limit_of_values() -> None:
    ints = one(INTS)
    most = {"x": [0] * (codec.VALUES_MAX - 2)}
    assert codec.decode(ints, codec.encode(ints, most)) == most
    with pytest.raises(codec.Unencodable):
        codec.encode(ints, {"x": [0] * (codec.VALUES_MAX - 1)})
