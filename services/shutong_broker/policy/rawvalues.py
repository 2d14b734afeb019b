"""Raw values: what the generated walk takes from a body in place of Python objects.

Text is its UTF-8 bytes (which sort as the text does), dates and times their numbers, an enum its
index, a boolean 0 or 1, a decimal its unscaled integer, an array or map its number of members.
Here literals of conditions, masks and bounds are brought into the same form, once per list.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

from shutong_broker.policy.masks import STARS, band_labels, keyed_hash, month, year
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Band, Hash, Keep, Mask
from shutong_core.wire.encode import varint
from shutong_core.wire.shapes import Enum, Fixed, Plain, Value

#: From a raw value to the Avro bytes of what a subscriber sees in its place.
RawMask = Callable[[Any], bytes]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_UNITS = {
    "timestamp-millis": timedelta(milliseconds=1),
    "timestamp-micros": timedelta(microseconds=1),
}


def raw_literal(value: Any, shape: Value) -> Hashable:
    """The literal `value` of a condition as a raw value of `shape`.

    A decimal between two of the item's steps becomes a Fraction. Raises Rejected for a type whose
    items are never compared.
    """
    logical = shape.logical
    if isinstance(shape, Enum):
        return int(shape.symbols.index(value))
    if logical == "decimal" and isinstance(shape, Plain | Fixed):
        scaled = Fraction(value) * 10**shape.scale
        return int(scaled) if scaled.denominator == 1 else scaled
    if logical == "date":
        return int(value.toordinal()) - _EPOCH_DAY
    if logical in _UNITS:
        return int((value - _EPOCH) // _UNITS[logical])
    if shape.avro == "string":
        return str(value).encode()
    if logical is None and shape.avro in ("boolean", "int", "long", "float", "double"):
        found: Hashable = value
        return found
    raise Rejected(f"items of type {logical or shape.avro} are not compared")


def avro_text(text: bytes, nullable: bool) -> bytes:
    """The Avro bytes of a string that is not null; with its union branch if `nullable`."""
    size = len(text)
    head = _HEADS[nullable][size] if size < _SIZES_READY else _head(size, nullable)
    return head + text


def _head(size: int, nullable: bool) -> bytes:
    return (b"\x02" if nullable else b"") + varint(size)


_SIZES_READY = 256
_HEADS = tuple(
    tuple(_head(size, nullable) for size in range(_SIZES_READY)) for nullable in (False, True)
)


def raw_mask(mask: Mask, shape: Value, nullable: bool, secret: bytes) -> RawMask:
    """The mask over raw values; *hash* takes the encoding instead. Null stays null.

    Raises Rejected if it does not fit.
    """
    if isinstance(mask, Band) and mask.bounds is not None:
        return _band(mask.bounds, shape, nullable)
    masked = _text_mask(mask, shape, secret)

    def encoded(raw: Any) -> bytes:
        return b"\x00" if raw is None else avro_text(masked(raw), nullable)

    return encoded


def _text_mask(mask: Mask, shape: Value, secret: bytes) -> Callable[[Any], bytes]:
    match mask:
        case Keep(first=first, last=last) if (shape.avro, shape.logical) == ("string", None):
            return lambda raw: _keep(raw, first, last)
        case Hash():
            return lambda raw: keyed_hash(secret, raw).encode()
        case Band(by="year") if shape.logical == "date":
            return lambda raw: year(_day(raw)).encode()
        case Band(by="month") if shape.logical == "date":
            return lambda raw: month(_day(raw)).encode()
        case _:
            raise Rejected(f"mask {mask.mask} does not fit")


_STARS = STARS.encode()


def _keep(raw: bytes, first: int, last: int) -> bytes:
    if not raw.isascii():
        text = raw.decode()
        if len(text) <= first + last:
            return _STARS
        return (text[:first] + STARS + text[len(text) - last :]).encode()
    size = len(raw)
    return raw[:first] + _STARS + raw[size - last :] if size > first + last else _STARS


def _day(raw: int) -> date:
    return date.fromordinal(raw + _EPOCH_DAY)


def band_edges(bounds: tuple[float, ...], shape: Value) -> list[float]:
    """Where the bands begin, as raw values of `shape`: integers unless it is a real number.

    Raises Rejected if the bounds do not fit.
    """
    if not all(math.isfinite(bound) for bound in bounds):
        raise Rejected("bounds must be finite numbers")
    if shape.logical == "decimal" and isinstance(shape, Plain | Fixed):
        return [math.ceil(Fraction(repr(bound)) * 10**shape.scale) for bound in bounds]
    if shape.logical is None and shape.avro in ("int", "long"):
        return [math.ceil(Fraction(repr(bound))) for bound in bounds]
    if shape.logical is None and shape.avro in ("float", "double"):
        return list(bounds)
    raise Rejected("bounds do not fit the item")


def _band(bounds: tuple[float, ...], shape: Value, nullable: bool) -> RawMask:
    """Bands by bisection: a bound counts itself to the band above it."""
    edges = band_edges(bounds, shape)
    labels = [avro_text(label.encode(), nullable) for label in band_labels(bounds)]

    def encoded(raw: Any) -> bytes:
        return b"\x00" if raw is None else labels[bisect_right(edges, raw)]

    return encoded


def decimal_steps(shapes: list[Value]) -> list[int]:
    """What raw numbers of `shapes` (integers, decimals) are multiplied by to compare exactly."""
    scales = [shape.scale if isinstance(shape, Plain | Fixed) else 0 for shape in shapes]
    return [10 ** (max(scales) - scale) for scale in scales]
