"""Small schemas for tests, written short."""

from __future__ import annotations

import json
from typing import Any

from shutong_core.wire.schemas import Schema, parse_schema_text

ITEM = {"title": "信息项", "grade": "general_2"}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    """A top-level field with item metadata."""
    return {"name": name, "type": kind, "shutong": ITEM, **more}


def record(*fields: dict[str, Any], name: str = "Row", **more: Any) -> dict[str, Any]:
    """A top-level record."""
    return {"type": "record", "name": name, "namespace": "cn.test", "fields": list(fields), **more}


def text(*fields: dict[str, Any], **more: Any) -> str:
    """The JSON text of a record."""
    return json.dumps(record(*fields, **more), ensure_ascii=False)


def schema(*fields: dict[str, Any], **more: Any) -> Schema:
    """A parsed schema."""
    return parse_schema_text(text(*fields, **more))


def one(kind: Any) -> Schema:
    """A schema with the single item `x` of type `kind`."""
    return schema(field("x", kind))


DATE = {"type": "int", "logicalType": "date"}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
UUID = {"type": "string", "logicalType": "uuid"}
STATUS = {"type": "enum", "name": "Status", "symbols": ["ACTIVE", "CLOSED"]}


def decimal(precision: int = 6, scale: int = 2) -> dict[str, Any]:
    """A decimal over bytes."""
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
