"""The supply certificate (免责凭证): what a department supplied in a period, signed by the auditor.

RFC 8785 JSON `{"body", "key", "signature"}`, the signature (Ed25519, base64) over the RFC 8785 form
of `body`, as with receipts. It speaks of decided records only, and names the trees that prove them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shutong_core.audit.signednote import Sign
from shutong_core.domain.errors import Rejected

KIND = "supply-certificate"
CERTIFICATE_BYTES_MAX = 4 * 1024 * 1024
_FIELDS = frozenset(
    {
        "kind",
        "cluster",
        "organisation",
        "name",
        "first_day",
        "last_day",
        "list_number",
        "intakes",
        "placed",
        "duties",
        "checkpoints",
        "at_ms",
    }
)


def encode_certificate(body: dict[str, Any], key_id: str, sign: Sign) -> bytes:
    """The signed certificate as given out. Raises Rejected if a field is missing or unknown."""
    if set(body) != _FIELDS or body["kind"] != KIND:
        raise Rejected("certificate: its fields are not those of a supply certificate")
    signature = base64.b64encode(sign(rfc8785.dumps(body))).decode()
    return rfc8785.dumps({"body": body, "key": key_id, "signature": signature})


def parse_certificate(data: bytes, cluster: str, auditor: Sequence[bytes]) -> dict[str, Any]:
    """The certificate's body, its signature checked by the auditor's public keys.

    Raises Rejected for anything but an exact certificate of bus `cluster` that one of them signed.
    """
    if len(data) > CERTIFICATE_BYTES_MAX:
        raise Rejected(f"certificate of {len(data)} bytes, limit {CERTIFICATE_BYTES_MAX}")
    try:
        whole = json.loads(data)
        exact = rfc8785.dumps(whole) == data
    except (ValueError, RecursionError, rfc8785.CanonicalizationError):
        raise Rejected("certificate: not JSON") from None
    if not exact or not isinstance(whole, dict) or set(whole) != {"body", "key", "signature"}:
        raise Rejected("certificate: not exactly body, key and signature in RFC 8785 form")
    body = whole["body"]
    if not isinstance(body, dict) or set(body) != _FIELDS or body["kind"] != KIND:
        raise Rejected("certificate: its fields are not those of a supply certificate")
    if body["cluster"] != cluster:
        raise Rejected(f"certificate: it is of bus {body['cluster']}")
    if not _signed(rfc8785.dumps(body), str(whole["key"]), whole["signature"], auditor):
        raise Rejected("certificate: no auditor's key of the trust bundle signed it")
    return body


def _signed(message: bytes, key_id: str, text: Any, auditor: Sequence[bytes]) -> bool:
    try:
        signature = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return False
    for public in auditor:
        if key_id == f"auditor/{hashlib.sha256(public).hexdigest()[:16]}":
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
            except (InvalidSignature, ValueError):
                return False
            return True
    return False
