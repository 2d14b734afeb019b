"""Follows the delivery chains of one partition, as any reader of it can.

Lanes may interleave, record batches do not; a batch's first record opens a segment. A segment's
end shows when the next one opens, or when the reader knows that it read all there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique

from shutong_core.audit.chain import genesis, record_bytes, segment_of
from shutong_core.domain.errors import Rejected


@dataclass(frozen=True, slots=True)
class Position:
    """How far a chain goes: `k` records so far, the chain value (32 bytes) after them."""

    k: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """A whole segment was read: records `first` … `last` of the lane, the chain value after."""

    lane: int
    first: int
    last: int
    chain: bytes


@unique
class Wrong(StrEnum):
    """What is wrong with a segment."""

    GENESIS = "genesis"  # the lane's first segment does not start at c0
    SEQUENCE = "sequence"  # records are missing, repeated or out of order
    CHAIN = "chain"  # a record of this segment was altered, dropped or invented
    MALFORMED = "malformed"  # the segment header cannot be read
    OUTSIDE = "outside"  # a record belongs to no segment


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The segment of `lane` that starts at record `k` is wrong.

    `lane` is None when not even that is known; `expected` and `found` are sequences for SEQUENCE,
    else hexadecimal chain values, else empty.
    """

    lane: int | None
    k: int
    wrong: Wrong
    expected: str
    found: str


Event = SegmentEnd | Mismatch


class _Open:
    """The segment being read."""

    __slots__ = ("count", "first", "hash", "lane")

    def __init__(self, lane: int, first: int, chain: bytes) -> None:
        self.lane = lane
        self.first = first
        self.count = 0
        self.hash = hashlib.sha256(chain)


class ChainFollower:
    """Feed it the records of one partition in order, as read under read_committed.

    After a mismatch it goes on from what the segment's header claims, so that one fault is told
    once. Memory: one position a lane.
    """

    def __init__(
        self,
        cluster: str,
        grant: str,
        known: Mapping[int, Position] | None = None,
        *,
        from_start: bool = True,
    ) -> None:
        """`known`: where the reader stands on each lane.

        `from_start=False` for who starts late: a lane not in `known` is then taken up at the value
        its first segment claims (`unproven` names these lanes), and records before the first
        segment header are skipped.
        """
        self._cluster = cluster
        self._grant = grant
        self._from_start = from_start
        self._positions = dict(known or {})
        self._last_first: dict[int, int] = {}
        self._open: _Open | None = None
        self._any = False
        self.skipped = 0
        self.unproven: set[int] = set()

    @property
    def positions(self) -> Mapping[int, Position]:
        """Where each lane stands after its last whole segment."""
        return self._positions

    @property
    def reading(self) -> tuple[int, int] | None:
        """(lane, sequence) of the record fed last, None outside any segment."""
        segment = self._open
        return (segment.lane, segment.first + segment.count - 1) if segment else None

    def feed(
        self, headers: Iterable[tuple[str, bytes]], key: bytes | None, value: bytes | None
    ) -> tuple[Event, ...]:
        """Takes the next record; returns what became known by it, mostly nothing."""
        return self.feed_run(headers, (record_bytes(key, value),))

    def feed_run(
        self, headers: Iterable[tuple[str, bytes]], records: Sequence[bytes]
    ) -> tuple[Event, ...]:
        """As `feed`, for several records (as `record_bytes` gives them) with headers on the first.

        None of the others may open a segment.
        """
        events: tuple[Event, ...] = ()
        try:
            segment = segment_of(headers)
        except Rejected:
            # Its records cannot be attributed: they are skipped up to the next readable segment.
            events = (*self.end_segment(), Mismatch(None, 0, Wrong.MALFORMED, "", ""))
            self._any = True
            return events
        if segment is not None:
            events = (*self.end_segment(), *self._begin(segment.lane, segment.k, segment.chain))
        current = self._open
        if current is None:
            if self._any or self._from_start:
                return (*events, Mismatch(None, 0, Wrong.OUTSIDE, "", ""))
            self.skipped += len(records)
            return events
        current.count += len(records)
        current.hash.update(b"".join(records))
        return events

    def end_segment(self) -> tuple[Event, ...]:
        """The open segment is whole: call it when all there is was read (position = end offset)."""
        current = self._open
        if current is None:
            return ()
        self._open = None
        last = current.first + current.count - 1
        chain = current.hash.digest()
        self._positions[current.lane] = Position(last, chain)
        self._last_first[current.lane] = current.first
        return (SegmentEnd(current.lane, current.first, last, chain),)

    def _begin(self, lane: int, k: int, chain: bytes) -> tuple[Mismatch, ...]:
        self._any = True
        self._open = _Open(lane, k, chain)
        position = self._positions.get(lane)
        if position is None:
            if k != 1 and not self._from_start:
                self.unproven.add(lane)
                return ()
            position = Position(0, genesis(self._cluster, self._grant, lane))
        if k != position.k + 1:
            return (Mismatch(lane, k, Wrong.SEQUENCE, str(position.k + 1), str(k)),)
        if chain != position.chain:
            wrong = Wrong.CHAIN if position.k else Wrong.GENESIS
            at = self._last_first.get(lane, k)
            return (Mismatch(lane, at, wrong, position.chain.hex(), chain.hex()),)
        return ()
