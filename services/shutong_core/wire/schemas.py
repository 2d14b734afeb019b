"""One admitted Avro schema with its identity, its items and its shape.

A schema's identity is SHA-256 over its whole RFC 8785 text, metadata included: Avro's own
fingerprints drop documentation, defaults, logical types and custom properties, so two schemas
with different policy would look the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from shutong_core.domain.canonical import canonical
from shutong_core.domain.catalogue import Grade, Item
from shutong_core.domain.errors import Rejected
from shutong_core.domain.schemaview import FieldType, highest_grade
from shutong_core.wire.findings import TEXT_BYTES_MAX, Finding
from shutong_core.wire.lint import read_schema
from shutong_core.wire.metadata import DeliveredItem
from shutong_core.wire.shapes import Enum, Field, Nullable, Record, inner


class SchemaRefused(Rejected):
    """The schema is not admitted; `findings` says why, rule by rule."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__(
            "; ".join(f"{found.path or 'schema'}: {found.en}" for found in findings[:5])
            + (f"; and {len(findings) - 5} more" if len(findings) > 5 else "")
        )
        self.findings = findings


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """A schema version: of a dataset (`items`) or of what a grant delivers (`delivered`).

    `text` is the RFC 8785 form that the registry keeps and serves, `digest` its SHA-256 (32
    bytes). Of `items` and `delivered` one is empty, the other has the keys of `fields`, in schema
    order. `parsed` is the JSON of `text`; `prepared` the same for fastavro. Treat both as
    read-only. Two schemas are equal if their digests are.
    """

    text: str
    digest: bytes
    record: Record
    items: Mapping[str, Item]
    delivered: Mapping[str, DeliveredItem]
    fields: Mapping[str, FieldType]
    parsed: Mapping[str, Any]
    prepared: Any

    @property
    def name(self) -> str:
        """The record's full name."""
        return self.record.name

    @property
    def guid(self) -> str:
        """The id that header-mode clients use, see `schema_guid`."""
        return schema_guid(self.digest)

    @property
    def grade(self) -> Grade:
        """The highest grade of any item.

        A delivered schema tells no grades: used as a dataset's it counts as CORE, which is never
        carried.
        """
        return highest_grade(self.items) if self.items else Grade.CORE

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def parse_schema_text(text: bytes | str) -> Schema:
    """The schema in `text` (JSON, any formatting). Raises SchemaRefused, a Rejected."""
    reading = read_schema(text)
    if reading.findings or reading.record is None:
        raise SchemaRefused(tuple(reading.findings))
    whole = canonical(dict(reading.parsed))
    if len(whole) > TEXT_BYTES_MAX:
        raise SchemaRefused((Finding("", "规范文本过长", "the canonical text is too long"),))
    try:
        prepared = parse_schema(dict(reading.parsed))
    except (SchemaParseException, UnknownType, ValueError, KeyError, TypeError) as error:
        # The lint is meant to be stricter than fastavro; where it is not, refuse all the same.
        found = Finding("", "Avro 库不接受该模式", f"Avro library refuses the schema: {error}")
        raise SchemaRefused((found,)) from error
    return Schema(
        text=whole.decode(),
        digest=hashlib.sha256(whole).digest(),
        record=reading.record,
        items=reading.items,
        delivered=reading.delivered,
        fields={each.name: _field_type(each) for each in reading.record.fields},
        parsed=reading.parsed,
        prepared=prepared,
    )


def schema_guid(digest: bytes) -> str:
    """The GUID of a schema: its digest's first 16 bytes as a UUID version 8 (RFC 9562 5.8).

    Equal texts have equal GUIDs on every node, without an allotting service.
    """
    raw = bytearray(digest[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _field_type(field: Field) -> FieldType:
    value = inner(field.shape)
    return FieldType(
        name=field.name,
        avro=value.avro,
        logical=value.logical,
        nullable=isinstance(field.shape, Nullable),
        symbols=value.symbols if isinstance(value, Enum) else (),
    )
