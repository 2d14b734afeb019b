"""Strict reading of block bodies: one accepted form per content, everything else is Rejected.

Bodies come from Kafka and from copies handed in by others, so each rule a writer keeps is checked.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from operator import lt

from shutong_core.audit import bitmaps
from shutong_core.audit.body import (
    BODY_BYTES_MAX,
    CHAIN_BYTES,
    Body,
    GrantColumn,
    InputSection,
    RowOperation,
    Withholding,
    decided_rows,
)
from shutong_core.audit.digests import ID_HASH_BYTES, ROW_DIGEST_BYTES, SALT_BYTES, TOKEN_BYTES
from shutong_core.audit.encoding import IDENTIFIER, U64_MAX, Reader
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import IMPLIED, Reason

_REFUSAL_MAX = 99
_REFUSALS = bytes([0, *(reason.number for reason in Reason if reason.number <= _REFUSAL_MAX)])
_WITHHOLDINGS = {
    reason.number: reason
    for reason in Reason
    if _REFUSAL_MAX < reason.number < 150 and reason not in IMPLIED
}
_OPERATIONS = bytes(RowOperation)
_GRANT_RUN = struct.Struct(">HBII")


def parse_body(data: bytes) -> Body:
    """The body in `data`. Raises Rejected for anything but one canonical body."""
    if len(data) > BODY_BYTES_MAX:
        raise Rejected(f"block body of {len(data)} bytes, limit {BODY_BYTES_MAX}")
    reader = Reader(data, "block body")
    salt = reader.take(SALT_BYTES)
    publishers = tuple(reader.text() for _ in range(reader.u16()))
    grants = _ascending_ids(reader)
    exposed = _ascending_ids(reader)
    inputs = tuple(_section(reader, len(publishers), grants) for _ in range(reader.u16()))
    reader.end()
    body = Body(salt, publishers, grants, exposed, inputs)
    _check_dictionaries(reader, body)
    return body


def _ascending_ids(reader: Reader) -> tuple[str, ...]:
    ids = tuple(reader.identifier() for _ in range(reader.u16()))
    if not all(map(lt, ids, ids[1:])):
        raise reader.fail("grant ids are not ascending")
    return ids


def _check_dictionaries(reader: Reader, body: Body) -> None:
    """Dictionaries hold exactly what is used; no input occurs twice."""
    if len(set(body.publishers)) != len(body.publishers):
        raise reader.fail("a publisher is listed twice")
    in_order = dict.fromkeys(
        index for section in body.inputs for index in dict.fromkeys(section.publisher_indexes())
    )
    if list(in_order) != list(range(len(body.publishers))):
        raise reader.fail("publishers are not in the order of first use")
    used = {column.grant for section in body.inputs for column in section.grants}
    used.update(run.grant for section in body.inputs for run in section.withheld)
    if len(used) != len(body.grants):
        raise reader.fail("a grant is listed but not used")
    cursors = {(section.dataset, section.loading) for section in body.inputs}
    if len(cursors) != len(body.inputs):
        raise reader.fail("an input occurs twice")


def _section(reader: Reader, publishers: int, grants: tuple[str, ...]) -> InputSection:
    dataset = reader.identifier()
    loading = reader.text()
    first, following, rows = reader.u64(), reader.u64(), reader.u32()
    deltas = reader.take(rows * 4)
    publisher_column = reader.take(rows * 2)
    operations, refusals = reader.take(rows), reader.take(rows)
    digests = reader.take(rows * ROW_DIGEST_BYTES)
    token_counts = reader.take(rows)
    tokens = reader.take(sum(token_counts) * TOKEN_BYTES)
    id_present = reader.take(bitmaps.size_of(rows))
    present = _bits(reader, id_present, rows)
    id_hashes = reader.take(present.bit_count() * ID_HASH_BYTES)
    _check_rows(reader, rows, first, following, deltas)
    if rows and max(struct.unpack(f">{rows}H", publisher_column)) >= publishers:
        raise reader.fail("a row's publisher is not in the dictionary")
    if operations.translate(None, _OPERATIONS):
        raise reader.fail("unknown operation")
    if refusals.translate(None, _REFUSALS):
        raise reader.fail("a refusal has an unknown reason")
    refused = bitmaps.of_column(refusals)
    columns = _columns(reader, rows, refused, grants)
    withheld = _withheld(reader, rows, refused, grants, columns)
    if loading:
        if not IDENTIFIER.fullmatch(loading):
            raise reader.fail("a loading input names no grant")
        named = {column.grant for column in columns} | {run.grant for run in withheld}
        if not named <= {loading}:
            raise reader.fail("a loading input speaks of another grant than its own")
    return InputSection(
        dataset, loading, first, following, deltas, publisher_column, operations, refusals,
        digests, token_counts, tokens, id_present, id_hashes, columns, withheld,
    )  # fmt: skip


def _check_rows(reader: Reader, rows: int, first: int, following: int, deltas: bytes) -> None:
    """Offsets ascend inside [first, next)."""
    if following < first:
        raise reader.fail("next offset before the first")
    if rows:
        numbers = struct.unpack(f">{rows}I", deltas)
        if not all(map(lt, numbers, numbers[1:])) or first + numbers[-1] >= following:
            raise reader.fail("offsets do not ascend inside their input")


def _bits(reader: Reader, bitmap: bytes, rows: int) -> int:
    bits = bitmaps.to_bits(bitmap)
    if bits >> rows:
        raise reader.fail("bits set beyond the last row")
    return bits


def _columns(
    reader: Reader, rows: int, refused: int, grants: tuple[str, ...]
) -> tuple[GrantColumn, ...]:
    columns = []
    last = -1
    for _ in range(reader.u16()):
        index = reader.u16()
        if not last < index < len(grants):
            raise reader.fail("grant columns are not ascending")
        last = index
        first_k, count, placed_bytes = reader.u64(), reader.u32(), reader.u64()
        chain_after = reader.take(CHAIN_BYTES)
        allowed = reader.take(bitmaps.size_of(rows))
        bits = _bits(reader, allowed, rows)
        deferred = _ranges(reader, rows)
        if bits & refused:
            raise reader.fail("a refused row is placed")
        if bits.bit_count() != count:
            raise reader.fail("count differs from the bitmap")
        if not count and (placed_bytes or not deferred):
            raise reader.fail("an empty grant column")
        if first_k < 1 or first_k + count > U64_MAX:
            raise reader.fail("sequence out of range")
        if any(bitmaps.of_range(*span) & (bits | refused) for span in deferred):
            raise reader.fail("a deferred row has another verdict")
        columns.append(
            GrantColumn(grants[index], first_k, count, placed_bytes, chain_after, allowed, deferred)
        )
    return tuple(columns)


def _ranges(reader: Reader, rows: int) -> tuple[tuple[int, int], ...]:
    raw = reader.take(reader.u32() * 8)
    spans = tuple(struct.iter_unpack(">II", raw))
    if any(first >= end or end > rows for first, end in spans):
        raise reader.fail("a range of rows is empty or too far")
    if any(before[1] >= after[0] for before, after in pairwise(spans)):
        raise reader.fail("ranges of rows overlap, touch or go back")
    return spans


def _withheld(
    reader: Reader,
    rows: int,
    refused: int,
    grants: tuple[str, ...],
    columns: tuple[GrantColumn, ...],
) -> tuple[Withholding, ...]:
    raw = reader.take(reader.u32() * _GRANT_RUN.size)
    if not raw:
        return ()
    decided = {column.grant: decided_rows(column) for column in columns}
    runs: list[Withholding] = []
    last = (-1, 0, 0)  # grant index, end, reason number
    for index, number, first, end in _GRANT_RUN.iter_unpack(raw):
        if index >= len(grants) or not first < end <= rows:
            raise reader.fail("a withholding names no row or grant")
        reason = _WITHHOLDINGS.get(number)
        if reason is None:
            raise reader.fail("a withholding has an unknown or implied reason")
        same_grant = index == last[0]
        if index < last[0] or (same_grant and first < last[1]):
            raise reader.fail("withholdings overlap or go back")
        if same_grant and first == last[1] and number == last[2]:
            raise reader.fail("withholdings that touch are not joined")
        grant = grants[index]
        if bitmaps.of_range(first, end) & (refused | decided.get(grant, 0)):
            raise reader.fail("a withheld row has another verdict")
        last = (index, end, number)
        runs.append(Withholding(grant, reason, first, end))
    return tuple(runs)
