"""Literals of conditions, typed by the item they are compared with.

`literal_value` gives the value in the very form the codec decodes the item to, so that comparing
needs no conversion later. What does not fit the item's type exactly is refused.
"""

from __future__ import annotations

import re
import struct
from datetime import date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

from shutong_core.domain.errors import Rejected
from shutong_core.domain.schemaview import FieldType

_INT_RANGE = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
_SIMPLE_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    '"': '"',
    "'": "'",
    "\\": "\\",
}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.)|\Z)", re.DOTALL)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: RFC 3339 with an offset, seconds given.
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.([0-9]+))?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_FRACTION_DIGITS = {"timestamp-millis": 3, "timestamp-micros": 6}


class Kind(IntEnum):
    """What may be asked of an item; later members include the earlier."""

    PRESENCE = 0  # only has(x)
    EQUALITY = 1  # also == != in
    ORDER = 2  # also < <= > >=


class BadLiteral(Rejected):
    """The literal does not fit the item; the texts never repeat a record's value."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh = zh
        self.en = en


def kind_of(field: FieldType) -> Kind:
    """How far items of this type can be compared; unknown types only by presence."""
    match (field.avro, field.logical):
        case ("string" | "int" | "long" | "float" | "double", None):
            return Kind.ORDER
        case ("int", "date") | ("long", "timestamp-millis" | "timestamp-micros"):
            return Kind.ORDER
        case ("bytes" | "fixed", "decimal"):
            return Kind.ORDER
        case ("boolean" | "enum", None) | ("string", "uuid"):
            return Kind.EQUALITY
        case _:
            return Kind.PRESENCE


def literal_value(token: str, text: str, field: FieldType) -> Any:
    """The value of the literal `text` of celpy's token type `token`, for an item like `field`.

    Raises BadLiteral if the literal is of another type, out of range or not exact.
    """
    match (field.avro, field.logical):
        case ("boolean", None):
            return _expect(token, "BOOL_LIT", text, "true 或 false", "true or false") == "true"
        case ("int" | "long", None):
            return _integer(token, text, field.avro)
        case ("float" | "double", None):
            return _floating(token, text, field.avro)
        case ("bytes" | "fixed", "decimal"):
            return Decimal(_number(token, text))
        case _:
            return _from_string(_string(token, text), field)


def _from_string(text: str, field: FieldType) -> Any:
    match (field.avro, field.logical):
        case ("string", None):
            return text
        case ("enum", None):
            if text not in field.symbols:
                raise BadLiteral(
                    f"枚举没有此值，可用：{'、'.join(field.symbols)}",
                    f"not a symbol of this enum: {', '.join(field.symbols)}",
                )
            return text
        case ("int", "date"):
            return _date(text)
        case ("long", "timestamp-millis" | "timestamp-micros"):
            return _timestamp(text, _FRACTION_DIGITS[str(field.logical)])
        case ("string", "uuid"):
            return _uuid(text)
    raise BadLiteral("此类型不能与常量比较", "this type cannot be compared with a literal")


def _integer(token: str, text: str, avro: str) -> int:
    _expect(token, "INT_LIT", text, "整数", "an integer")
    # `0x` is CEL's; a sign may precede it.
    value = int(text, 16) if "x" in text else int(text)
    low, high = _INT_RANGE[avro]
    if not low <= value <= high:
        raise BadLiteral("整数超出该信息项的范围", "the integer is out of the item's range")
    return value


def _floating(token: str, text: str, avro: str) -> float:
    value = float(_number(token, text))
    if avro == "float":
        # An item of type float holds 32 bits; the literal is rounded as the item was.
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            value = float("inf")
    if value in {float("inf"), float("-inf")}:
        raise BadLiteral("数值超出该信息项的范围", "the number is out of the item's range")
    return value


def _number(token: str, text: str) -> str:
    if token not in {"INT_LIT", "FLOAT_LIT"} or "x" in text:
        raise BadLiteral("此处需要十进制数", "a decimal number is needed here")
    exponent = re.search(r"[eE]([+-]?[0-9]+)$", text)
    if exponent is not None and abs(int(exponent.group(1))) > 400:
        raise BadLiteral("指数过大", "the exponent is too large")
    return text


def _expect(token: str, wanted: str, text: str, zh: str, en: str) -> str:
    if token != wanted:
        raise BadLiteral(f"此处需要{zh}", f"{en} is needed here")
    return text


def _string(token: str, text: str) -> str:
    # Raw, bytes and triple-quoted strings of CEL are refused: nobody needs them in a condition.
    if token != "STRING_LIT" or text[0] not in "\"'" or text[:3] in {'"""', "'''"}:  # noqa: S105
        raise BadLiteral("此处需要引号中的文本", "a quoted text is needed here")
    return _ESCAPE.sub(_unescape, text[1:-1])


def _unescape(found: re.Match[str]) -> str:
    number = found.group(1) or found.group(2)
    if number is not None:
        code = int(number, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise BadLiteral("转义不是有效字符", "the escape is not a character")
        return chr(code)
    character = _SIMPLE_ESCAPES.get(found.group(3))
    if character is None:
        raise BadLiteral("不支持的转义", "this escape is not supported")
    return character


def _date(text: str) -> date:
    if _DATE.fullmatch(text) is not None:
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise BadLiteral("日期须写作 YYYY-MM-DD", "a date is written YYYY-MM-DD")


def _timestamp(text: str, digits_max: int) -> datetime:
    found = _TIMESTAMP.fullmatch(text)
    if found is not None and len(found.group(1) or "") <= digits_max:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    raise BadLiteral(
        f"时间须按 RFC 3339 写明时区，小数秒至多 {digits_max} 位",
        f"a time is RFC 3339 with an offset and at most {digits_max} fraction digits",
    )


def _uuid(text: str) -> UUID:
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text:
        raise BadLiteral("UUID 须为小写标准形式", "a UUID is written in its lower-case form")
    return value
