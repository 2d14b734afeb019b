"""The intake receipt of one request: every record the bus took, every record it refused, signed.

One signature a request instead of one a record: a request carries up to thousands. The form is
that of the other receipts, RFC 8785 JSON `{"body", "key", "signature"}`, Ed25519 over the RFC 8785
form of `body`. A publisher keeps it as proof; anybody may compare the places with the audit.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shutong_core.audit.receipts import Sign, Verify
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.domain.rows import Identifier

#: 100,000 records of about 300 bytes of receipt each, the most that a request may be set to hold.
INTAKE_RECEIPT_BYTES_MAX = 64 * 1024 * 1024
_SIGNATURE_BYTES = 64
_Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_EventId = Annotated[str, Field(max_length=255)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Taken(_Part):
    """已接收: record `index` of the request stands at (partition, offset) of the inbound topic.

    `digest` is SHA-256 over its Avro body, as in the audit before salting.
    """

    index: _Count
    id: _EventId
    partition: _Count
    offset: _Count
    digest: _Digest


class Refused(_Part):
    """Record `index` was refused; `digest` is SHA-256 over the bytes received.

    Those are the line of an NDJSON body, otherwise the whole body.
    """

    index: _Count
    id: _EventId | None = None
    reasons: Annotated[tuple[str, ...], Field(min_length=1, max_length=100, strict=False)]
    digest: _Digest

    @model_validator(mode="after")
    def _known(self) -> Refused:
        if any(name not in Reason.__members__ for name in self.reasons):
            raise ValueError("unknown reason")
        return self


class RequestReceipt(_Part):
    """What became of one request of `publisher` (`<organisation>/<system>`) for `dataset`."""

    kind: Literal["intake-request"] = "intake-request"
    cluster: Annotated[str, Field(min_length=1, max_length=255)]
    dataset: Identifier
    publisher: Annotated[str, Field(min_length=1, max_length=255)]
    accepted: Annotated[tuple[Taken, ...], Field(strict=False)]
    refused: Annotated[tuple[Refused, ...], Field(strict=False)]
    at_ms: _Count

    @model_validator(mode="after")
    def _once(self) -> RequestReceipt:
        indexes = [each.index for each in self.accepted] + [each.index for each in self.refused]
        if len(set(indexes)) != len(indexes):
            raise ValueError("a record of the request stands there twice")
        return self


def encode_request_receipt(receipt: RequestReceipt, key_id: str, sign: Sign) -> bytes:
    """The signed receipt as RFC 8785 JSON."""
    # Encoded once: keys in order are body, key, signature, so joining keeps the canonical form.
    body = rfc8785.dumps(receipt.model_dump(mode="json", exclude_none=True))
    rest = rfc8785.dumps({"key": key_id, "signature": base64.b64encode(sign(body)).decode("ascii")})
    return b'{"body":' + body + b"," + rest[1:]


def parse_request_receipt(data: bytes, verify: Verify) -> RequestReceipt:
    """The receipt in `data`, its signature checked.

    Raises Rejected if it is malformed, not in RFC 8785 form, or signed by a key that `verify`
    does not accept for it.
    """
    if len(data) > INTAKE_RECEIPT_BYTES_MAX:
        raise Rejected(f"receipt of {len(data)} bytes, limit {INTAKE_RECEIPT_BYTES_MAX}")
    body, key_id, signature = _opened(data)
    signed = rfc8785.dumps(body)
    try:
        receipt = RequestReceipt.model_validate_json(signed)
    except ValidationError:
        raise Rejected("receipt: a field of the intake receipt is wrong") from None
    if receipt.model_dump(mode="json", exclude_none=True) != body:
        raise Rejected("receipt: the body is not in its one form")
    if not verify(key_id, signed, signature):
        raise Rejected("receipt: the signature does not hold")
    return receipt


def _opened(data: bytes) -> tuple[dict[str, Any], str, bytes]:
    try:
        whole = json.loads(data)
        canonical = rfc8785.dumps(whole)
    except (ValueError, RecursionError, rfc8785.CanonicalizationError):
        raise Rejected("receipt: not JSON") from None
    if canonical != data or not isinstance(whole, dict) or len(whole) != 3:
        raise Rejected("receipt: not body, key and signature in RFC 8785 form")
    body, key_id, encoded = (whole.get(name) for name in ("body", "key", "signature"))
    if not (isinstance(body, dict) and isinstance(key_id, str) and isinstance(encoded, str)):
        raise Rejected("receipt: must have exactly body, key and signature")
    try:
        signature = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("receipt: the signature is not base64") from None
    exact = base64.b64encode(signature).decode("ascii") == encoded
    if not exact or len(signature) != _SIGNATURE_BYTES:
        raise Rejected("receipt: the signature is not in its one form")
    return body, key_id, signature
