"""The body of an audit block: what was decided, in columns, one section per input.

Columns stay raw bytes here: a block of thousands of rows is checked without an object per row.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, unique

from shutong_core.audit import bitmaps
from shutong_core.audit.digests import ID_HASH_BYTES, ROW_DIGEST_BYTES, SALT_BYTES, TOKEN_BYTES
from shutong_core.audit.encoding import fixed, text, u16, u32, u64
from shutong_core.domain.reasons import Reason

#: Topic audit takes 2 MiB a message; the header and Kafka's framing need a little of it.
BODY_BYTES_MAX = 2 * 1024 * 1024 - 16 * 1024
CHAIN_BYTES = 32


@unique
class RowOperation(IntEnum):
    """What the record says about its object; the number is what is stored."""

    PUT = 0  # 新增/变更
    CORRECT = 1  # 更正
    DELETE = 2  # 注销/撤销
    UNKNOWN = 3  # the record was refused before this was known


@dataclass(frozen=True, slots=True)
class Row:
    """One input record as the audit keeps it."""

    offset: int
    publisher: str  # "<organisation>/<system>", "" if unknown
    digest: bytes  # SHA-256(salt ‖ Avro body)
    tokens: tuple[bytes, ...]  # keyed BLAKE2b-128 of each subject
    id_hash: bytes | None
    operation: RowOperation
    refusal: Reason | None


@dataclass(frozen=True, slots=True)
class GrantColumn:
    """What one grant received from one input: rows in row order are numbers first_k … in k."""

    grant: str
    first_k: int  # sequence of the first record placed; the next one if none was
    count: int  # records placed = bits set in `allowed`
    placed_bytes: int  # keys and values placed
    chain_after: bytes  # chain value after the last of them
    allowed: bytes  # bitmap over the section's rows
    deferred: tuple[tuple[int, int], ...]  # maximal ranges [first, end) of rows


@dataclass(frozen=True, slots=True)
class Withholding:
    """Rows [first, end) withheld from a grant for a reason other than region and condition."""

    grant: str
    reason: Reason
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class InputSection:
    """The rows of one input: offsets `first` … `next`-1, of which some may hold no record.

    `loading` is "" for the lane's main cursor, else the grant whose second cursor read here.
    """

    dataset: str
    loading: str
    first: int
    next: int
    offset_deltas: bytes  # rows × u32, offset − first, ascending
    publishers: bytes  # rows × u16, index into the body's publishers
    operations: bytes  # rows × u8
    refusals: bytes  # rows × u8, 0 = not refused
    digests: bytes  # rows × 32
    token_counts: bytes  # rows × u8
    tokens: bytes  # sum of token_counts × 16
    id_present: bytes  # bitmap over the rows
    id_hashes: bytes  # bits of id_present × 8
    grants: tuple[GrantColumn, ...]  # by grant id, ascending
    withheld: tuple[Withholding, ...]  # by grant id, then first

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.operations)

    def offsets(self) -> list[int]:
        """Input offset of every row."""
        first = self.first
        return [first + delta for delta in struct.unpack(f">{self.rows}I", self.offset_deltas)]

    def publisher_indexes(self) -> tuple[int, ...]:
        """Publisher of every row, as index into the body's publishers."""
        return struct.unpack(f">{self.rows}H", self.publishers)

    def digest(self, row: int) -> bytes:
        """Row digest of one row (32 bytes)."""
        return self.digests[row * ROW_DIGEST_BYTES : (row + 1) * ROW_DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class Body:
    """Everything a block says beyond its header.

    `grants` holds the ids the sections use, ascending; `publishers` in order of first use.
    `exposed` names grants whose uncommitted records an aborted attempt may have shown; empty in
    a block flagged after-abort means: not known, any grant of the lane.
    """

    salt: bytes
    publishers: tuple[str, ...]
    grants: tuple[str, ...]
    exposed: tuple[str, ...]
    inputs: tuple[InputSection, ...]

    def counts(self) -> Counts:
        """What the header repeats."""
        return Counts(
            inputs=len(self.inputs),
            rows=sum(section.rows for section in self.inputs),
            refused=sum(section.rows - section.refusals.count(0) for section in self.inputs),
            placed=sum(column.count for section in self.inputs for column in section.grants),
            deferred=sum(
                end - first
                for section in self.inputs
                for column in section.grants
                for first, end in column.deferred
            ),
        )

    def rows(self, section: InputSection) -> Iterator[Row]:
        """The section's rows as objects: for search and display, not for bulk checks."""
        token_at = id_at = 0
        present = int.from_bytes(section.id_present, "little")
        columns = zip(section.offsets(), section.publisher_indexes(), strict=True)
        for row, (offset, publisher) in enumerate(columns):
            tokens_end = token_at + section.token_counts[row] * TOKEN_BYTES
            tokens = section.tokens[token_at:tokens_end]
            id_hash = None
            if present >> row & 1:
                id_hash = section.id_hashes[id_at : id_at + ID_HASH_BYTES]
                id_at += ID_HASH_BYTES
            refusal = section.refusals[row]
            yield Row(
                offset=offset,
                publisher=self.publishers[publisher],
                digest=section.digest(row),
                tokens=tuple(
                    tokens[at : at + TOKEN_BYTES] for at in range(0, len(tokens), TOKEN_BYTES)
                ),
                id_hash=id_hash,
                operation=RowOperation(section.operations[row]),
                refusal=Reason.of(refusal) if refusal else None,
            )
            token_at = tokens_end


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts over a body: inputs, rows, refused rows, placed records, deferred verdicts."""

    inputs: int
    rows: int
    refused: int
    placed: int
    deferred: int


def decided_rows(column: GrantColumn) -> int:
    """Bits of the rows placed or deferred for the column's grant."""
    bits = bitmaps.to_bits(column.allowed)
    for first, end in column.deferred:
        bits |= bitmaps.of_range(first, end)
    return bits


def body_hash(body: bytes) -> bytes:
    """SHA-256 over the body as stored (32 bytes)."""
    return hashlib.sha256(body).digest()


def encode_body(body: Body) -> bytes:
    """The stored form. Raises Fatal if a field does not fit its width."""
    index = {grant: number for number, grant in enumerate(body.grants)}
    parts = [fixed(body.salt, SALT_BYTES, "salt")]
    for names in (body.publishers, body.grants, body.exposed):
        parts.append(u16(len(names)))
        parts.extend(map(text, names))
    parts.append(u16(len(body.inputs)))
    for section in body.inputs:
        parts.extend(_section_parts(section, index))
    return b"".join(parts)


def _section_parts(section: InputSection, index: dict[str, int]) -> Iterator[bytes]:
    yield text(section.dataset)
    yield text(section.loading)
    yield u64(section.first)
    yield u64(section.next)
    yield u32(section.rows)
    yield section.offset_deltas
    yield section.publishers
    yield section.operations
    yield section.refusals
    yield section.digests
    yield section.token_counts
    yield section.tokens
    yield section.id_present
    yield section.id_hashes
    yield u16(len(section.grants))
    for column in section.grants:
        yield u16(index[column.grant])
        yield u64(column.first_k)
        yield u32(column.count)
        yield u64(column.placed_bytes)
        yield fixed(column.chain_after, CHAIN_BYTES, "chain value")
        yield column.allowed
        yield u32(len(column.deferred))
        for first, end in column.deferred:
            yield u32(first)
            yield u32(end)
    yield u32(len(section.withheld))
    for withholding in section.withheld:
        yield u16(index[withholding.grant])
        yield bytes((withholding.reason.number,))
        yield u32(withholding.first)
        yield u32(withholding.end)
