"""Level 2, deliveries: placed records, or a subscriber's copy, against the blocks' grant columns.

The chain over (grant, lane) is computed anew from the records and compared wherever a block ends;
record counts must agree too.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shutong_core.audit.body import CHAIN_BYTES, Body
from shutong_core.audit.chain import record_bytes
from shutong_core.audit.follow import ChainFollower, Event, Mismatch, Position, SegmentEnd, Wrong
from shutong_core.audit.verdict import Finding, Statement

#: (grant, lane, block end) triples remembered, 40 bytes each; beyond it only the newest.
BOUNDARIES_MAX = 1_000_000

_WRONG: dict[Wrong, Statement] = {
    Wrong.GENESIS: Statement("链不是从规定的初值开始", "the chain does not start at its c0"),
    Wrong.SEQUENCE: Statement(
        "序号不连续：有记录缺失、重复或乱序",
        "the sequence breaks: records are missing, repeated or out of order",
    ),
    Wrong.CHAIN: Statement(
        "自此起的一段中有记录被改动、增加或删除",
        "a record of the segment that starts here was altered, added or removed",
    ),
    Wrong.MALFORMED: Statement("段头无法读取", "a segment header cannot be read"),
    Wrong.OUTSIDE: Statement("记录不属于任何一段", "a record belongs to no segment"),
}


@dataclass(slots=True)
class _Ends:
    """Block ends of one (grant, lane), ascending: sequences, chain values side by side."""

    ks: array[int] = field(default_factory=lambda: array("Q"))
    chains: bytearray = field(default_factory=bytearray)

    def chain(self, index: int) -> bytes:
        return bytes(self.chains[index * CHAIN_BYTES : (index + 1) * CHAIN_BYTES])

    def last(self) -> Position:
        return Position(self.ks[-1], self.chain(len(self.ks) - 1))


class Ledger:
    """What the audit says was placed: chain values at block ends, by grant and lane."""

    def __init__(self, boundaries_max: int = BOUNDARIES_MAX) -> None:
        self._ends: dict[str, dict[int, _Ends]] = {}
        self._left = boundaries_max
        self.thinned = False  # some block ends were not kept

    def add(self, lane: int, body: Body) -> None:
        """Takes the grant columns of the lane's next block."""
        for section in body.inputs:
            for column in section.grants:
                if column.count:
                    end = column.first_k + column.count - 1
                    self._append(column.grant, lane, end, column.chain_after)

    def _append(self, grant: str, lane: int, k: int, chain: bytes) -> None:
        ends = self._ends.setdefault(grant, {}).setdefault(lane, _Ends())
        if ends.ks and self._left <= 0:
            self.thinned = True
            ends.ks[-1] = k
            ends.chains[-CHAIN_BYTES:] = chain
            return
        self._left -= 1
        ends.ks.append(k)
        ends.chains += chain

    @property
    def grants(self) -> tuple[str, ...]:
        """Grants with at least one placed record, ascending."""
        return tuple(sorted(self._ends))

    def placed(self, grant: str) -> int:
        """Records placed for the grant, over all lanes."""
        return sum(ends.ks[-1] for ends in self._ends.get(grant, {}).values())

    def proved(self, grant: str, lane: int, k: int) -> tuple[int, int]:
        """Of `k` records: how many end with a block, so that their chain value is known; and how
        many the audit has."""
        ends = self._ends.get(grant, {}).get(lane)
        if ends is None:
            return 0, 0
        at = bisect_right(ends.ks, k)
        return (ends.ks[at - 1] if at else 0), ends.ks[-1]

    def of(self, grant: str) -> dict[int, _Ends]:
        """Lane → block ends of one grant."""
        return self._ends.get(grant, {})


