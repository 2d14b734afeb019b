"""Hypothesis strategies: random admitted schemas, data that fit them, bytes that nearly do."""

from __future__ import annotations

import json
from datetime import UTC, date, time
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from shutong_core.wire.schemas import Schema, parse_schema_text
from shutong_core.wire.shapes import (
    INT_MAX,
    INT_MIN,
    LONG_MAX,
    LONG_MIN,
    Array,
    Enum,
    Fixed,
    Map,
    Nullable,
    Plain,
    Record,
    Shape,
    fixed_precision_max,
)

ITEM = {"title": "信息项", "grade": "general_2"}
PRIMITIVES = ("boolean", "int", "long", "float", "double", "bytes", "string")
TEMPORAL = (
    ("int", "date"),
    ("int", "time-millis"),
    ("long", "time-micros"),
    ("long", "timestamp-millis"),
    ("long", "timestamp-micros"),
    ("long", "local-timestamp-millis"),
    ("long", "local-timestamp-micros"),
    ("string", "uuid"),
)
NAMESPACES = ("cn.test", "cn.test.inner", "org.other")


class _Maker:
    """Draws types; remembers the named ones so that later fields may refer to them."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.names = 0
        self.defined: list[str] = []

    def type(self, depth: int) -> Any:
        value = self.value(depth)
        return ["null", value] if self.draw(st.booleans()) else value

    def value(self, depth: int) -> Any:
        kinds = ["primitive", "primitive", "temporal", "decimal", "fixed", "enum"]
        kinds += ["array", "map", "record"] if depth else []
        kinds += ["reference"] if self.defined else []
        return getattr(self, self.draw(st.sampled_from(kinds)))(depth)

    def primitive(self, depth: int) -> Any:
        name = self.draw(st.sampled_from(PRIMITIVES))
        return {"type": name} if self.draw(st.booleans()) else name

    def temporal(self, depth: int) -> Any:
        avro, logical = self.draw(st.sampled_from(TEMPORAL))
        return {"type": avro, "logicalType": logical}

    def digits(self, limit: int) -> dict[str, Any]:
        precision = self.draw(st.integers(1, limit))
        scale = self.draw(st.integers(0, precision))
        return {"logicalType": "decimal", "precision": precision, "scale": scale}

    def decimal(self, depth: int) -> Any:
        return {"type": "bytes", **self.digits(38)}

    def named(self, kind: str) -> dict[str, Any]:
        self.names += 1
        name, namespace = f"T{self.names}", self.draw(st.sampled_from(NAMESPACES))
        self.defined.append(f"{namespace}.{name}")
        return {"type": kind, "name": name, "namespace": namespace}

    def fixed(self, depth: int) -> Any:
        size = self.draw(st.integers(1, 20))
        digits = {}
        if self.draw(st.booleans()):
            digits = self.digits(min(38, fixed_precision_max(size)))
        return {**self.named("fixed"), "size": size, **digits}

    def enum(self, depth: int) -> Any:
        count = self.draw(st.sampled_from([1, 2, 3, 64, 65, 130]))
        return {**self.named("enum"), "symbols": [f"S{n}" for n in range(count)]}

    def array(self, depth: int) -> Any:
        return {"type": "array", "items": self.type(depth - 1)}

    def map(self, depth: int) -> Any:
        return {"type": "map", "values": self.type(depth - 1)}

    def record(self, depth: int) -> Any:
        count = self.draw(st.integers(1, 3))
        fields = [{"name": f"f{n}", "type": self.type(depth - 1)} for n in range(count)]
        return {**self.named("record"), "fields": fields}

    def reference(self, depth: int) -> Any:
        return self.draw(st.sampled_from(self.defined))


@st.composite
def schema_objects(draw: st.DrawFn, fields_max: int = 5, depth: int = 2) -> dict[str, Any]:
    """The JSON object of an admitted dataset schema."""
    maker = _Maker(draw)
    fields = []
    for n in range(draw(st.integers(1, fields_max))):
        field = {"name": f"item{n}", "type": maker.type(depth), "shutong": ITEM}
        if isinstance(field["type"], list) and draw(st.booleans()):
            field["default"] = None
        fields.append(field)
    return {"type": "record", "name": "Row", "namespace": "cn.test", "fields": fields}


@st.composite
def schemas(draw: st.DrawFn, fields_max: int = 5, depth: int = 2) -> Schema:
    """An admitted dataset schema."""
    return parse_schema_text(json.dumps(draw(schema_objects(fields_max, depth))))


def _decimals(shape: Plain | Fixed) -> st.SearchStrategy[Decimal]:
    edge = 10**shape.precision - 1
    # Powers of two, where the number of bytes changes and two's complement is asymmetric.
    turns = [t for n in range(1, 17) for t in (1 << 8 * n - 1, -(1 << 8 * n - 1)) if abs(t) <= edge]
    whole = st.integers(-edge, edge) | st.sampled_from([0, 1, -1, edge, -edge, *turns])

    def scaled(n: int) -> Decimal:
        return Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -shape.scale))

    return whole.map(scaled)


def _to_millis(moment: Any) -> Any:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(INT_MIN, INT_MAX),
    "long": st.integers(LONG_MIN, LONG_MAX),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "bytes": st.binary(max_size=80),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
}
_INSTANTS = st.datetimes(timezones=st.just(UTC))
_LOGICAL: dict[str, st.SearchStrategy[Any]] = {
    "date": st.dates(date(1, 1, 1), date(9999, 12, 31)),
    "time-millis": st.times(time(0), time(23, 59, 59, 999999)).map(_to_millis),
    "time-micros": st.times(time(0), time(23, 59, 59, 999999)),
    "timestamp-millis": _INSTANTS.map(_to_millis),
    "timestamp-micros": _INSTANTS,
    "local-timestamp-millis": st.datetimes().map(_to_millis),
    "local-timestamp-micros": st.datetimes(),
    "uuid": st.uuids(),
}


def data(shape: Shape) -> st.SearchStrategy[Any]:
    """Values of `shape`, as decoding gives them."""
    if isinstance(shape, Nullable):
        return st.none() | data(shape.value)
    if isinstance(shape, Record):
        return st.fixed_dictionaries({field.name: data(field.shape) for field in shape.fields})
    if isinstance(shape, Array):
        return st.lists(data(shape.items), max_size=4)
    if isinstance(shape, Map):
        return st.dictionaries(_PLAIN["string"], data(shape.values), max_size=3)
    if isinstance(shape, Enum):
        return st.sampled_from(shape.symbols)
    if shape.logical == "decimal":
        return _decimals(shape)
    if isinstance(shape, Fixed):
        return st.binary(min_size=shape.size, max_size=shape.size)
    return _LOGICAL[shape.logical] if shape.logical else _PLAIN[shape.avro]


@st.composite
def schema_and_datum(draw: st.DrawFn) -> tuple[Schema, dict[str, Any]]:
    """An admitted schema and a record that fits it."""
    schema = draw(schemas())
    return schema, draw(data(schema.record))


@st.composite
def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    """`body` with a few bytes flipped, put in, taken out, repeated or cut off."""
    changed = bytearray(body)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(changed)))
        kind = draw(st.sampled_from(["flip", "put", "cut", "repeat", "end"]))
        if kind == "flip" and at < len(changed):
            changed[at] = draw(st.integers(0, 255))
        elif kind == "put":
            changed[at:at] = draw(
                st.binary(min_size=1, max_size=4)
                | st.sampled_from([b"\x80", b"\xff" * 9 + b"\x01", b"\x00", b"\x01"])
            )
        elif kind == "cut":
            del changed[at : at + draw(st.integers(1, 3))]
        elif kind == "repeat":
            changed[at:at] = changed[at : at + 4]
        elif kind == "end":
            del changed[at:]
    return bytes(changed)
