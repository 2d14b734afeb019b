"""Records as JSON and as rows of text, both ways: one mapping for HTTP, files, pull, webhooks.

Reading collects every fault of a record, because the person who has to correct it should see all
of them at once. Faults name places and types, never values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.wire import strictjson
from shutong_core.wire.jsonvalues import Unfit, read_scalar, write_scalar
from shutong_core.wire.schemas import Schema
from shutong_core.wire.shapes import Array, Enum, Field, Fixed, Map, Nullable, Plain, Record, Shape
from shutong_core.wire.walk import VALUES_MAX

#: Faults reported of one record.
PROBLEMS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: `path` as in `items[3].amount` ("" = the record); UNKNOWN_ITEM,
    REQUIRED_MISSING or BAD_VALUE; what would be right, in Chinese and English."""

    path: str
    reason: Reason
    zh: str
    en: str


class BadValue(Rejected):
    """The record does not fit the schema; `problems` are all faults, in schema order.

    `path`, `reason`, `zh`, `en` are those of the first.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.path or 'record'}: {first.en}{more}")
        self.problems = problems
        self.path = first.path
        self.reason = first.reason
        self.zh = first.zh
        self.en = first.en


def from_json(schema: Schema, value: Any) -> dict[str, Any]:
    """The datum for a JSON object (parsed, see `strictjson.loads`), ready for `codec.encode`.

    Absent means null, where the item is nullable. Raises BadValue.
    """
    return _read(schema, value)


def from_text(schema: Schema, row: Mapping[str, str]) -> dict[str, Any]:
    """The datum for a row of text cells, as in CSV. Raises BadValue.

    An empty cell is null where the item is nullable, and stays empty text in a string item. Cells
    of other types may have blanks around them; booleans may be true/false, 1/0, 是/否; dates also
    `YYYYMMDD` or `YYYY/M/D`; timestamps may have a blank for the `T`; arrays, maps and records are
    JSON text.
    """
    shapes = {field.name: field.shape for field in schema.record.fields}
    value = {
        name: _cell(shapes[name], cell) if name in shapes else cell for name, cell in row.items()
    }
    return _read(schema, value)


def to_json(schema: Schema, datum: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object for a decoded datum: every item is present, null or not.

    What `from_json` reads back to an equal datum.
    """
    return {field.name: _write(field.shape, datum[field.name]) for field in schema.record.fields}