class DeliveryVerifier:
    """Compares one partition of a grant's deliveries with the ledger.

    `lanes`: the lanes that write to this partition. `from_start=False` when the partition's first
    records are past their term: the earliest chain values are then taken from the segment headers
    and proved by the next block end. Memory: one position a lane, beside the ledger.
    """

    def __init__(
        self,
        cluster: str,
        grant: str,
        lanes: Iterable[int],
        ledger: Ledger,
        *,
        from_start: bool = True,
        on_segment: Callable[[SegmentEnd], None] = lambda _: None,
    ) -> None:
        """`on_segment` is told of each whole segment, with its chain computed from the records."""
        self._on_segment = on_segment
        self._grant = grant
        self._lanes = frozenset(lanes)
        self._ends = ledger.of(grant)
        self._at = dict.fromkeys(self._lanes, 0)
        self._follower = ChainFollower(cluster, grant, from_start=from_start)
        self._from_start = from_start
        self._beyond: set[int] = set()
        self._strangers: set[int] = set()
        self.records = 0
        self.compared = 0  # block ends at which the chain was compared

    @property
    def positions(self) -> Mapping[int, Position]:
        """Where each lane stands after its last segment."""
        return self._follower.positions

    @property
    def skipped(self) -> int:
        """Records before the first readable segment header, which could not be checked."""
        return self._follower.skipped

    def feed(
        self,
        offset: int,
        headers: Iterable[tuple[str, bytes]],
        key: bytes | None,
        value: bytes | None,
        *,
        newer: bool = False,
    ) -> list[Finding]:
        """Takes the partition's next record.

        `newer`: it may have been placed after the ledger was read, so it need not be in there.
        """
        return self.feed_run(offset, headers, (record_bytes(key, value),), newer=newer)

    def feed_run(
        self,
        offset: int,
        headers: Iterable[tuple[str, bytes]],
        records: Sequence[bytes],
        *,
        newer: bool = False,
    ) -> list[Finding]:
        """As `feed`, for several records (as `record_bytes` gives them) with headers on the first.

        None of the others may open a segment.
        """
        self.records += len(records)
        found = self._judge(offset, self._follower.feed_run(headers, records))
        reading = self._follower.reading
        if reading is not None and not newer:
            found += self._audited(offset, *reading, len(records))
        return found

    def caught_up(self) -> bool:
        """Whether every lane was read as far as the ledger goes."""
        positions = self._follower.positions
        reading = self._follower.reading
        for lane, ends in self._ends.items():
            if lane in self._lanes:
                at = positions[lane].k if lane in positions else 0
                if reading is not None and reading[0] == lane:
                    at = reading[1]
                if at < ends.ks[-1]:
                    return False
        return True

    def finish(self) -> list[Finding]:
        """All there is was read: what the audit has beyond that is missing."""
        found = self._judge(None, self._follower.end_segment())
        for lane in sorted(self._lanes & self._ends.keys()):
            position = self._follower.positions.get(lane)
            last = self._ends[lane].last()
            if position is None and not self._from_start:
                continue  # all of this lane's records are past their term
            at = position.k if position else 0
            if at < last.k:
                text = Statement(
                    f"审计记有 {last.k} 条，主题中只到第 {at} 条",
                    f"the audit has {last.k} records, the topic ends at {at}",
                )
                found.append(Finding("count", text, lane=lane, grant=self._grant, k=at + 1))
        return found

    def _audited(self, offset: int, lane: int, last: int, count: int) -> list[Finding]:
        """Whether records up to `last`, `count` of them from `offset` on, are in the ledger."""
        ends = self._ends.get(lane)
        if lane not in self._lanes and lane not in self._strangers:
            self._strangers.add(lane)
            text = Statement("该分道不写入此分区", "this lane does not write to this partition")
            return [Finding("lane", text, lane=lane, offset=offset, grant=self._grant, k=last)]
        placed = ends.ks[-1] if ends else 0
        if last > placed and lane not in self._beyond:
            self._beyond.add(lane)
            k = max(placed + 1, last - count + 1)
            at = offset + k - (last - count + 1)
            text = Statement("自此起的记录不在审计中", "records from here on are not in the audit")
            return [Finding("unaudited", text, lane=lane, offset=at, grant=self._grant, k=k)]
        return []

    def _judge(self, offset: int | None, events: tuple[Event, ...]) -> list[Finding]:
        found: list[Finding] = []
        for event in events:
            if isinstance(event, SegmentEnd):
                self._on_segment(event)
                found += self._compare(event)
            else:
                found.append(self._told(offset, event))
        return found

    def _told(self, offset: int | None, event: Mismatch) -> Finding:
        return Finding(
            f"delivery-{event.wrong}",
            _WRONG[event.wrong],
            lane=event.lane,
            offset=offset,
            grant=self._grant,
            k=event.k or None,
        )

    def _compare(self, end: SegmentEnd) -> list[Finding]:
        """Block ends up to the segment's end: the last must fall on it with the same value."""
        ends = self._ends.get(end.lane)
        if ends is None or end.lane not in self._at:
            return []
        at = self._at[end.lane]
        while at < len(ends.ks) and ends.ks[at] < end.first:
            at += 1
        found: list[Finding] = []
        if at < len(ends.ks) and ends.ks[at] <= end.last:
            self.compared += 1
            if ends.ks[at] < end.last:
                text = Statement("一段跨越了块的边界", "a segment crosses the end of its block")
            elif ends.chain(at) != end.chain:
                text = Statement(
                    "链值与审计块不符：这一段的记录与审计时的不同",
                    "chain value differs from the audit block: these are not the records audited",
                )
            else:
                text = None
            if text is not None:
                found = [
                    Finding("delivery-audit", text, lane=end.lane, grant=self._grant, k=end.first)
                ]
            while at < len(ends.ks) and ends.ks[at] <= end.last:
                at += 1
        self._at[end.lane] = at
        return found
