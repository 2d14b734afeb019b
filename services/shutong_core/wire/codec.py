"""Records as canonical Avro bytes: what is decoded encodes to the same bytes, and back.

Three implementations must agree before a decoded value is believed: the strict walk admits the
bytes, fastavro decodes them, our encoder writes the value back to identical bytes.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from fastavro import schemaless_reader

from shutong_core.domain.reasons import Reason
from shutong_core.wire.encode import Unencodable, encode_shape
from shutong_core.wire.schemas import Schema
from shutong_core.wire.walk import VALUES_MAX, Undecodable, check_body

__all__ = ["VALUES_MAX", "Undecodable", "Unencodable", "check", "decode", "encode"]


def check(schema: Schema, body: bytes) -> None:
    """Check without decoding that `body` is canonical. Raises Undecodable, as `decode` would."""
    check_body(schema.record, body)


def decode(schema: Schema, body: bytes) -> dict[str, Any]:
    """The record in `body` (Avro binary without framing), by field name.

    Values are as fastavro gives them: date, time, aware datetime (naive for local timestamps),
    Decimal, UUID, bytes, str, int, float, bool, list, dict, None. Raises Undecodable.
    """
    check_body(schema.record, body)
    try:
        datum = schemaless_reader(BytesIO(body), schema.prepared)
        again = encode_shape(schema.record, datum)
    except Unencodable as error:
        raise Undecodable(Reason.MALFORMED, error.path, error.detail) from error
    except Exception as error:  # fastavro raises many kinds on hostile bytes: all mean refusal
        raise Undecodable(Reason.MALFORMED, "", type(error).__name__) from error
    if again != body:
        raise Undecodable(Reason.NOT_CANONICAL, "", "encodes to other bytes")
    if not isinstance(datum, dict):
        raise Undecodable(Reason.MALFORMED, "", "not a record")
    return datum


def encode(schema: Schema, datum: dict[str, Any]) -> bytes:
    """The canonical Avro body of `datum`, with every field present. Raises Unencodable.

    Unencodable is a Rejected and names the path of the first fault.
    """
    return encode_shape(schema.record, datum)
