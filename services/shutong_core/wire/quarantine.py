"""Refused records on topic quarantine: sealed values, plain headers that say why.

The value is a 12-byte random nonce and the AES-GCM ciphertext of the refused record. The place it
came from (dataset, lane, offset) is authenticated with it, so a sealed value moved to another
place does not open. A key is good for 2**32 values (NIST SP 800-38D, 8.3, random nonces).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.wire.busrecords import BusCodec, QuarantineHeader, QuarantineRecord
from shutong_core.wire.framing import Headers

NONCE_BYTES = 12
TAG_BYTES = 16
#: What is larger is kept as digest only: the topic takes 2 MiB a batch, headers included.
WHOLE_BYTES_MAX = 2 * 1024 * 1024 - 64 * 1024
_NULL_LENGTH = 0xFFFFFFFF
_LABEL = b"shutong-quarantine-v1"
_PATH_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Source:
    """Where a refused record stood: dataset, lane (its partition) and offset."""

    dataset: str
    lane: int
    offset: int


@dataclass(frozen=True, slots=True)
class QuarantineHeaders:
    """What the headers of a quarantined record tell without opening it."""

    publisher: str  # "" if unknown
    event_id: str | None
    reason: Reason
    path: str  # item at fault, "" for the record itself
    source: Source


def refused_record(key: bytes | None, value: bytes | None, headers: Headers) -> QuarantineRecord:
    """The refused record as it is kept: whole, or only its size and digest if too large."""
    kept = tuple(
        QuarantineHeader(name.encode("utf-8", "backslashreplace").decode(), content)
        for name, content in headers
    )
    size = len(key or b"") + len(value or b"")
    size += sum(len(header.name.encode()) + len(header.value or b"") for header in kept)
    digest = hashlib.sha256(_prefixed(key) + _prefixed(value)).digest()
    # Lengths and union marks of the encoding: at most 25 bytes a header.
    if size + 25 * len(kept) > WHOLE_BYTES_MAX:
        return QuarantineRecord(False, size, digest, None, None, ())
    return QuarantineRecord(True, size, digest, key, value, kept)


def seal(
    codec: BusCodec,
    secret: bytes,
    record: QuarantineRecord,
    source: Source,
    random: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """`record` sealed for topic quarantine: nonce ‖ ciphertext and tag.

    `secret` is an AES key of 16, 24 or 32 bytes; `random(n)` gives n unpredictable bytes.
    """
    nonce = random(NONCE_BYTES)
    return nonce + AESGCM(secret).encrypt(nonce, codec.encode(record), _place(source))


def open_sealed(codec: BusCodec, secret: bytes, sealed: bytes, source: Source) -> QuarantineRecord:
    """The record in `sealed`. Raises Rejected for another key, another place or altered bytes."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise Rejected("a sealed record is longer than this")
    nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        plain = AESGCM(secret).decrypt(nonce, rest, _place(source))
    except InvalidTag:
        raise Rejected("the sealed record does not open: other key, place or content") from None
    return codec.decode_as(QuarantineRecord, plain)


def quarantine_headers(told: QuarantineHeaders) -> list[tuple[str, bytes]]:
    """The headers of a quarantined record."""
    made = [
        ("publisher", told.publisher.encode()),
        ("dataset", told.source.dataset.encode()),
        ("reason", told.reason.name.encode()),
        ("path", told.path[:_PATH_CHARS_MAX].encode("utf-8", "replace")),
        ("lane", str(told.source.lane).encode()),
        ("offset", str(told.source.offset).encode()),
    ]
    if told.event_id is not None:
        made.append(("ce_id", told.event_id.encode()))
    return made


def read_quarantine_headers(headers: Headers) -> QuarantineHeaders:
    """What `quarantine_headers` wrote. Raises Rejected if something is missing or unreadable."""
    found = _texts(headers)
    try:
        return QuarantineHeaders(
            publisher=found["publisher"],
            event_id=found.get("ce_id"),
            reason=Reason[found["reason"]],
            path=found["path"],
            source=Source(found["dataset"], _number(found["lane"]), _number(found["offset"])),
        )
    except (KeyError, ValueError) as error:
        raise Rejected("the headers of a quarantined record cannot be read") from error


def _texts(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    try:
        found = {name: value.decode() for name, value in headers if value is not None}
    except UnicodeDecodeError as error:
        raise Rejected("a header of a quarantined record is not text") from error
    if len(found) != len(headers):
        raise Rejected("a header of a quarantined record is null or stands there twice")
    return found


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ValueError("not a number")
    return int(text)


def _place(source: Source) -> bytes:
    name = source.dataset.encode()
    return (
        _LABEL
        + len(name).to_bytes(4, "big")
        + name
        + source.lane.to_bytes(4, "big")
        + source.offset.to_bytes(8, "big")
    )


def _prefixed(content: bytes | None) -> bytes:
    if content is None:
        return _NULL_LENGTH.to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + content
