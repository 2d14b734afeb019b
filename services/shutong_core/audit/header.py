"""The header of an audit block: at most 4 KiB that name, chain and bind one lane's transaction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from shutong_core.audit.encoding import Reader, fixed, text, u32, u64
from shutong_core.domain.errors import Fatal, Rejected

FORMAT_VERSION = 1
HEADER_BYTES_MAX = 4096
HASH_BYTES = 32
INSTANCE_BYTES = 16
#: `previous` of a lane's first block.
NO_BLOCK = bytes(HASH_BYTES)
#: The attempt before this block was aborted: readers without read_committed may have seen it.
FLAG_AFTER_ABORT = 1
_KNOWN_FLAGS = FLAG_AFTER_ABORT


@dataclass(frozen=True, slots=True)
class Header:
    """Who decided what, when, by which list; hashes are 32 bytes, counts are of the body."""

    cluster: str
    lane: int
    sequence: int  # from 1
    previous: bytes  # SHA-256 of the header before; NO_BLOCK for the first
    list_number: int
    list_digest: bytes
    engine: str
    decided_ms: int  # wall clock, milliseconds since 1970 UTC
    division_digest: bytes  # of the region table in use
    instance: bytes  # 16 bytes, one per start of a broker process
    flags: int
    inputs: int
    rows: int
    refused: int
    placed: int  # records placed, over all grants
    deferred: int  # verdicts deferred, over all grants
    body_length: int
    body_hash: bytes

    @property
    def after_abort(self) -> bool:
        """Whether the previous attempt of the lane may have exposed uncommitted data."""
        return bool(self.flags & FLAG_AFTER_ABORT)


def header_hash(header: bytes) -> bytes:
    """SHA-256 over the header as stored: what the next block's `previous` holds."""
    return hashlib.sha256(header).digest()


def encode_header(header: Header) -> bytes:
    """The stored form. Raises Fatal if a field is out of bounds."""
    if header.sequence < 1 or header.flags & ~_KNOWN_FLAGS:
        raise Fatal("a block header needs a sequence from 1 and known flags")
    encoded = b"".join(
        (
            bytes((FORMAT_VERSION,)),
            text(header.cluster),
            u32(header.lane),
            u64(header.sequence),
            fixed(header.previous, HASH_BYTES, "previous"),
            u64(header.list_number),
            fixed(header.list_digest, HASH_BYTES, "list digest"),
            text(header.engine),
            u64(header.decided_ms),
            fixed(header.division_digest, HASH_BYTES, "division digest"),
            fixed(header.instance, INSTANCE_BYTES, "instance"),
            u32(header.flags),
            u32(header.inputs),
            u32(header.rows),
            u32(header.refused),
            u64(header.placed),
            u64(header.deferred),
            u32(header.body_length),
            fixed(header.body_hash, HASH_BYTES, "body hash"),
        )
    )
    if len(encoded) > HEADER_BYTES_MAX:  # pragma: no cover - two bounded strings cannot reach it
        raise Fatal("block header larger than 4 KiB")
    return encoded


def parse_header(data: bytes) -> Header:
    """The header in `data`. Raises Rejected for anything but one exact header."""
    if len(data) > HEADER_BYTES_MAX:
        raise Rejected(f"block header of {len(data)} bytes, limit {HEADER_BYTES_MAX}")
    reader = Reader(data, "block header")
    version = reader.u8()
    if version != FORMAT_VERSION:
        raise reader.fail(f"format version {version}, {FORMAT_VERSION} is known")
    header = Header(
        cluster=reader.text(),
        lane=reader.u32(),
        sequence=reader.u64(),
        previous=reader.take(HASH_BYTES),
        list_number=reader.u64(),
        list_digest=reader.take(HASH_BYTES),
        engine=reader.text(),
        decided_ms=reader.u64(),
        division_digest=reader.take(HASH_BYTES),
        instance=reader.take(INSTANCE_BYTES),
        flags=reader.u32(),
        inputs=reader.u32(),
        rows=reader.u32(),
        refused=reader.u32(),
        placed=reader.u64(),
        deferred=reader.u64(),
        body_length=reader.u32(),
        body_hash=reader.take(HASH_BYTES),
    )
    reader.end()
    if header.sequence < 1:
        raise reader.fail("sequence 0")
    if header.flags & ~_KNOWN_FLAGS:
        raise reader.fail("unknown flags")
    return header
