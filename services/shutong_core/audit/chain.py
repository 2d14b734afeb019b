"""The delivery chain: one hash chain per (grant, lane), one link per record batch.

c0 = SHA-256(tag ‖ cluster ‖ grant ‖ lane), c' = SHA-256(c ‖ the segment's keys and values), so that
a dropped, reordered, altered or invented record shows, also when the bus operator is the suspect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shutong_core.audit.encoding import Reader, fixed, text, u32, u64
from shutong_core.domain.errors import Rejected

SEGMENT_HEADER = "shutong_segment"
SEGMENT_VERSION = 1
CHAIN_BYTES = 32
DELIVERY_TAG = "shutong-delivery-v1"
TERRITORY_TAG = "shutong-territory-v1"
#: Length that stands for a null key or value, which has no bytes.
_NULL = b"\xff\xff\xff\xff"
#: Lengths as they stand before keys and values; longer ones are rare and made when met.
_LENGTHS = tuple(length.to_bytes(4, "big") for length in range(4096))


def genesis(cluster: str, grant: str, lane: int) -> bytes:
    """c0 of what the broker places for a grant on a lane (32 bytes)."""
    data = text(DELIVERY_TAG) + text(cluster) + text(grant) + u32(lane)
    return hashlib.sha256(data).digest()


def territory_genesis(cluster: str, grant: str, territory: str, lane: int) -> bytes:
    """c0 of what one territory receives from a class grant on a lane (32 bytes)."""
    data = text(TERRITORY_TAG) + text(cluster) + text(grant) + text(territory) + u32(lane)
    return hashlib.sha256(data).digest()


def record_bytes(key: bytes | None, value: bytes | None) -> bytes:
    """What one record adds to the hash: u32 len(key) ‖ key ‖ u32 len(value) ‖ value."""
    head = _NULL if key is None else len(key).to_bytes(4, "big") + key
    if value is None:
        return head + _NULL
    return head + len(value).to_bytes(4, "big") + value


def extend(chain: bytes, records: Iterable[tuple[bytes | None, bytes | None]]) -> bytes:
    """The chain value after a segment of (key, value) records; `chain` is the one before."""
    parts = [chain]
    append = parts.append
    for key, value in records:
        if key is None:
            append(_NULL)
        else:
            append(len(key).to_bytes(4, "big"))
            append(key)
        if value is None:
            append(_NULL)
        else:
            append(len(value).to_bytes(4, "big"))
            append(value)
    return hashlib.sha256(b"".join(parts)).digest()


def extend_columns(
    chain: bytes, keys: Sequence[bytes | None], values: Sequence[bytes | None]
) -> bytes:
    """What `extend` gives for the records of two columns, in half the time."""
    parts: list[bytes | None] = [chain] * (4 * len(keys) + 1)
    try:
        parts[1::4] = map(_LENGTHS.__getitem__, map(len, keys))  # type: ignore[arg-type]
        parts[2::4] = keys
        parts[3::4] = map(_LENGTHS.__getitem__, map(len, values))  # type: ignore[arg-type]
        parts[4::4] = values
        return hashlib.sha256(b"".join(parts)).digest()  # type: ignore[arg-type]
    except (TypeError, IndexError):  # a null, which has no length, or a long one
        return extend(chain, zip(keys, values, strict=True))


@dataclass(frozen=True, slots=True)
class Segment:
    """What the first record of a batch carries: its lane, its sequence, the chain value before."""

    lane: int
    k: int  # sequence of that record in (grant, lane), from 1
    chain: bytes

    def encode(self) -> bytes:
        """Value of header `shutong_segment`: u8 version ‖ u32 lane ‖ u64 k ‖ 32-byte c."""
        return (
            bytes((SEGMENT_VERSION,))
            + u32(self.lane)
            + u64(self.k)
            + fixed(self.chain, CHAIN_BYTES, "chain value")
        )


def parse_segment(data: bytes) -> Segment:
    """The segment in `data`. Raises Rejected for anything but one exact segment header."""
    reader = Reader(data, SEGMENT_HEADER)
    version = reader.u8()
    if version != SEGMENT_VERSION:
        raise reader.fail(f"version {version}, {SEGMENT_VERSION} is known")
    segment = Segment(reader.u32(), reader.u64(), reader.take(CHAIN_BYTES))
    reader.end()
    if segment.k < 1:
        raise reader.fail("sequence 0")
    return segment


def segment_of(headers: Iterable[tuple[str, bytes]]) -> Segment | None:
    """The segment a record opens, None if it opens none. Raises Rejected if it is malformed."""
    found = [value for name, value in headers if name == SEGMENT_HEADER]
    if not found:
        return None
    if len(found) > 1:
        raise Rejected(f"{SEGMENT_HEADER} occurs twice in one record")
    return parse_segment(found[0])
