"""What the lanes refused after acceptance, by publisher: a bounded index over topic quarantine.

Holds headers only, never a value. When it is full, whoever has most entries loses the oldest one,
so a flood by one publisher does not push out another's refusals. A cursor is the next quarantine
offset of each partition.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shutong_core.domain.reasons import Reason
from shutong_core.wire.headers import rfc3339
from shutong_core.wire.quarantine import QuarantineHeaders

#: About 400 bytes each.
ENTRIES_MAX = 200_000


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """One quarantined record: its place on topic quarantine, when, and what its headers tell."""

    partition: int
    offset: int
    at_ms: int
    told: QuarantineHeaders

    def document(self) -> dict[str, Any]:
        """What its publisher is shown."""
        told = self.told
        return {
            "id": told.event_id,
            "dataset": told.source.dataset,
            "reason": told.reason.name,
            "path": told.path,
            "zh": told.reason.zh,
            "en": told.reason.en,
            "at": rfc3339(self.at_ms),
            "partition": told.source.lane,
            "offset": told.source.offset,
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Refusals in the order they were seen, and the cursor after them."""

    records: tuple[RefusedRecord, ...]
    following: Mapping[int, int]
    more: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """The cursor points before what is kept; `oldest` is the first cursor that does not."""

    oldest: Mapping[int, int]


class RefusalIndex:
    """Refusals by publisher; not thread-safe, all calls are from one event loop."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._total = 0
        self._by_publisher: dict[str, deque[RefusedRecord]] = {}
        # First quarantine offset by partition that is still kept, for all and for one publisher.
        self._start: dict[int, int] = {}
        self._floors: dict[str, dict[int, int]] = {}
        self._next: dict[int, int] = {}

    def begin(self, starts: Mapping[int, int]) -> None:
        """Empty the index; it will be fed from these offsets on."""
        self._by_publisher.clear()
        self._floors.clear()
        self._total = 0
        self._start = dict(starts)
        self._next = dict(starts)

    def add(self, partition: int, offset: int, at_ms: int, told: QuarantineHeaders | None) -> None:
        """Take in the next record of a partition; `told` is None if its headers are unreadable."""
        self._next[partition] = offset + 1
        if told is None or not told.publisher:
            return
        record = RefusedRecord(partition, offset, at_ms, told)
        self._by_publisher.setdefault(told.publisher, deque()).append(record)
        self._total += 1
        if self._total > self._entries_max:
            self._drop_one()

    def _drop_one(self) -> None:
        publisher = max(self._by_publisher, key=lambda each: len(self._by_publisher[each]))
        dropped = self._by_publisher[publisher].popleft()
        self._floors.setdefault(publisher, {})[dropped.partition] = dropped.offset + 1
        self._total -= 1

    def reach(self, partition: int, offset: int) -> None:
        """The partition was read up to `offset`; what lies between holds no record."""
        self._next[partition] = max(self._next.get(partition, 0), offset)

    @property
    def total(self) -> int:
        """Entries held."""
        return self._total

    def page(
        self,
        publisher: str,
        since: Mapping[int, int] | None,
        limit: int,
        wants: Callable[[Reason], bool] = lambda _: True,
    ) -> Page | Gone:
        """Up to `limit` refusals of `publisher` from `since` on (None: the oldest kept).

        `wants` says for which reasons; a cursor also passes the others.
        Partitions that a cursor does not name are read from the oldest kept.
        """
        floors = self._start | self._floors.get(publisher, {})
        since = since or {}
        # Offsets before the first one ever indexed hold nothing that was kept; those after it
        # that were dropped are a gap, which must not go unseen.
        if any(since.get(partition, at) < at for partition, at in floors.items()):
            return Gone(floors)
        wanted = {partition: max(since.get(partition, 0), at) for partition, at in floors.items()}
        found: list[RefusedRecord] = []
        for record in self._by_publisher.get(publisher, ()):
            if record.offset >= wanted.get(record.partition, 0) and wants(record.told.reason):
                if len(found) == limit:
                    return Page(tuple(found), self._after(wanted, found), True)
                found.append(record)
        return Page(tuple(found), self._next | _beyond(wanted, self._next), False)

    def _after(self, wanted: Mapping[int, int], found: list[RefusedRecord]) -> dict[int, int]:
        following = dict(wanted)
        for record in found:
            following[record.partition] = record.offset + 1
        return following


def _beyond(wanted: Mapping[int, int], reached: Mapping[int, int]) -> dict[int, int]:
    """Positions of a cursor that are further than this index has read (a restarted service)."""
    return {partition: at for partition, at in wanted.items() if at > reached.get(partition, 0)}
