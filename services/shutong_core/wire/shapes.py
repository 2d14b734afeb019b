"""The admitted subset of Avro as typed values: what a linted schema is made of.

A shape is a finite tree: names are resolved, nothing refers back to what encloses it, every type
takes at least one byte. Walkers, encoders and mappings dispatch on these classes and need no
other look at the JSON. Limits are the schema limits of this bus, not Avro's.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
LONG_MIN, LONG_MAX = -(2**63), 2**63 - 1
#: Digits of a decimal: what the common databases can store (SQL NUMBER(38)).
DECIMAL_PRECISION_MAX: Final = 38

#: What an integer type may hold, by logical type; dates are 0001-01-01 … 9999-12-31, the years
#: that ISO 8601 text and Python's datetime share.
RANGES: Final[Mapping[tuple[str, str | None], tuple[int, int]]] = {
    ("int", None): (INT_MIN, INT_MAX),
    ("long", None): (LONG_MIN, LONG_MAX),
    ("int", "date"): (-719_162, 2_932_896),
    ("int", "time-millis"): (0, 86_399_999),
    ("long", "time-micros"): (0, 86_399_999_999),
    ("long", "timestamp-millis"): (-62_135_596_800_000, 253_402_300_799_999),
    ("long", "timestamp-micros"): (-62_135_596_800_000_000, 253_402_300_799_999_999),
    ("long", "local-timestamp-millis"): (-62_135_596_800_000, 253_402_300_799_999),
    ("long", "local-timestamp-micros"): (-62_135_596_800_000_000, 253_402_300_799_999_999),
}
#: Logical types that are admitted, with the Avro types they may annotate.
LOGICAL_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "decimal": ("bytes", "fixed"),
    "date": ("int",),
    "time-millis": ("int",),
    "time-micros": ("long",),
    "timestamp-millis": ("long",),
    "timestamp-micros": ("long",),
    "local-timestamp-millis": ("long",),
    "local-timestamp-micros": ("long",),
    "uuid": ("string",),
}


@dataclass(frozen=True, slots=True)
class Plain:
    """A primitive type; `precision` and `scale` are set for decimals over bytes only."""

    avro: str
    logical: str | None = None
    precision: int = 0
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Fixed:
    """`size` bytes; a decimal if `logical` says so."""

    name: str
    size: int
    logical: str | None = None
    precision: int = 0
    scale: int = 0
    aliases: tuple[str, ...] = ()
    avro: str = "fixed"


@dataclass(frozen=True, slots=True)
class Enum:
    """One of `symbols`; `default` is what an old reader takes a newer symbol for."""

    name: str
    symbols: tuple[str, ...]
    default: str | None = None
    aliases: tuple[str, ...] = ()
    avro: str = "enum"
    logical: None = None


@dataclass(frozen=True, slots=True)
class Array:
    """A list of `items`."""

    items: Shape
    avro: str = "array"
    logical: None = None


@dataclass(frozen=True, slots=True)
class Map:
    """Text to `values`."""

    values: Shape
    avro: str = "map"
    logical: None = None


@dataclass(frozen=True, slots=True)
class Nullable:
    """The union `["null", T]`: branch 0 is null, branch 1 is `value`."""

    value: Value


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record."""

    name: str
    shape: Shape
    has_default: bool = False
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """Fields in the order of the schema; `name` is the full name."""

    name: str
    fields: tuple[Field, ...]
    aliases: tuple[str, ...] = ()
    avro: str = "record"
    logical: None = None


Value = Plain | Fixed | Enum | Array | Map | Record
Shape = Value | Nullable


def inner(shape: Shape) -> Value:
    """`shape` without the null branch."""
    return shape.value if isinstance(shape, Nullable) else shape


def fixed_precision_max(size: int) -> int:
    """Decimal digits that always fit in `size` bytes of two's complement."""
    return len(str(2 ** (8 * size - 1) - 1)) - 1


def minimal_signed(value: int) -> bytes:
    """`value` as the shortest big-endian two's complement, at least one byte.

    The same bytes as Java's `BigInteger.toByteArray`: -128 is one byte.
    """
    bits = (value if value >= 0 else ~value).bit_length() + 1
    return value.to_bytes((bits + 7) // 8, "big", signed=True)


def is_canonical_uuid(text: str) -> bool:
    """Whether `text` is a UUID in the one form of RFC 9562: lower case, hyphens."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def default_fits(shape: Shape, default: Any) -> bool:
    """Whether the JSON value `default` may stand as the default of `shape` (Avro, "fields").

    A default belongs to the first branch of a union, so for a nullable it can only be null.
    """
    if isinstance(shape, Nullable):
        return default is None
    if isinstance(shape, (Array, Map, Record)):
        return _nested_default_fits(shape, default)
    if isinstance(shape, Plain):
        return _plain_default_fits(shape, default)
    if isinstance(shape, Enum):
        return isinstance(default, str) and default in shape.symbols
    return _is_byte_text(default) and len(default) == shape.size and _decimal_ok(shape, default)


def _nested_default_fits(shape: Array | Map | Record, default: Any) -> bool:
    if isinstance(shape, Array):
        return isinstance(default, list) and all(default_fits(shape.items, v) for v in default)
    if not isinstance(default, dict):
        return False
    if isinstance(shape, Map):
        return all(default_fits(shape.values, value) for value in default.values())
    fields = {field.name: field.shape for field in shape.fields}
    return fields.keys() == default.keys() and all(
        default_fits(fields[name], value) for name, value in default.items()
    )


def _plain_default_fits(shape: Plain, default: Any) -> bool:
    if shape.avro == "boolean":
        return isinstance(default, bool)
    if shape.avro in ("int", "long"):
        low, high = RANGES[shape.avro, shape.logical]
        return type(default) is int and low <= default <= high
    if shape.avro in ("float", "double"):
        return type(default) in (int, float)
    if shape.avro == "bytes":
        return _is_byte_text(default) and _decimal_ok(shape, default)
    return isinstance(default, str) and (shape.logical != "uuid" or is_canonical_uuid(default))


def _is_byte_text(default: Any) -> bool:
    return isinstance(default, str) and all(ord(char) <= 0xFF for char in default)


def _decimal_ok(shape: Plain | Fixed, default: str) -> bool:
    if shape.logical != "decimal":
        return True
    raw = default.encode("latin-1")
    value = int.from_bytes(raw, "big", signed=True)
    minimal = isinstance(shape, Fixed) or raw == minimal_signed(value)
    return minimal and abs(value) < 10**shape.precision
