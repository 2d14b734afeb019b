"""The chain of one territory: a class grant's records as one member of the class receives them.

A class grant has one delivery topic, split by territory after it was written. For each segment of
the grant's own chain, in order, the records that lie in the territory (if there are any) are one
link of the chain of (grant, territory, lane); `k` counts them from 1. Who holds the topic can
recompute every territory's chain by splitting it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from shutong_core.audit.chain import record_bytes, territory_genesis
from shutong_core.audit.follow import Position, SegmentEnd


class TerritoryChain:
    """Follows one territory over the segments of one partition.

    Feed it the territory's records with `take`, and call `end_segment` wherever a segment of the
    grant's own chain ends.
    """

    def __init__(
        self, cluster: str, grant: str, territory: str, known: Mapping[int, Position] | None = None
    ) -> None:
        self._cluster = cluster
        self._grant = grant
        self._territory = territory
        self._positions = dict(known or {})
        self._lane: int | None = None
        self._count = 0
        self._hash = hashlib.sha256()

    @property
    def positions(self) -> Mapping[int, Position]:
        """Where each lane stands after its last whole segment."""
        return self._positions

    def take(self, lane: int, key: bytes | None, value: bytes | None) -> None:
        """The next record of the open segment that lies in the territory."""
        if self._lane is None:
            self._lane, self._count = lane, 0
            self._hash = hashlib.sha256(self._at(lane).chain)
        if lane != self._lane:
            raise ValueError(f"lane {lane} inside a segment of lane {self._lane}")
        self._count += 1
        self._hash.update(record_bytes(key, value))

    def end_segment(self) -> SegmentEnd | None:
        """The open segment is whole; None if none of its records lies in the territory."""
        lane = self._lane
        if lane is None:
            return None
        self._lane = None
        before = self._at(lane)
        after = Position(before.k + self._count, self._hash.digest())
        self._positions[lane] = after
        return SegmentEnd(lane, before.k + 1, after.k, after.chain)

    def drop_segment(self) -> None:
        """Forget the open segment: it was not read to its end."""
        self._lane = None

    def _at(self, lane: int) -> Position:
        found = self._positions.get(lane)
        if found is None:
            c0 = territory_genesis(self._cluster, self._grant, self._territory, lane)
            return Position(0, c0)
        return found
