"""A dataset's record as JSON Schema (2020-12), so that a publisher sees what `data` must be.

Says the same as the JSON mapping does: decimals and dates are text, absent means null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shutong_core.wire.schemas import Schema
from shutong_core.wire.shapes import RANGES, Array, Enum, Fixed, Map, Nullable, Plain, Record, Shape

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FORMATS: Final[Mapping[str, dict[str, Any]]] = {
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "timestamp-millis": {"type": "string", "format": "date-time"},
    "timestamp-micros": {"type": "string", "format": "date-time"},
    "time-millis": {"type": "string", "pattern": r"^\d{2}:\d{2}:\d{2}(\.\d{1,3})?$"},
    "time-micros": {"type": "string", "pattern": r"^\d{2}:\d{2}:\d{2}(\.\d{1,6})?$"},
    "local-timestamp-millis": {
        "type": "string",
        "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,3})?$",
    },
    "local-timestamp-micros": {
        "type": "string",
        "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?$",
    },
}


def data_shape(schema: Schema) -> dict[str, Any]:
    """JSON Schema of `data`; the items' titles are the catalogue's."""
    shape = _record(schema.record)
    for name, item in schema.items.items():
        shape["properties"][name] = {"title": item.title, **shape["properties"][name]}
    return {"$schema": DIALECT, **shape}


def field_list(schema: Schema) -> list[dict[str, Any]]:
    """The items with their Avro types, as the CSV reader needs them."""
    return [
        {
            "name": each.name,
            "title": schema.items[each.name].title if each.name in schema.items else each.name,
            "avro": each.avro,
            "logical": each.logical,
            "nullable": each.nullable,
            "symbols": list(each.symbols),
        }
        for each in schema.fields.values()
    ]


def _record(record: Record) -> dict[str, Any]:
    required = [each.name for each in record.fields if not isinstance(each.shape, Nullable)]
    return {
        "type": "object",
        "properties": {each.name: _shape(each.shape) for each in record.fields},
        "required": required,
        "additionalProperties": False,
    }


def _shape(shape: Shape) -> dict[str, Any]:
    if isinstance(shape, Nullable):
        return {"anyOf": [_shape(shape.value), {"type": "null"}]}
    if isinstance(shape, Array):
        return {"type": "array", "items": _shape(shape.items)}
    if isinstance(shape, Map):
        return {"type": "object", "additionalProperties": _shape(shape.values)}
    if isinstance(shape, Record):
        return _record(shape)
    if isinstance(shape, Enum):
        return {"enum": list(shape.symbols)}
    return _plain(shape)


def _plain(shape: Plain | Fixed) -> dict[str, Any]:
    if shape.logical == "decimal":
        whole, places = shape.precision - shape.scale, shape.scale
        fraction = rf"(\.\d{{1,{places}}})?" if places else ""
        return {"type": "string", "pattern": rf"^[+-]?\d{{1,{max(whole, 1)}}}{fraction}$"}
    if shape.logical is not None:
        return dict(_FORMATS[shape.logical])
    if shape.avro in {"bytes", "fixed"}:
        return {"type": "string", "contentEncoding": "base64"}
    if shape.avro in {"int", "long"}:
        low, high = RANGES[shape.avro, None]
        return {"type": "integer", "minimum": low, "maximum": high}
    if shape.avro in {"float", "double"}:
        return {"type": "number"}
    return {"type": "boolean" if shape.avro == "boolean" else "string"}
