"""The generated walk admits exactly the bytes that the strict walk admits."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest

from shutong_broker.policy.decidegen import _NAMESPACE
from shutong_broker.policy.emit import Emission
from shutong_broker.policy.walkgen import Needs, WalkWriter
from shutong_core.wire.encode import varint
from shutong_core.wire.schemas import Schema
from shutong_core.wire.shapes import RANGES
from shutong_core.wire.walk import VALUES_MAX, Undecodable, check_body
from unit.schema_examples import UUID, decimal, field, schema

ENUM_65 = {"type": "enum", "name": "Many", "symbols": [f"S{n}" for n in range(65)]}
ENUM_3 = {"type": "enum", "name": "Few", "symbols": ["A", "B", "C"]}
LINE = {"type": "record", "name": "Line", "fields": [{"name": "n", "type": ["null", "string"]}]}
KINDS: dict[str, Any] = {
    **{name: name for name in ("boolean", "int", "long", "float", "double", "bytes", "string")},
    **{f"{a} {b}": {"type": a, "logicalType": b} for a, b in RANGES if b is not None},
    "uuid": UUID,
    "decimal": decimal(),
    "decimal of 2 digits": decimal(2, 0),
    "fixed": {"type": "fixed", "name": "F", "size": 2},
    "fixed decimal": {
        "type": "fixed", "name": "D", "size": 3, "logicalType": "decimal", "precision": 6
    },
    "enum of 3": ENUM_3,
    "enum of 65": ENUM_65,
    "nullable": ["null", "int"],
    "nullable decimal": ["null", decimal(2, 0)],
    "array": {"type": "array", "items": "string"},
    "array of records": {"type": "array", "items": LINE},
    "map": {"type": "map", "values": ENUM_65},
    "record": LINE,
}  # fmt: skip
#: Bytes at which something turns: signs, lengths, continuation, UTF-8's kinds, exponents.
TURNS = (0x00, 0x01, 0x02, 0x04, 0x7F, 0x80, 0x81, 0xE7, 0xA4, 0xFF)
#: What stands before the value: nothing, a character of three bytes, and two of its bytes.
TEXTS = (b"\x00", b"\x06\xe7\xa4\xba", b"\x04\xe7\xa4")
AFTER = (b"\x00", b"\x06\xe7\xa4\xba", b"\x02\xba", b"\xc8\x01" + b"x" * 100, b"\x06ab")


def of(kind: Any) -> Schema:
    return schema(field("t", "string"), field("x", kind), field("u", "string"))


@cache
def walk(name: str, needed: bool) -> Callable[[bytes], int]:
    """The generated walk; with every raw value, encoding and beginning kept if `needed`."""
    record = of(KINDS[name]).record
    every = frozenset(range(3)) if needed else frozenset()
    out = Emission(_NAMESPACE)
    with out.block("def walk(b):"):
        WalkWriter(out, record, Needs(every, every, every)).write()
        out("return p")
    made: Callable[[bytes], int] = out.build()["walk"]
    return made


def admits(read: Callable[[bytes], Any], body: bytes) -> bool:
    try:
        read(body)
    except Exception:  # whatever it is, it leads to the interpreter
        return False
    return True


def short_values() -> Iterator[bytes]:
    for size in range(4):
        yield from map(bytes, product(TURNS, repeat=size))


def edge_values() -> Iterator[bytes]:
    edges = {edge for bounds in RANGES.values() for edge in bounds}
    edges |= {2**n for n in range(64)} | {-(2**n) for n in range(64)}
    for edge in edges:
        for number in (edge - 1, edge, edge + 1):
            if -(2**63) <= number < 2**63:
                yield varint(number)
                yield varint(number)[:-1] + bytes([varint(number)[-1] | 0x80, 0])
    for digits in (99, 100, -99, -100, 10**6 - 1, 10**6, -(10**6), 10**12 - 1, 10**12, -(10**12)):
        for size in range(1, 9):
            if -(1 << 8 * size - 1) <= digits < 1 << 8 * size - 1:
                raw = digits.to_bytes(size, "big", signed=True)
                yield from (raw, varint(size) + raw, b"\x02" + varint(size) + raw)
    for number in (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e38, 3.4e38):
        yield from (struct.pack("<f", number), struct.pack("<d", number))
    for text in ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B810-9dad-11d1-80b4-00c04fd430c8"):
        yield varint(len(text)) + text.encode()
        yield varint(len(text)) + text.replace("-", "x").encode()
    yield from (b"\x04\x02a\x00\x02a\x02\x00", b"\x04\x02a\x00\x02b\x80\x01\x00", b"\x82\x01" * 3)
    yield from (b"\xff" * 9 + b"\x02", b"\x80" * 20 + b"\x01", varint(2**40), b"\x01\x02\x02\x00")
    for size in (63, 64, 65, 8191, 8192):
        yield varint(size) + b"x" * size
        yield varint(size) + b"\xe7" * size


@pytest.mark.parametrize("name", KINDS)
def test_the_generated_walk_admits_what_the_strict_walk_admits(name: str) -> None:
    record = of(KINDS[name]).record
    seen = set()
    cases = [
        *((b"\x06\xe7\xa4\xba", value, b"\x02a") for value in short_values()),
        *((before, value, after) for value in edge_values() for before in TEXTS for after in AFTER),
    ]
    for before, value, after in cases:
        body = before + value + after
        wanted = admits(lambda raw: check_body(record, raw), body)
        for needed in (False, True):
            assert admits(walk(name, needed), body) is wanted, body.hex()
        seen.add(wanted)
    assert seen == {True, False}


def test_bombs_are_refused_before_they_cost_anything() -> None:
    body = b"\x00" + varint(2**60) + b"\x00" * 1000
    assert not admits(walk("array", False), body)
    many = b"\x00" + varint(VALUES_MAX) + b"\x00" * VALUES_MAX + b"\x00\x00"
    assert not admits(walk("array", False), many)
    with pytest.raises(Undecodable):
        check_body(of(KINDS["array"]).record, many)
    fewer = VALUES_MAX - 4
    body = b"\x00" + varint(fewer) + b"\x00" * fewer + b"\x00\x00"
    assert admits(walk("array", False), body)
    check_body(of(KINDS["array"]).record, body)
