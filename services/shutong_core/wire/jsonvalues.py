"""Single values as JSON and back: the conventions for what JSON has no type for.

Decimals are text, dates `YYYY-MM-DD`, times and timestamps as RFC 3339 writes them (instants with
offset, given out in UTC as `Z`), bytes base64 with padding (RFC 4648 section 4).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from shutong_core.wire.encode import TEMPORAL, unscaled
from shutong_core.wire.shapes import RANGES, Enum, Fixed, Plain

Scalar = Plain | Fixed | Enum

_DAY: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_DATE = re.compile(rf"{_DAY}\Z")
_TIME = re.compile(rf"{_CLOCK}\Z")
_LOCAL = re.compile(rf"{_DAY}T{_CLOCK}\Z")
_INSTANT = re.compile(rf"{_DAY}T{_CLOCK}(Z|[+-][0-9]{{2}}:[0-9]{{2}})\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,60}(\.[0-9]{1,60})?\Z")
#: Integers that a double holds exactly.
_DOUBLE_INT_MAX: Final = 2**53


class Unfit(ValueError):  # noqa: N818 - caught at once, becomes a Problem
    """The value does not fit the type; `zh` and `en` say what would."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh = zh
        self.en = en


def read_scalar(shape: Scalar, value: Any) -> Any:
    """The datum for a JSON value. Raises Unfit."""
    if isinstance(shape, Enum):
        if isinstance(value, str) and value in shape.symbols:
            return value
        shown = ", ".join(shape.symbols[:20])
        raise Unfit(f"必须是以下之一：{shown}", f"must be one of: {shown}")
    if shape.logical is not None:
        return _read_logical(shape, value)
    if isinstance(shape, Fixed):
        raw = _read_bytes(value)
        if len(raw) != shape.size:
            raise Unfit(f"必须正好 {shape.size} 字节", f"must be exactly {shape.size} bytes")
        return raw
    return _READERS[shape.avro](value)


def write_scalar(shape: Scalar, datum: Any) -> Any:
    """The JSON value for a datum that encodes."""
    if shape.logical is None:
        return base64.b64encode(datum).decode() if isinstance(datum, bytes) else datum
    if isinstance(shape, (Plain, Fixed)) and shape.logical == "decimal":
        return decimal_text(datum, shape.precision, shape.scale)
    if isinstance(datum, datetime):
        text = datum.replace(tzinfo=None) if datum.tzinfo is None else _utc(datum)
        return text.isoformat(timespec=_precision(shape.logical)) + ("Z" if datum.tzinfo else "")
    if isinstance(datum, time):
        return datum.isoformat(timespec=_precision(shape.logical))
    return datum.isoformat() if isinstance(datum, date) else str(datum)


def decimal_text(datum: Decimal, precision: int, scale: int) -> str:
    """`datum` with exactly `scale` places, never in exponent form."""
    whole = unscaled(datum, precision, scale)
    digits = str(abs(whole)).rjust(scale + 1, "0")
    sign = "-" if whole < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def _utc(datum: datetime) -> datetime:
    return datum.astimezone(UTC).replace(tzinfo=None)


def _precision(logical: str) -> str:
    return "milliseconds" if logical.endswith("millis") else "microseconds"


def _read_logical(shape: Plain | Fixed, value: Any) -> Any:
    logical = shape.logical or ""
    if logical == "decimal":
        return _read_decimal(shape, value)
    if logical == "uuid":
        if isinstance(value, str) and _UUID.match(value):
            return UUID(value)
        raise Unfit("必须是 UUID 文本", "must be a UUID as text")
    pattern, parse, zh, en = _TEMPORAL[logical.removesuffix("-millis").removesuffix("-micros")]
    unfit = Unfit(f"必须写作 {zh}", f"must be written as {en}")
    if not isinstance(value, str) or not pattern.match(value):
        raise unfit
    try:
        datum = parse(value)
    except (ValueError, OverflowError):
        if logical == "date":
            raise Unfit("没有这一天", "no such day") from None
        raise Unfit("没有这个日期或时间", "no such date or time") from None
    number = TEMPORAL[logical](datum)
    if number is None:
        raise Unfit("时间精确到毫秒", "must not be finer than milliseconds")
    low, high = RANGES[shape.avro, logical]
    if not low <= number <= high:
        raise unfit
    return datum


