"""The reader's side of one delivery topic: pages out of what was fetched, and what is kept of it.

Pure. A position is the next offset of each partition. Whatever sizes pages have, each record comes
exactly once and in its partition's order; across partitions the older one comes first, so that a
busy partition cannot hold up the others.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Stored(Protocol):
    """A record as Kafka clients give it."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True)
class Ready:
    """Records of each partition from a position on, whole record batches, and how far they go."""

    records: Mapping[int, Sequence[Stored]]
    reached: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one page: records let out, their bytes, records looked at."""

    records_max: int
    bytes_max: int
    scan_max: int


@dataclass(frozen=True, slots=True)
class Page:
    """Records to let out, the position after them; `whole` if nothing fetched was left behind."""

    records: tuple[Stored, ...]
    following: Mapping[int, int]
    bytes: int
    scanned: int
    whole: bool


def size_of(record: Stored) -> int:
    """Bytes of key and value."""
    return len(record.key or b"") + len(record.value or b"")


def cut(
    ready: Ready,
    position: Mapping[int, int],
    bounds: Bounds,
    wanted: Callable[[Stored], bool] | None = None,
) -> Page:
    """The next page of `ready`, which begins at `position`.

    Records that are not `wanted` are passed over; a single record may be larger than `bytes_max`.
    """
    following = dict(position)
    out: list[Stored] = []
    taken_bytes = scanned = 0
    for record in _merged(ready.records):
        if len(out) >= bounds.records_max or scanned >= bounds.scan_max:
            return Page(tuple(out), following, taken_bytes, scanned, False)
        take = wanted is None or wanted(record)
        size = size_of(record) if take else 0
        if out and taken_bytes + size > bounds.bytes_max:
            return Page(tuple(out), following, taken_bytes, scanned, False)
        scanned += 1
        following[record.partition] = record.offset + 1
        if take:
            out.append(record)
            taken_bytes += size
    # Behind the last record there may be transaction markers, which also take offsets.
    following = {each: max(at, ready.reached.get(each, at)) for each, at in following.items()}
    return Page(tuple(out), following, taken_bytes, scanned, True)


def _merged(records: Mapping[int, Sequence[Stored]]) -> Iterable[Stored]:
    runs = [run for _, run in sorted(records.items()) if run]
    if len(runs) == 1:
        return runs[0]
    return heapq.merge(*runs, key=lambda record: (record.timestamp, record.partition))


class Window:
    """A run of each partition held in memory: from `low` to `high`, bounded in bytes.

    What does not fit is dropped from the front, whole additions at a time; the newest addition
    always stays.
    """

    def __init__(self, starts: Mapping[int, int], bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._low = dict(starts)
        self._high = dict(starts)
        self._records: dict[int, list[Stored]] = {partition: [] for partition in starts}
        #: (partition, offset after it, bytes) of each addition, oldest first.
        self._additions: list[tuple[int, int, int]] = []

    @property
    def bytes(self) -> int:
        """Bytes of keys and values held."""
        return self._bytes

    @property
    def high(self) -> Mapping[int, int]:
        """The offset after what was read, by partition."""
        return self._high

    def covers(self, position: Mapping[int, int]) -> bool:
        """Whether everything between `position` and `high` is held, of every partition it names."""
        return all(
            each in self._low and self._low[each] <= at <= self._high[each]
            for each, at in position.items()
        )

    def add(self, partition: int, records: Sequence[Stored], reached: int) -> None:
        """Take in what follows `high`: whole record batches, the offset after them."""
        size = sum(map(size_of, records))
        self._records[partition].extend(records)
        self._high[partition] = reached
        self._bytes += size
        if records:
            self._additions.append((partition, reached, size))
        dropped = 0
        while self._bytes > self._bytes_max and dropped < len(self._additions) - 1:
            self._drop(self._additions[dropped])
            dropped += 1
        del self._additions[:dropped]

    def _drop(self, addition: tuple[int, int, int]) -> None:
        partition, reached, size = addition
        run = self._records[partition]
        del run[: _first_at(run, reached)]
        self._low[partition] = reached
        self._bytes -= size

    def after(self, position: Mapping[int, int]) -> Ready:
        """What is held from `position` on, which must be covered."""
        records = {}
        for partition, at in position.items():
            run = self._records[partition]
            first = _first_at(run, at)
            records[partition] = run[first:] if first < len(run) else ()
        return Ready(records, {each: self._high[each] for each in position})


def _first_at(run: Sequence[Stored], offset: int) -> int:
    return bisect_left(run, offset, key=lambda record: record.offset)
