"""Writing a value as canonical Avro, strict about Python types.

Avro libraries coerce silently (1.9 to 1, True to 1, a missing field to null); here a value of
another type, an extra or a missing field is refused with its path. What is written always passes
`walk.check_body`.
"""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from shutong_core.domain.errors import Rejected
from shutong_core.wire.shapes import (
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
from shutong_core.wire.walk import VALUES_MAX

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)


class Unencodable(Rejected):
    """The datum is not a value of the schema; `path` names the place, no value is shown."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path or 'record'}: {detail}")
        self.path = path
        self.detail = detail


def encode_shape(shape: Shape, datum: Any) -> bytes:
    """The canonical Avro bytes of `datum`. Raises Unencodable at the first fault."""
    writer = _Writer()
    writer.value(shape, datum)
    return bytes(writer.out)


def varint(value: int) -> bytes:
    """A long as Avro's zig-zag varint, minimal."""
    out = bytearray()
    _put_varint(out, value)
    return bytes(out)


def _put_varint(out: bytearray, value: int) -> None:
    left = value << 1 ^ value >> 63
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)


def unscaled(value: Decimal, precision: int, scale: int) -> int:
    """`value` × 10^scale as an integer. Raises ValueError if it does not fit exactly."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("not a finite decimal")
    # Bounded before any power of ten is built: `1E999999999` is a short text.
    if len(digits) > 2000 or (value.adjusted() >= precision - scale and any(digits)):
        raise ValueError(f"more than {precision} digits at scale {scale}")
    if not any(digits):
        return 0
    whole: int = int("".join(map(str, digits)))
    shift = exponent + scale
    if shift < -len(digits):
        raise ValueError(f"more than {scale} decimal places")
    if shift < 0:
        whole, rest = divmod(whole, 10**-shift)
        if rest:
            raise ValueError(f"more than {scale} decimal places")
    else:
        whole *= 10**shift
    return -whole if sign else whole


class _Writer:
    """Bytes so far, and the steps to the value being written."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.values = 0
        self.path: list[str] = []

    def fault(self, detail: str) -> Unencodable:
        """A fault at the present place."""
        return Unencodable("".join(self.path).removeprefix("."), detail)

    def value(self, shape: Shape, datum: Any) -> None:
        """Write one value of `shape`."""
        self.values += 1
        if self.values > VALUES_MAX:
            raise self.fault(f"more than {VALUES_MAX} values")
        if isinstance(shape, Nullable):
            self.out.append(0 if datum is None else 2)
            if datum is not None:
                self.value(shape.value, datum)
        elif isinstance(shape, Plain):
            self.plain(shape, datum)
        elif isinstance(shape, Record):
            self.record(shape, datum)
        elif isinstance(shape, Enum):
            if type(datum) is not str or datum not in shape.symbols:
                raise self.fault("not one of the enum's symbols")
            _put_varint(self.out, shape.symbols.index(datum))
        elif isinstance(shape, Fixed):
            self.fixed(shape, datum)
        elif isinstance(shape, Array):
            self.items(shape, datum)
        else:
            self.entries(shape, datum)

    def record(self, shape: Record, datum: Any) -> None:
        """Write a record; its keys must be exactly the fields."""
        if type(datum) is not dict:
            raise self.fault("not a record (dict)")
        if len(datum) > len(shape.fields):
            known = {field.name for field in shape.fields}
            extra = next(key for key in datum if key not in known)
            raise self.fault(f"no such field: {str(extra)[:64]!r}")
        for field in shape.fields:
            self.path.append(f".{field.name}")
            if field.name not in datum:
                raise self.fault("missing")
            self.value(field.shape, datum[field.name])
            self.path.pop()

    def items(self, shape: Array, datum: Any) -> None:
        """Write an array: one block and the end mark."""
        if type(datum) is not list:
            raise self.fault("not a list")
        if datum:
            _put_varint(self.out, len(datum))
            self.path.append("")
            for index, item in enumerate(datum):
                self.path[-1] = f"[{index}]"
                self.value(shape.items, item)
            self.path.pop()
        self.out.append(0)

    def entries(self, shape: Map, datum: Any) -> None:
        """Write a map, keys ascending by their bytes: one block and the end mark."""
        if type(datum) is not dict:
            raise self.fault("not a map (dict)")
        if any(type(key) is not str for key in datum):
            self.path.append("{}")
            raise self.fault("not text")
        if datum:
            _put_varint(self.out, len(datum))
            self.path.append("{}")
            # Code points sort as their UTF-8 bytes do.
            for key in sorted(datum):
                self.text(key)
                self.value(shape.values, datum[key])
            self.path.pop()
        self.out.append(0)

    def fixed(self, shape: Fixed, datum: Any) -> None:
        """Write fixed bytes or a fixed decimal."""
        if shape.logical == "decimal":
            number = self.decimal(shape, datum)
            self.out += number.to_bytes(shape.size, "big", signed=True)
            return
        if type(datum) is not bytes or len(datum) != shape.size:
            raise self.fault(f"not {shape.size} bytes")
        self.out += datum

    def plain(self, shape: Plain, datum: Any) -> None:
        """Write a primitive."""
        kind = shape.avro
        if kind in ("int", "long"):
            self.integer(shape, datum)
        elif kind == "string":
            if shape.logical == "uuid":
                if type(datum) is not uuid.UUID:
                    raise self.fault("not a UUID")
                datum = str(datum)
            self.text(datum)
        elif kind == "boolean":
            if type(datum) is not bool:
                raise self.fault("not a boolean")
            self.out.append(datum)
        elif kind == "bytes":
            if shape.logical == "decimal":
                datum = minimal_signed(self.decimal(shape, datum))
            if type(datum) is not bytes:
                raise self.fault("not bytes")
            _put_varint(self.out, len(datum))
            self.out += datum
        else:
            self.real(kind, datum)

    def text(self, datum: Any) -> None:
        """Write a string."""
        if type(datum) is not str:
            raise self.fault("not text")
        try:
            raw = datum.encode()
        except UnicodeEncodeError:
            raise self.fault("text has lone surrogates") from None
        _put_varint(self.out, len(raw))
        self.out += raw

    def real(self, kind: str, datum: Any) -> None:
        """Write a finite float or double; a float is rounded to its 32 bits."""
        if type(datum) is not float:
            raise self.fault("not a float")
        if not math.isfinite(datum):
            raise self.fault("not a finite number")
        try:
            self.out += struct.pack("<f" if kind == "float" else "<d", datum)
        except OverflowError:
            raise self.fault("too large for 32 bits") from None

    def decimal(self, shape: Plain | Fixed, datum: Any) -> int:
        """A decimal's unscaled integer."""
        if type(datum) is not Decimal:
            raise self.fault("not a Decimal")
        try:
            return unscaled(datum, shape.precision, shape.scale)
        except ValueError as error:
            raise self.fault(str(error)) from None

    def integer(self, shape: Plain, datum: Any) -> None:
        """Write an int or long, or the date or time it stands for."""
        number: int | None
        if shape.logical is None:
            number = datum if type(datum) is int else None
        else:
            number = TEMPORAL[shape.logical](datum)
        if number is None:
            raise self.fault(f"not a value of {shape.logical or shape.avro}")
        low, high = RANGES[shape.avro, shape.logical]
        if not low <= number <= high:
            raise self.fault(f"out of the range of {shape.logical or shape.avro}")
        _put_varint(self.out, number)