def dumps(value: Any) -> str:
    """A JSON value as compact text in Unicode, without escapes for Chinese."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def to_text(schema: Schema, datum: Mapping[str, Any]) -> dict[str, str]:
    """The datum as text cells: null is empty; nested values are compact JSON text."""
    return {name: _cell_of(value) for name, value in to_json(schema, datum).items()}


def _read(schema: Schema, value: Any) -> dict[str, Any]:
    reader = _Reader()
    datum = reader.value(schema.record, value, "")
    if reader.problems:
        raise BadValue(tuple(reader.problems))
    if not isinstance(datum, dict):
        raise Rejected("not a record")
    return datum


class _Reader:
    """One pass over a JSON value that goes on after a fault."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.values = 0

    def fault(self, path: str, reason: Reason, zh: str, en: str) -> None:
        """Note a fault, up to the limit."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(path, reason, zh, en))

    def value(self, shape: Shape, value: Any, path: str) -> Any:
        """The datum of one value; None where there is a fault."""
        self.values += 1
        if self.values > VALUES_MAX:
            if self.values == VALUES_MAX + 1:
                zh, en = f"超过 {VALUES_MAX} 个值", f"more than {VALUES_MAX} values"
                self.fault(path, Reason.BAD_VALUE, zh, en)
            return None
        if isinstance(shape, Nullable):
            return None if value is None else self.value(shape.value, value, path)
        if value is None:
            self.fault(path, Reason.REQUIRED_MISSING, "不能为空", "must not be null or absent")
            return None
        if isinstance(shape, (Plain, Fixed, Enum)):
            try:
                return read_scalar(shape, value)
            except Unfit as error:
                self.fault(path, Reason.BAD_VALUE, error.zh, error.en)
                return None
        return self.nested(shape, value, path)

    def nested(self, shape: Array | Map | Record, value: Any, path: str) -> Any:
        """The datum of an array, map or record."""
        if isinstance(shape, Array):
            if isinstance(value, list):
                return [self.value(shape.items, v, f"{path}[{i}]") for i, v in enumerate(value)]
            self.fault(path, Reason.BAD_VALUE, "必须是列表", "must be a list")
        elif not isinstance(value, dict):
            self.fault(path, Reason.BAD_VALUE, "必须是对象", "must be an object")
        elif isinstance(shape, Record):
            return self.record(shape, value, path)
        else:
            return {
                self.value(Plain("string"), key, f"{path}{{}}"): self.value(
                    shape.values, item, f"{path}{{}}"
                )
                for key, item in sorted(value.items())
            }
        return None

    def record(self, shape: Record, value: dict[str, Any], path: str) -> dict[str, Any]:
        """The datum of a record; unknown names are faults."""
        datum = {
            field.name: self.value(field.shape, value.get(field.name), _step(path, field))
            for field in shape.fields
        }
        for name in value:
            if name not in datum:
                shown = shown_name(name)
                self.fault(
                    f"{path}.{shown}" if path else shown,
                    Reason.UNKNOWN_ITEM,
                    Reason.UNKNOWN_ITEM.zh,
                    Reason.UNKNOWN_ITEM.en,
                )
        return datum


def _step(path: str, field: Field) -> str:
    return f"{path}.{field.name}" if path else field.name


def shown_name(name: str) -> str:
    """An unknown name, fit for a message: short, without control characters."""
    return re.sub(r"[^\w.-]", "?", name[:64])


def _write(shape: Shape, datum: Any) -> Any:
    if isinstance(shape, Nullable):
        return None if datum is None else _write(shape.value, datum)
    if isinstance(shape, Array):
        return [_write(shape.items, item) for item in datum]
    if isinstance(shape, Map):
        return {key: _write(shape.values, item) for key, item in datum.items()}
    if isinstance(shape, Record):
        return {field.name: _write(field.shape, datum[field.name]) for field in shape.fields}
    return write_scalar(shape, datum)


def _cell_of(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else dumps(value)


def _cell(shape: Shape, cell: str) -> Any:
    """The JSON value that a text cell stands for; the cell itself if it stands for none."""
    value = shape.value if isinstance(shape, Nullable) else shape
    plain_text = value.avro == "string" and value.logical is None
    text = cell if plain_text else cell.strip()
    if text == "" and (isinstance(shape, Nullable) or not plain_text):
        return None
    read = _CELLS.get(value.logical or value.avro)
    try:
        return read(text) if read else text
    except ValueError:
        return text


def _boolean_cell(text: str) -> Any:
    return _BOOLEANS.get(text.lower(), text)


def _date_cell(text: str) -> str:
    found = _LOOSE_DATE.match(text)
    if found is None:
        return text
    year, month, day = (part for part in found.groups() if part is not None)
    return f"{year}-{month:0>2}-{day:0>2}"


def _timestamp_cell(text: str) -> str:
    return text[:10] + "T" + text[11:] if text[10:11] == " " else text


def _integer_cell(text: str) -> int:
    if not _INTEGER.match(text):
        raise ValueError("no integer")
    return int(text)


def _real_cell(text: str) -> float:
    if not _REAL.match(text):
        raise ValueError("no number")
    return float(text)


_BOOLEANS: Final = {"true": True, "1": True, "是": True, "false": False, "0": False, "否": False}
_LOOSE_DATE = re.compile(
    r"(?:([0-9]{4})([0-9]{2})([0-9]{2})|([0-9]{4})/([0-9]{1,2})/([0-9]{1,2}))\Z"
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_REAL = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?\Z")
_CELLS: Final[Mapping[str, Callable[[str], Any]]] = {
    "boolean": _boolean_cell,
    "int": _integer_cell,
    "long": _integer_cell,
    "float": _real_cell,
    "double": _real_cell,
    "date": _date_cell,
    "timestamp-millis": _timestamp_cell,
    "timestamp-micros": _timestamp_cell,
    "local-timestamp-millis": _timestamp_cell,
    "local-timestamp-micros": _timestamp_cell,
    "array": strictjson.loads,
    "map": strictjson.loads,
    "record": strictjson.loads,
}
