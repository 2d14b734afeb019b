"""The rows of a block as a Merkle tree, so that one row can be shown without the others.

Each leaf is salted by 16 bytes of its own, drawn from the block's salt by HKDF (RFC 5869): who is
shown one row cannot try guesses at its neighbours. Rows count from 0 over the whole body, section
after section. docs/formats/proofs.md has the bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, unique
from itertools import repeat
from operator import lt

from shutong_core.audit import bitmaps
from shutong_core.audit.body import Body, InputSection, RowOperation
from shutong_core.audit.digests import ROW_DIGEST_BYTES
from shutong_core.audit.encoding import Reader, fixed, text, u16, u32, u64
from shutong_core.audit.merkle import inclusion_path, root_of
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason

ROW_SALT_BYTES = 16
ROW_SALT_TAG = "shutong-row-salt-v1"
#: Salts of one HKDF expansion: 255 blocks of 32 bytes (RFC 5869, 2.3).
SALTS_EACH = 510
_BLOCKS = 255
_INNER = bytes(each ^ 0x36 for each in range(256))
_OUTER = bytes(each ^ 0x5C for each in range(256))
_COUNTERS = tuple(bytes((number,)) for number in range(1, _BLOCKS + 1))


@unique
class Fate(IntEnum):
    """What became of a row for one grant; the number is what is hashed."""

    PLACED = 1
    WITHHELD = 2
    DEFERRED = 3


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """One grant's verdict: `k` of a placed record, `reason` of a withheld one."""

    grant: str
    fate: Fate
    k: int = 0
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class ProvedRow:
    """A row as its leaf holds it.

    A grant that is not in `verdicts` was withheld from by region or condition, unless the row was
    refused as a whole.
    """

    dataset: str
    loading: str
    offset: int
    publisher: str
    operation: RowOperation
    refusal: Reason | None
    digest: bytes
    verdicts: tuple[RowVerdict, ...]