def _days(datum: Any) -> int | None:
    return datum.toordinal() - _EPOCH_DAY if type(datum) is date else None


def _time(datum: Any) -> int | None:
    """Microseconds after midnight."""
    if type(datum) is not time or datum.tzinfo is not None:
        return None
    seconds = (datum.hour * 60 + datum.minute) * 60 + datum.second
    return seconds * 1_000_000 + datum.microsecond


def _instant(datum: Any) -> int | None:
    """Microseconds after 1970 UTC; a time without offset says no instant."""
    if type(datum) is not datetime or datum.utcoffset() is None:
        return None
    return (datum - _EPOCH) // _MICROSECOND


def _local(datum: Any) -> int | None:
    """Microseconds after 1970 on a clock whose zone is not told."""
    if type(datum) is not datetime or datum.tzinfo is not None:
        return None
    return (datum.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def _millis(micros: Callable[[Any], int | None]) -> Callable[[Any], int | None]:
    """The same in milliseconds; what would be cut off is refused."""

    def exact(datum: Any) -> int | None:
        found = micros(datum)
        return None if found is None or found % 1000 else found // 1000

    return exact


TEMPORAL: Final[Mapping[str, Callable[[Any], int | None]]] = {
    "date": _days,
    "time-millis": _millis(_time),
    "time-micros": _time,
    "timestamp-millis": _millis(_instant),
    "timestamp-micros": _instant,
    "local-timestamp-millis": _millis(_local),
    "local-timestamp-micros": _local,
}
