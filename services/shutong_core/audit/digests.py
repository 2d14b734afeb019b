"""Digests that stand for a record in the audit, so that no payload and no identifier is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from shutong_core.audit.encoding import TEXT_BYTES_MAX, text

SALT_BYTES = 16
ROW_DIGEST_BYTES = 32
TOKEN_BYTES = 16
ID_HASH_BYTES = 8
_LENGTHS = tuple(size.to_bytes(4, "big") for size in range(TEXT_BYTES_MAX + 1))


def row_digest(salt: bytes, body: bytes) -> bytes:
    """SHA-256(salt ‖ body): 32 bytes; `body` is the Avro body without framing."""
    return hashlib.sha256(salt + body).digest()


def id_hash(publisher: str, dataset: str, event_id: str, key: bytes = b"") -> bytes:
    """8 bytes that stand for an event id in the duplicate window.

    BLAKE2b-64, keyed (≤ 64 bytes) where a key is given, person `shutong-event-id`, over the three
    strings, each with its u32 length; an event id of more than 255 bytes is BAD_EVENT_ID earlier.
    """
    return id_hasher(publisher, dataset, key)(event_id.encode())


def id_hasher(publisher: str, dataset: str, key: bytes = b"") -> Callable[[bytes], bytes]:
    """`id_hash` of event ids in UTF-8 (at most 255 bytes) under one publisher and dataset."""
    begun = hashlib.blake2b(
        text(publisher) + text(dataset),
        digest_size=ID_HASH_BYTES,
        key=key,
        person=b"shutong-event-id",
    ).copy

    def hashed(event_id: bytes) -> bytes:
        whole = begun()
        whole.update(_LENGTHS[len(event_id)] + event_id)
        return whole.digest()

    return hashed
