"""Which schema a Kafka value was written with: the Confluent wire format, in and out.

Prefix mode is 0x00, schema id as 4 bytes big-endian, Avro body. Header mode is the header
`__value_schema_id` = 0x01 and a 16-byte GUID, with the value being the bare body. The bus writes
prefix mode, which every tool reads, and accepts both; where the header is there it wins, as in
Confluent's deserialisers.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from shutong_core.domain.reasons import Reason

#: A registered schema: its id (prefix mode) or its GUID in canonical text (header mode).
SchemaKey = int | str
#: Kafka headers as clients give them; Kafka allows a null value.
Headers = Sequence[tuple[str, bytes | None]]

VALUE_SCHEMA_HEADER = "__value_schema_id"
PREFIX_BYTES = 5
_ID_MAX = 2**32 - 1
_PREFIX_MAGIC = b"\x00"
_GUID_MAGIC = b"\x01"
_GUID_BYTES = 16


def frame(schema_id: int, body: bytes) -> bytes:
    """`body` (Avro) in prefix mode. Raises ValueError if the id is no unsigned 32-bit number."""
    if not 0 <= schema_id <= _ID_MAX:
        raise ValueError(f"schema id {schema_id} does not fit 4 bytes")
    return _PREFIX_MAGIC + schema_id.to_bytes(4, "big") + body


def frame_prefix(schema_id: int) -> bytes:
    """The 5 bytes before every body of that schema, for callers that join many records."""
    return frame(schema_id, b"")


def unframe(value: bytes, headers: Headers = ()) -> tuple[SchemaKey, bytes] | Reason:
    """Schema key and Avro body of `value`, or `BAD_FRAMING`.

    Whether such a schema exists and belongs to the dataset is for the caller to find out.
    """
    guid = schema_guid(headers)
    if isinstance(guid, Reason):
        return guid
    if guid is not None:
        return guid, value
    if len(value) < PREFIX_BYTES or value[:1] != _PREFIX_MAGIC:
        return Reason.BAD_FRAMING
    return int.from_bytes(value[1:PREFIX_BYTES], "big"), value[PREFIX_BYTES:]


def schema_guid(headers: Headers) -> str | Reason | None:
    """The GUID in `__value_schema_id` (`8-4-4-4-12`, lower case); None without that header.

    A second such header, another length or another magic byte is `BAD_FRAMING`.
    """
    found = [value for name, value in headers if name == VALUE_SCHEMA_HEADER]
    if not found:
        return None
    value = found[0]
    if len(found) > 1 or value is None:
        return Reason.BAD_FRAMING
    if len(value) != 1 + _GUID_BYTES or value[:1] != _GUID_MAGIC:
        return Reason.BAD_FRAMING
    return str(uuid.UUID(bytes=bytes(value[1:])))


def guid_header(guid: str) -> tuple[str, bytes]:
    """The header that names a schema by GUID. Raises ValueError if the text is no GUID."""
    return VALUE_SCHEMA_HEADER, _GUID_MAGIC + uuid.UUID(guid).bytes
