"""What an agency may countersign: whole segments up to its cursor, their chains recomputed.

Pure. The service follows the delivery chain itself, over the records as Kafka holds them, from
where the last receipt ended; of a class grant it follows the territory's own chain beside it. A
segment counts once it is known to be whole: the next record opens another one, or there is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785

from shutong_consumer.inbox import Stored
from shutong_core.audit.chain import segment_of
from shutong_core.audit.follow import ChainFollower, Event, Mismatch, Position, SegmentEnd
from shutong_core.audit.territory import TerritoryChain
from shutong_core.domain.errors import Rejected


@dataclass(frozen=True, slots=True)
class Stand:
    """How far one agency has countersigned one grant.

    `offsets`: next offset of each partition, where a segment begins. `lanes`: the grant's own
    chain. `territory`: the territory's chain, None unless the grant is for a class. `late`:
    partitions that were taken up after their beginning was deleted.
    """

    offsets: Mapping[int, int]
    lanes: Mapping[int, Position]
    territory: Mapping[int, Position] | None = None
    late: frozenset[int] = frozenset()

    @property
    def signed(self) -> Mapping[int, Position]:
        """The chain that receipts are about."""
        return self.lanes if self.territory is None else self.territory


@dataclass(frozen=True, slots=True)
class Stretch:
    """Records `first` … `last` of a lane, not yet countersigned, and the chain value after them."""

    lane: int
    first: int
    last: int
    chain: bytes


class Countersigning:
    """One walk from a stand towards a cursor, partition by partition, in order.

    For each partition: `feed` its records below the cursor, then `close` with the one after them.
    """

    def __init__(self, cluster: str, grant: str, territory: str | None, stand: Stand) -> None:
        self._stand = stand
        self._lanes = dict(stand.lanes)
        self._own = dict(stand.territory or {})
        self._offsets = dict(stand.offsets)
        self._first: dict[int, int] = {}
        self._begun: dict[int, int] = {}
        self.mismatches: list[Mismatch] = []
        self._followers = {
            partition: ChainFollower(
                cluster, grant, stand.lanes, from_start=partition not in stand.late
            )
            for partition in stand.offsets
        }
        self._territories = (
            None
            if territory is None
            else {
                partition: TerritoryChain(cluster, grant, territory, self._own)
                for partition in stand.offsets
            }
        )

    def feed(self, record: Stored, *, own: bool) -> None:
        """The partition's next record; `own` if it lies in the agency's territory."""
        partition = record.partition
        follower = self._followers[partition]
        if record.headers and _opens(record):
            self._begun[partition] = record.offset
        self._take(partition, follower.feed(record.headers, record.key, record.value))
        reading = follower.reading
        if self._territories is not None and own and reading is not None:
            self._territories[partition].take(reading[0], record.key, record.value)

    def close(self, partition: int, cursor: int, following: Stored | None) -> None:
        """Everything below `cursor` was fed; `following` is the next record, None if there is none.

        A segment that goes on beyond the cursor waits for a later one.
        """
        follower = self._followers[partition]
        if following is None or _opens(following):
            self._take(partition, follower.end_segment())
            self._offsets[partition] = cursor
            return
        self._offsets[partition] = self._begun.get(partition, self._offsets[partition])
        if self._territories is not None:
            self._territories[partition].drop_segment()

    def _take(self, partition: int, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, Mismatch):
                self.mismatches.append(event)
                continue
            self._lanes[event.lane] = Position(event.last, event.chain)
            if self._territories is None:
                self._first.setdefault(event.lane, event.first)
                continue
            end: SegmentEnd | None = self._territories[partition].end_segment()
            if end is not None:
                self._own[end.lane] = Position(end.last, end.chain)
                self._first.setdefault(end.lane, end.first)

    def stretches(self) -> tuple[Stretch, ...]:
        """What there is to countersign, by lane; only if there were no mismatches."""
        reached = self._lanes if self._territories is None else self._own
        return tuple(
            Stretch(lane, first, reached[lane].k, reached[lane].chain)
            for lane, first in sorted(self._first.items())
        )

    def stand(self) -> Stand:
        """How far it went."""
        own = None if self._territories is None else self._own
        return Stand(self._offsets, self._lanes, own, self._stand.late)


def _opens(record: Stored) -> bool:
    try:
        return segment_of(record.headers) is not None
    except Rejected:
        return True  # malformed: the follower tells


def encode_stand(stand: Stand) -> bytes:
    """The stand as RFC 8785 JSON."""
    body: dict[str, Any] = {
        "late": sorted(stand.late),
        "lanes": _positions(stand.lanes),
        "offsets": {str(partition): at for partition, at in stand.offsets.items()},
    }
    if stand.territory is not None:
        body["territory"] = _positions(stand.territory)
    return rfc8785.dumps(body)


def decode_stand(data: bytes) -> Stand:
    """The stand in `data`. Raises Rejected for what `encode_stand` would not have written."""
    try:
        body = json.loads(data)
        stand = Stand(
            {int(partition): int(at) for partition, at in body["offsets"].items()},
            _read(body["lanes"]),
            _read(body["territory"]) if "territory" in body else None,
            frozenset(int(partition) for partition in body["late"]),
        )
        same = encode_stand(stand) == data
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Rejected("not a stand of countersigning") from error
    if not same:
        raise Rejected("a stand of countersigning in another form")
    return stand


def _positions(positions: Mapping[int, Position]) -> dict[str, list[Any]]:
    return {str(lane): [each.k, each.chain.hex()] for lane, each in positions.items()}


def _read(body: Mapping[str, Any]) -> dict[int, Position]:
    return {int(lane): Position(int(k), bytes.fromhex(chain)) for lane, (k, chain) in body.items()}
