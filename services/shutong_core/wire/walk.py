"""The strict walk over an Avro body: is this the one canonical encoding of a value?

Avro allows many byte strings for one value, and decoders accept more than that; this bus accepts
one. The walk builds no values, bounds the work before anything is decoded, and names the place of
the first fault. Rules: minimal varints; lengths within the body; booleans 0 or 1; strict UTF-8;
union and enum indexes in range; finite floats; logical types in range; decimals minimal and
within their precision; arrays and maps as at most one counted block and the end mark; keys of a
map strictly ascending by their bytes; nothing after the end.
"""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.wire.shapes import (
    LONG_MAX,
    LONG_MIN,
    RANGES,
    Array,
    Enum,
    Fixed,
    Map,
    Nullable,
    Plain,
    Record,
    Shape,
    minimal_signed,
)

#: Values (fields, items, entries) in one body. A 1 MiB body of one-byte items would make a
#: million Python objects; real records have tens.
VALUES_MAX: Final = 100_000
_VARINT_BYTES_MAX: Final = 10


class Undecodable(Rejected):
    """The body is not the canonical encoding of a value of the schema.

    `reason` is MALFORMED (no value at all) or NOT_CANONICAL (another encoding of a value);
    `path` names the place (`items[3].amount`). The text never holds a value of the record.
    """

    def __init__(self, reason: Reason, path: str, detail: str) -> None:
        super().__init__(f"{path or 'record'}: {detail}")
        self.reason = reason
        self.path = path
        self.detail = detail


def check_body(shape: Shape, body: bytes) -> None:
    """Check that `body` is exactly one canonical value of `shape`. Raises Undecodable.

    Time and memory are bounded by len(body) and VALUES_MAX.
    """
    walk = _Walk(body)
    walk.value(shape)
    if walk.at != len(body):
        raise walk.fault("bytes after the end", Reason.MALFORMED)


class _Walk:
    """A position in a body; `path` are the steps to the value being read."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0
        self.values = 0
        self.path: list[str] = []

    def fault(self, detail: str, reason: Reason = Reason.MALFORMED) -> Undecodable:
        """A fault at the present place."""
        return Undecodable(reason, "".join(self.path).removeprefix("."), detail)

    def value(self, shape: Shape) -> None:
        """Pass over one value of `shape`."""
        self.values += 1
        if self.values > VALUES_MAX:
            raise self.fault(f"more than {VALUES_MAX} values")
        _WALKERS[type(shape)](self, shape)

    def nullable(self, shape: Nullable) -> None:
        """Pass over a union branch and its value."""
        if self.number(0, 1, "union branch"):
            self.value(shape.value)

    def record(self, shape: Record) -> None:
        """Pass over the fields."""
        for field in shape.fields:
            self.path.append(f".{field.name}")
            self.value(field.shape)
            self.path.pop()

    def symbol(self, shape: Enum) -> None:
        """Pass over an enum's index."""
        self.number(0, len(shape.symbols) - 1, "enum index")

    def fixed(self, shape: Fixed) -> None:
        """Pass over fixed bytes."""
        raw = self.take(shape.size)
        if shape.logical == "decimal":
            self.decimal(raw, shape.precision)

    def plain(self, shape: Plain) -> None:
        """Pass over one primitive value."""
        kind = shape.avro
        if kind == "string":
            text = self.text()
            if shape.logical == "uuid":
                self.uuid(text)
        elif kind in ("int", "long"):
            self.number(*RANGES[kind, shape.logical], shape.logical or kind)
        elif kind == "boolean":
            if self.take(1) > b"\x01":
                raise self.fault("boolean is neither 0 nor 1")
        elif kind == "bytes":
            raw = self.take(self.length())
            if shape.logical == "decimal":
                self.decimal(raw, shape.precision)
                if raw != minimal_signed(int.from_bytes(raw, "big", signed=True)):
                    raise self.fault("decimal is not minimal", Reason.NOT_CANONICAL)
        else:
            code, size = ("<f", 4) if kind == "float" else ("<d", 8)
            if not math.isfinite(struct.unpack(code, self.take(size))[0]):
                raise self.fault("not a finite number")

    def items(self, shape: Array) -> None:
        """Pass over an array."""
        count = self.count()
        self.path.append("")
        for index in range(count):
            self.path[-1] = f"[{index}]"
            self.value(shape.items)
        self.path.pop()
        if count:
            self.end()

    def entries(self, shape: Map) -> None:
        """Pass over a map."""
        count = self.count()
        last: str | None = None
        for _ in range(count):
            key = self.text()
            # Code points sort as their UTF-8 bytes do.
            if last is not None and key <= last:
                raise self.fault("map keys are not ascending", Reason.NOT_CANONICAL)
            last = key
            # Keys are record content, so the path does not show them.
            self.path.append("{}")
            self.value(shape.values)
            self.path.pop()
        if count:
            self.end()

    def count(self) -> int:
        """The item count of a first block; 0 = empty."""
        count = self.number(LONG_MIN, LONG_MAX, "item count")
        if count < 0:
            raise self.fault("block with a byte size", Reason.NOT_CANONICAL)
        # Every item takes at least one byte, so more cannot be there: refused before the loop.
        if count > min(VALUES_MAX - self.values, len(self.body) - self.at):
            raise self.fault("more items than the body or the limit allow")
        return count

    def end(self) -> None:
        """The end mark after a block."""
        if self.number(LONG_MIN, LONG_MAX, "item count"):
            raise self.fault("more than one block", Reason.NOT_CANONICAL)

    def text(self) -> str:
        """A string; Unicode's strict UTF-8 (no surrogates, no overlong forms)."""
        try:
            return self.take(self.length()).decode()
        except UnicodeDecodeError:
            raise self.fault("string is not UTF-8") from None

    def uuid(self, text: str) -> None:
        """Check the text of a UUID."""
        try:
            canonical = str(uuid.UUID(text))
        except ValueError:
            raise self.fault("string is not a UUID") from None
        if canonical != text:
            raise self.fault("UUID is not in lower case with hyphens", Reason.NOT_CANONICAL)

    def decimal(self, raw: bytes, precision: int) -> None:
        """Check that an unscaled decimal fits its precision."""
        # Refused by length first: no big number is built from a megabyte of digits.
        if len(raw) > 64 or abs(int.from_bytes(raw, "big", signed=True)) >= 10**precision:
            raise self.fault(f"decimal has more than {precision} digits")

    def length(self) -> int:
        """A byte length that lies within the body."""
        return self.number(0, len(self.body) - self.at, "length")

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        raw = self.body[self.at : self.at + size]
        if len(raw) != size:
            raise self.fault("body ends too early")
        self.at += size
        return raw

    def number(self, low: int, high: int, what: str) -> int:
        """A minimal zig-zag varint from `low` to `high`."""
        raw = shift = 0
        while True:
            byte = self.take(1)[0]
            raw |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 7 * _VARINT_BYTES_MAX:
                raise self.fault(f"{what} is longer than {_VARINT_BYTES_MAX} bytes")
        if byte == 0 and shift > 7:
            raise self.fault(f"{what} is not a minimal varint", Reason.NOT_CANONICAL)
        value = raw >> 1 ^ -(raw & 1)
        if not low <= value <= high:
            raise self.fault(f"{what} is out of range")
        return value


_WALKERS: Final[Mapping[type, Callable[[_Walk, Any], None]]] = {
    Plain: _Walk.plain,
    Fixed: _Walk.fixed,
    Enum: _Walk.symbol,
    Array: _Walk.items,
    Map: _Walk.entries,
    Record: _Walk.record,
    Nullable: _Walk.nullable,
}
