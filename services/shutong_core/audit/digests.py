"""Digests that stand for a record in the audit, so that no payload and no identifier is kept."""

from __future__ import annotations

import hashlib

from shutong_core.audit.encoding import text

SALT_BYTES = 16
ROW_DIGEST_BYTES = 32
TOKEN_BYTES = 16
ID_HASH_BYTES = 8


def row_digest(salt: bytes, body: bytes) -> bytes:
    """SHA-256(salt ‖ body): 32 bytes; `body` is the Avro body without framing."""
    return hashlib.sha256(salt + body).digest()


def id_hash(publisher: str, dataset: str, event_id: str, key: bytes = b"") -> bytes:
    """8 bytes that stand for an event id in the duplicate window.

    BLAKE2b-64, keyed (≤ 64 bytes) where a key is given, person `shutong-event-id`, over the three
    strings, each with its u32 length; an event id of more than 255 bytes is BAD_EVENT_ID earlier.
    """
    data = text(publisher) + text(dataset) + text(event_id)
    return hashlib.blake2b(
        data, digest_size=ID_HASH_BYTES, key=key, person=b"shutong-event-id"
    ).digest()