def _read_decimal(shape: Plain | Fixed, value: Any) -> Decimal:
    if not isinstance(value, str):
        raise Unfit(
            '十进制数应写成文本，如 "12.50"', 'a decimal is written as text such as "12.50"'
        )
    if not _DECIMAL.match(value):
        raise Unfit("不是数，应如 12.50", "not a number: write it such as 12.50")
    try:
        # Taken at the schema's scale, so that it equals what decoding gives, digit for digit.
        whole = unscaled(Decimal(value), shape.precision, shape.scale)
    except ValueError as error:
        places = shape.scale
        zh = f"最多 {shape.precision} 位有效数字、{places} 位小数"
        raise Unfit(zh, str(error)) from None
    digits = tuple(map(int, str(abs(whole))))
    return Decimal((int(whole < 0), digits, -shape.scale))


def _read_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Unfit("必须是 true 或 false", "must be true or false")


def _integer(kind: str) -> Callable[[Any], int]:
    low, high = RANGES[kind, None]

    def read(value: Any) -> int:
        if type(value) is not int:
            raise Unfit("必须是整数", "must be a whole number")
        if not low <= value <= high:
            raise Unfit(f"必须在 {low} 与 {high} 之间", f"must be from {low} to {high}")
        return value

    return read


def _real(code: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if type(value) is int and abs(value) <= _DOUBLE_INT_MAX:
            value = float(value)
        if type(value) is not float or not math.isfinite(value):
            raise Unfit("必须是有限的数", "must be a finite number")
        try:
            struct.pack(code, value)
        except OverflowError:
            raise Unfit("数值超出 32 位浮点范围", "too large for a 32-bit float") from None
        return value

    return read


def _read_bytes(value: Any) -> bytes:
    unfit = Unfit("必须是 base64 文本", "must be base64 text with padding")
    if not isinstance(value, str):
        raise unfit
    try:
        raw = binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
    except ValueError:
        raise unfit from None
    if base64.b64encode(raw).decode() != value:
        raise unfit  # bits beyond the last byte: another text for the same bytes
    return raw


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit("必须是文本", "must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unfit("文本含不成对的代理字符", "text has lone surrogates") from None
    return value


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "boolean": _read_boolean,
    "int": _integer("int"),
    "long": _integer("long"),
    "float": _real("<f"),
    "double": _real("<d"),
    "bytes": _read_bytes,
    "string": _read_text,
}


def _instant(text: str) -> datetime:
    # In UTC, as decoding gives it; near year 1 and 9999 that can overflow.
    return datetime.fromisoformat(text).astimezone(UTC)


_TEMPORAL: Final[Mapping[str, tuple[re.Pattern[str], Callable[[str], Any], str, str]]] = {
    "date": (_DATE, date.fromisoformat, "YYYY-MM-DD", "YYYY-MM-DD"),
    "time": (_TIME, time.fromisoformat, "HH:MM:SS", "HH:MM:SS, optionally with a fraction"),
    "timestamp": (
        _INSTANT,
        _instant,
        "RFC 3339 并带时区，如 2026-01-31T08:00:00+08:00",
        "RFC 3339 with offset, such as 2026-01-31T08:00:00+08:00",
    ),
    "local-timestamp": (
        _LOCAL,
        datetime.fromisoformat,
        "不带时区的时间，如 2026-01-31T08:00:00",
        "a local time without offset, such as 2026-01-31T08:00:00",
    ),
}
