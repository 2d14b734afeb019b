"""Receipts: what an agency countersigns it has read. What the bus took in: see `intake`.

A receipt is RFC 8785 JSON `{"body", "key", "signature"}`; the signature (Ed25519, base64) is over
the RFC 8785 form of `body`. Signing and the choice of keys are the caller's.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Annotated, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shutong_core.domain.errors import Rejected
from shutong_core.domain.rows import Identifier, RegionCode

RECEIPT_BYTES_MAX = 64 * 1024
#: RFC 8785 numbers are exact up to 2^53 - 1.
_Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_SIGNATURE_BYTES = 64

#: Ed25519 signature (64 bytes) of the message.
Sign = Callable[[bytes], bytes]
#: (key id, message, signature) → whether that key is trusted and signed it.
Verify = Callable[[str, bytes, bytes], bool]


class DeliveryReceipt(BaseModel):
    """已签收: the agency read records `first` … `last` of (grant, lane), chain value after them.

    With `territory` (a class grant), numbers and chain are those of (grant, territory, lane).
    """

    kind: Literal["delivery"] = "delivery"
    cluster: Annotated[str, Field(min_length=1, max_length=255)]
    grant: Identifier
    territory: RegionCode | None = None
    lane: _Count
    first: Annotated[_Count, Field(alias="from")]
    last: Annotated[_Count, Field(alias="to")]
    chain: _Digest
    agency: Annotated[str, Field(min_length=1, max_length=255)]
    at_ms: _Count

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    @model_validator(mode="after")
    def _in_order(self) -> DeliveryReceipt:
        if not 1 <= self.first <= self.last:
            raise ValueError("`from` and `to` must be a range from 1")
        return self


def signed_bytes(receipt: DeliveryReceipt) -> bytes:
    """RFC 8785 form of the receipt's body: what is signed."""
    return rfc8785.dumps(receipt.model_dump(mode="json", by_alias=True, exclude_none=True))


def encode_receipt(receipt: DeliveryReceipt, key_id: str, sign: Sign) -> bytes:
    """The signed receipt as stored and sent."""
    signature = sign(signed_bytes(receipt))
    return rfc8785.dumps(
        {
            "body": receipt.model_dump(mode="json", by_alias=True, exclude_none=True),
            "key": key_id,
            "signature": base64.b64encode(signature).decode(),
        }
    )


def parse_receipt(data: bytes, verify: Verify) -> DeliveryReceipt:
    """The receipt in `data`, its signature checked.

    Raises Rejected if it is malformed, not in RFC 8785 form, unsigned, or signed by a key that
    `verify` does not accept for it.
    """
    receipt, key_id, signature = _opened(data)
    if not verify(key_id, signed_bytes(receipt), signature):
        raise Rejected("receipt: the signature does not hold")
    return receipt


def _opened(data: bytes) -> tuple[DeliveryReceipt, str, bytes]:
    if len(data) > RECEIPT_BYTES_MAX:
        raise Rejected(f"receipt of {len(data)} bytes, limit {RECEIPT_BYTES_MAX}")
    try:
        whole = json.loads(data)
        canonical = rfc8785.dumps(whole)
    except (ValueError, RecursionError, rfc8785.CanonicalizationError):
        raise Rejected("receipt: not JSON") from None
    if canonical != data or not isinstance(whole, dict):
        raise Rejected("receipt: not an object in RFC 8785 form")
    body, key_id, encoded = (whole.get(name) for name in ("body", "key", "signature"))
    if len(whole) != 3 or not isinstance(key_id, str) or not isinstance(encoded, str):
        raise Rejected("receipt: must have exactly body, key and signature")
    if not isinstance(body, dict) or body.get("kind") != "delivery":
        raise Rejected("receipt: unknown kind")
    try:
        signature = base64.b64decode(encoded, validate=True)
        receipt = DeliveryReceipt.model_validate_json(
            rfc8785.dumps(body), by_alias=True, by_name=False
        )
    except (binascii.Error, ValidationError):
        raise Rejected("receipt: a field of the delivery receipt is wrong") from None
    exact = receipt.model_dump(mode="json", by_alias=True, exclude_none=True) == body
    # Base64 has spare bits at the end: only their zero form counts.
    exact = exact and base64.b64encode(signature).decode() == encoded
    if not exact or len(signature) != _SIGNATURE_BYTES:
        raise Rejected("receipt: body or signature is not in its one form")
    return receipt, key_id, signature
