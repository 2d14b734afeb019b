"""Collects the rows and verdicts of one input by cheap appends, one column at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import itemgetter

from shutong_core.audit import bitmaps
from shutong_core.audit.body import (
    GrantColumn,
    InputSection,
    RowOperation,
    Withholding,
    decided_rows,
)
from shutong_core.audit.digests import ID_HASH_BYTES, ROW_DIGEST_BYTES, TOKEN_BYTES
from shutong_core.audit.encoding import U32_MAX
from shutong_core.domain.errors import Fatal
from shutong_core.domain.reasons import IMPLIED, Reason

# offset, publisher, operation, refusal, digest, number of tokens, id bitmap (rounded up)
_ROW_BYTES = 4 + 2 + 1 + 1 + ROW_DIGEST_BYTES + 1 + 1
_COLUMN_BYTES = 128  # a grant column without its bitmap, with its name
_RUN_BYTES = 11


class InputBuilder:
    """The rows of one input and their verdicts; rows are numbered from 0 within the input."""

    def __init__(self, dataset: str, first: int, loading: str) -> None:
        self.dataset = dataset
        self.loading = loading
        self.first = first
        self._next = first
        self._offsets: list[int] = []
        self._publishers: list[str] = []
        self._operations = bytearray()
        self._refusals = bytearray()
        self._digests: list[bytes] = []
        self._token_counts = bytearray()
        self._tokens: list[bytes] = []  # of one row or several
        self._tokens_count = 0
        self._publishers_seen: set[str] = set()
        self._id_present = bytearray()
        self._id_hashes: list[bytes] = []
        self._allowed: dict[str, list[int]] = {}
        self._deferred: dict[str, list[int]] = {}
        self._deferred_all: set[str] = set()
        self._withheld: dict[str, list[list[int]]] = {}
        self._placed: dict[str, tuple[int, int, bytes]] = {}

    @property
    def rows(self) -> int:
        """Rows so far."""
        return len(self._offsets)

    def add_row(
        self,
        offset: int,
        publisher: str,
        digest: bytes,
        tokens: Sequence[bytes] = (),
        id_hash: bytes | None = None,
        operation: int = RowOperation.PUT,
        refusal: Reason | None = None,
    ) -> int:
        """Adds the record at `offset` (ascending); returns its row number."""
        row = len(self._offsets)
        self._offsets.append(offset)
        self._publishers.append(publisher)
        self._publishers_seen.add(publisher)
        self._digests.append(digest)
        self._operations.append(operation)
        self._refusals.append(refusal.number if refusal else 0)
        self._token_counts.append(len(tokens))
        if tokens:
            self._tokens.extend(tokens)
            self._tokens_count += len(tokens)
        if id_hash is None:
            self._id_present.append(0)
        else:
            self._id_present.append(1)
            self._id_hashes.append(id_hash)
        return row

    def add_rows(
        self,
        offsets: Sequence[int],
        publishers: Sequence[str],
        digests: bytes,
        token_counts: bytes,
        tokens: bytes,
        id_present: bytes,
        id_hashes: Sequence[bytes],
        operations: bytes,
    ) -> int:
        """Adds rows that are not refused, column by column; returns the first one's number.

        As `add_row` for each: digests 32 bytes a row, tokens 16 bytes each one after the other,
        `id_hashes` for the rows whose byte in `id_present` is 1.
        """
        row = len(self._offsets)
        self._offsets += offsets
        self._publishers += publishers
        self._publishers_seen.update(publishers)
        self._digests.append(digests)
        self._operations += operations
        self._refusals += bytes(len(offsets))
        self._token_counts += token_counts
        if tokens:
            self._tokens.append(tokens)
            self._tokens_count += len(tokens) // TOKEN_BYTES
        self._id_present += id_present
        self._id_hashes += id_hashes
        return row

    def accepted(self) -> tuple[bytes, bytes, bytes]:
        """Id hashes, digests and operations of the rows that have an id and are not refused."""
        rows = self.rows
        digests, ids = b"".join(self._digests), b"".join(self._id_hashes)
        if self._id_present.count(1) == rows and self._refusals.count(0) == rows:
            return ids, digests, bytes(self._operations)
        kept = [row for row in range(rows) if self._id_present[row] and not self._refusals[row]]
        # Place of each row's id among those that are there.
        place = list(accumulate(self._id_present, initial=0))
        return (
            b"".join(self._id_hashes[place[row]] for row in kept),
            b"".join(
                digests[row * ROW_DIGEST_BYTES : (row + 1) * ROW_DIGEST_BYTES] for row in kept
            ),
            bytes(self._operations[row] for row in kept),
        )

    def allow(self, row: int, grant: str) -> None:
        """`row` is placed for `grant`."""
        rows = self._allowed.get(grant)
        if rows is None:
            self._allowed[grant] = [row]
        else:
            rows.append(row)

    def allow_rows(self, grant: str, rows: Iterable[int], base: int = 0) -> None:
        """All of `rows`, counted from row `base`, are placed for `grant`."""
        more = [base + row for row in rows] if base else rows
        self._allowed.setdefault(grant, []).extend(more)

    def defer(self, row: int, grant: str) -> None:
        """The verdict for `grant` is left to its loading cursor; no effect on a refused row."""
        self._deferred.setdefault(grant, []).append(row)

    def defer_all(self, grant: str) -> None:
        """As `defer`, for every row of the input, those to come included."""
        self._deferred_all.add(grant)

    def withhold(self, row: int, grant: str, reason: Reason) -> None:
        """`row` does not go to `grant`; rows in any order. Implied reasons are not kept."""
        self.withhold_rows(row, row + 1, grant, reason)

    def withhold_rows(self, first: int, end: int, grant: str, reason: Reason) -> None:
        """As `withhold`, for each of the rows [first, end), none of them refused."""
        if reason in IMPLIED:
            return
        runs = self._withheld.setdefault(grant, [])
        number = reason.number
        if runs and runs[-1][2] == first and runs[-1][0] == number:
            runs[-1][2] = end
        else:
            runs.append([number, first, end])

    def place(self, grant: str, first_k: int, placed_bytes: int, chain_after: bytes) -> None:
        """The grant's numbers for this input, due for each grant with placed or deferred rows.

        `first_k` is the sequence of the first record placed (of the next one, if none was);
        `chain_after` the chain value after the last segment.
        """
        self._placed[grant] = (first_k, placed_bytes, chain_after)

    def end(self, next_offset: int) -> None:
        """Where the cursor stands afterwards (the next input offset)."""
        self._next = next_offset

    def size_estimate(self) -> int:
        """Upper estimate of the section's bytes."""
        rows = self.rows
        columns = len(self._allowed.keys() | self._deferred.keys() | self._deferred_all)
        runs = sum(map(len, self._withheld.values()))
        return (
            256
            + rows * _ROW_BYTES
            + self._tokens_count * TOKEN_BYTES
            + len(self._id_hashes) * ID_HASH_BYTES
            + columns * (_COLUMN_BYTES + bitmaps.size_of(rows))
            + 8 * sum(map(len, self._deferred.values()))
            + 8 * len(self._deferred_all) * (1 + rows - self._refusals.count(0))
            + len(self._withheld) * 64
            + runs * _RUN_BYTES
            + 260 * len(self._publishers_seen)
        )

    def section(self, publishers: dict[str, int]) -> InputSection:
        """The finished section; `publishers` is the block's dictionary, extended as needed."""
        rows = self.rows
        self._check_widths()
        refused = bitmaps.of_column(self._refusals)
        columns = self._columns(refused)
        try:
            deltas = struct.pack(f">{rows}I", *self._deltas())
            publisher_column = self._publisher_column(publishers)
        except struct.error:
            raise Fatal(f"offsets or publishers of {self.dataset} do not fit a block") from None
        return InputSection(
            dataset=self.dataset,
            loading=self.loading,
            first=self.first,
            next=self._next,
            offset_deltas=deltas,
            publishers=publisher_column,
            operations=bytes(self._operations),
            refusals=bytes(self._refusals),
            digests=b"".join(self._digests),
            token_counts=bytes(self._token_counts),
            tokens=b"".join(self._tokens),
            id_present=bitmaps.to_bytes(bitmaps.of_column(self._id_present), rows),
            id_hashes=b"".join(self._id_hashes),
            grants=columns,
            withheld=self._withholdings(refused, columns),
        )

    def _deltas(self) -> Iterable[int]:
        """Offsets counted from `first`; mostly without a gap."""
        offsets = self._offsets
        if offsets and offsets == list(range(offsets[0], offsets[0] + len(offsets))):
            return range(offsets[0] - self.first, offsets[-1] - self.first + 1)
        return [offset - self.first for offset in offsets]

    def _publisher_column(self, publishers: dict[str, int]) -> bytes:
        if len(self._publishers_seen) == 1:  # as it mostly is
            index = publishers.setdefault(self._publishers[0], len(publishers))
            return struct.pack(">H", index) * self.rows
        indexes = [publishers.setdefault(name, len(publishers)) for name in self._publishers]
        return struct.pack(f">{self.rows}H", *indexes)

    def _check_widths(self) -> None:
        rows = self.rows
        widths_right = (
            sum(map(len, self._digests)) == rows * ROW_DIGEST_BYTES
            and sum(map(len, self._tokens)) == sum(self._token_counts) * TOKEN_BYTES
            and sum(map(len, self._id_hashes)) == len(self._id_hashes) * ID_HASH_BYTES
        )
        if not widths_right:
            raise Fatal(f"a digest, token or id hash of {self.dataset} has the wrong size")
        end = self._offsets[-1] if rows else self.first - 1
        if not end < self._next or (rows and self._offsets[0] < self.first):
            raise Fatal(f"rows of {self.dataset} lie outside their input's range")
        if end - self.first > U32_MAX:
            raise Fatal(f"rows of {self.dataset} are too far apart for one block")

    def _columns(self, refused: int) -> tuple[GrantColumn, ...]:
        columns = []
        rows = self.rows
        for grant in sorted(self._allowed.keys() | self._deferred.keys() | self._deferred_all):
            try:
                allowed = bitmaps.of_rows(self._allowed.get(grant, ()), rows)
                deferred = bitmaps.of_rows(self._deferred.get(grant, ()), rows)
            except IndexError:
                raise Fatal(f"a verdict for {grant} names a row that is not there") from None
            if grant in self._deferred_all:
                deferred = bitmaps.of_range(0, rows)
            deferred &= ~refused
            if allowed & (refused | deferred):
                raise Fatal(f"a row placed for {grant} is refused or deferred too")
            if not allowed and not deferred:
                continue
            if grant not in self._placed:
                raise Fatal(f"no sequence and chain value for {grant}")
            first_k, placed_bytes, chain_after = self._placed[grant]
            columns.append(
                GrantColumn(
                    grant=grant,
                    first_k=first_k,
                    count=allowed.bit_count(),
                    placed_bytes=placed_bytes,
                    chain_after=chain_after,
                    allowed=bitmaps.to_bytes(allowed, rows),
                    deferred=tuple(bitmaps.ranges(deferred)),
                )
            )
        return tuple(columns)

    def _withholdings(
        self, refused: int, columns: tuple[GrantColumn, ...]
    ) -> tuple[Withholding, ...]:
        if not self._withheld:
            return ()
        decided = {column.grant: decided_rows(column) for column in columns}
        found = []
        for grant, runs in sorted(self._withheld.items()):
            other = refused | decided.get(grant, 0)
            for number, first, end in _in_row_order(runs):
                if end > self.rows or bitmaps.of_range(first, end) & other:
                    raise Fatal(f"a row withheld from {grant} has another verdict or is not there")
                found.append(Withholding(grant, Reason.of(number), first, end))
        return tuple(found)


def _in_row_order(runs: list[list[int]]) -> list[list[int]]:
    """Runs (reason, first, end) ascending, joined where they touch with the same reason.

    What many rows share is written down when it ends, behind what stands in single rows.
    """
    joined: list[list[int]] = []
    for number, first, end in sorted(runs, key=itemgetter(1)):
        if joined and joined[-1][2] == first and joined[-1][0] == number:
            joined[-1][2] = end
        else:
            joined.append([number, first, end])
    return joined