def row_salts(salt: bytes, rows: int) -> bytes:
    """rows × 16 bytes, one salt for each row of the block with that salt."""
    key = hmac.digest(bytes(32), salt, "sha256").ljust(64, b"\0")
    # HMAC by hand: the two states that depend on the key alone are made once.
    inner = hashlib.sha256(key.translate(_INNER))
    outer = hashlib.sha256(key.translate(_OUTER))
    parts: list[bytes] = []
    tag = text(ROW_SALT_TAG)
    for group in range(-(-rows // SALTS_EACH)):
        info, last = tag + u32(group), b""
        left = min(SALTS_EACH, rows - group * SALTS_EACH)
        for counter in _COUNTERS[: (left + 1) // 2]:
            within, around = inner.copy(), outer.copy()
            within.update(last + info + counter)
            around.update(within.digest())
            last = around.digest()
            parts.append(last)
    return b"".join(parts)[: rows * ROW_SALT_BYTES]


def row_leaf_hash(row_salt: bytes, row: bytes) -> bytes:
    """SHA-256(0x00 ‖ salt of the row ‖ row): the leaf hash of an encoded row."""
    return hashlib.sha256(b"\x00" + row_salt + row).digest()


def row_hashes(body: Body) -> list[bytes]:
    """Leaf hashes of all rows."""
    total = sum(section.rows for section in body.inputs)
    salts, sha256 = row_salts(body.salt, total), hashlib.sha256
    found: list[bytes] = []
    for section in body.inputs:
        at = len(found) * ROW_SALT_BYTES
        own = _cut(salts[at : at + section.rows * ROW_SALT_BYTES], ROW_SALT_BYTES)
        columns = zip(repeat(b"\x00"), own, *_columns(body, section), strict=False)
        found += [sha256(data).digest() for data in map(b"".join, columns)]
    return found


def row_root(body: Body) -> bytes:
    """Root over the block's rows (32 bytes); of no rows, that of the empty tree."""
    return root_of(row_hashes(body))


def block_leaf(header: bytes, root: bytes) -> bytes:
    """Leaf data of a block in its lane's tree: header as stored ‖ root over its rows."""
    return header + fixed(root, 32, "row root")


def split_block_leaf(leaf: bytes) -> tuple[bytes, bytes]:
    """(header, root over the rows). Raises Rejected if it is too short for both."""
    if len(leaf) <= 32:
        raise Rejected("leaf of a block: shorter than a header and a root")
    return leaf[:-32], leaf[-32:]


def encoded_rows(body: Body, section: InputSection) -> Iterator[bytes]:
    """The section's rows as they are hashed, each without its salt."""
    return map(b"".join, zip(*_columns(body, section), strict=False))


def _columns(body: Body, section: InputSection) -> tuple[Iterable[bytes], ...]:
    """The parts of the rows, one after the other: a row is one of each, joined."""
    start = text(section.dataset) + text(section.loading)
    offsets = struct.pack(f">{section.rows}Q", *section.offsets())
    publishers = [text(each) for each in body.publishers]
    # Few publishers, operations and reasons make many rows.
    who_what = zip(section.publisher_indexes(), section.operations, section.refusals, strict=True)
    known: dict[tuple[int, int, int], bytes] = {}
    middle = [
        known.get(each) or known.setdefault(each, publishers[each[0]] + bytes(each[1:]))
        for each in who_what
    ]
    numbers, verdicts = _verdict_columns(section)
    return (
        repeat(start, section.rows),
        _cut(offsets, 8),
        middle,
        _cut(section.digests, ROW_DIGEST_BYTES),
        _cut(struct.pack(f">{section.rows}H", *numbers), 2),
        verdicts,
    )


def _cut(column: bytes, width: int) -> Sequence[bytes]:
    """The fields of a column of equal widths."""
    # The format is long, but cutting by it is several times faster than slicing in a loop.
    fields: Sequence[bytes] = struct.unpack(f"{width}s" * (len(column) // width), column)
    return fields


def _verdict_columns(section: InputSection) -> tuple[list[int], list[bytes]]:
    """Of every row: number of verdicts, their bytes by grant id."""
    rows = section.rows
    numbers, parts = [0] * rows, [b""] * rows
    by_grant: dict[str, list[tuple[Iterable[int], bytes, int]]] = {}
    for column in section.grants:
        there = by_grant.setdefault(column.grant, [])
        for first, end in column.deferred:
            there.append((range(first, end), bytes((Fate.DEFERRED,)), 0))
        if column.count:
            allowed = bitmaps.rows_of(bitmaps.to_bits(column.allowed))
            there.append((allowed, bytes((Fate.PLACED,)), column.first_k))
    for run in section.withheld:
        kind = bytes((Fate.WITHHELD, run.reason.number))
        by_grant.setdefault(run.grant, []).append((range(run.first, run.end), kind, 0))
    for grant in sorted(by_grant):
        name = text(grant)
        for chosen, kind, first_k in by_grant[grant]:
            head = name + kind
            if first_k:
                for k, row in enumerate(chosen, first_k):
                    numbers[row] += 1
                    parts[row] += head + k.to_bytes(8, "big")
            else:
                for row in chosen:
                    numbers[row] += 1
                    parts[row] += head
    return numbers, parts


@dataclass(frozen=True, slots=True)
class RowProof:
    """One row of a block with what leads from it to the block's row root."""

    index: int
    rows: int
    row: bytes
    salt: bytes
    path: tuple[bytes, ...]


def prove_row(body: Body, section: int, row: int) -> RowProof:
    """The proof of row `row` of section `section`."""
    before = sum(each.rows for each in body.inputs[:section])
    total = sum(each.rows for each in body.inputs)
    index = before + row
    data = list(encoded_rows(body, body.inputs[section]))[row]
    salt = row_salts(body.salt, index + 1)[-ROW_SALT_BYTES:]
    return RowProof(index, total, data, salt, tuple(inclusion_path(row_hashes(body), index)))


def parse_row(data: bytes) -> ProvedRow:
    """The row in `data`. Raises Rejected for anything but one exact row."""
    reader = Reader(data, "row")
    dataset, loading, offset = reader.identifier(), reader.text(), reader.u64()
    publisher, operation, refusal = reader.text(), reader.u8(), reader.u8()
    digest = reader.take(ROW_DIGEST_BYTES)
    verdicts = tuple(_verdict(reader) for _ in range(reader.u16()))
    reader.end()
    if not all(map(lt, names := [each.grant for each in verdicts], names[1:])):
        raise reader.fail("grants are not ascending")
    try:
        kind, reason = RowOperation(operation), Reason.of(refusal) if refusal else None
    except ValueError:
        raise reader.fail("unknown operation or reason") from None
    return ProvedRow(dataset, loading, offset, publisher, kind, reason, digest, verdicts)


def encode_row(row: ProvedRow) -> bytes:
    """What is hashed for `row`, without the salt."""
    parts = [
        text(row.dataset),
        text(row.loading),
        u64(row.offset),
        text(row.publisher),
        bytes((row.operation, row.refusal.number if row.refusal else 0)),
        fixed(row.digest, ROW_DIGEST_BYTES, "row digest"),
        u16(len(row.verdicts)),
    ]
    for verdict in row.verdicts:
        parts += (text(verdict.grant), bytes((verdict.fate,)))
        if verdict.fate is Fate.PLACED:
            parts.append(u64(verdict.k))
        elif verdict.reason is not None:
            parts.append(bytes((verdict.reason.number,)))
    return b"".join(parts)


def _verdict(reader: Reader) -> RowVerdict:
    grant, kind = reader.identifier(), reader.u8()
    try:
        fate = Fate(kind)
        if fate is Fate.PLACED:
            return RowVerdict(grant, fate, k=reader.u64())
        if fate is Fate.WITHHELD:
            return RowVerdict(grant, fate, reason=Reason.of(reader.u8()))
    except ValueError:
        raise reader.fail("unknown verdict or reason") from None
    return RowVerdict(grant, fate)
