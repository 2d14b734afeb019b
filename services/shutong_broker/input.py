"""One input of a lane: where it stands, what was fetched ahead, what was taken last.

What was polled and not used goes back in front without asking Kafka again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from operator import attrgetter

from shutong_broker.policy.model import InboundRecord
from shutong_broker.recordreader import RecordReader

#: While so much waits that was given back, nothing more is read: it would pile up.
AGAIN_BYTES_ENOUGH = 1024 * 1024

_offset_of, _value_of = attrgetter("offset"), attrgetter("value")


class Input:
    """Partition `lane` of one `inbound.<dataset>`, from `position` on."""

    __slots__ = (
        "_again",
        "_again_bytes",
        "_last",
        "_least",
        "_readers",
        "carried_cold",
        "carried_hot",
        "corrupt",
        "dataset",
        "fault",
        "faulty_since",
        "fed_at",
        "fetched",
        "is_hot",
        "lane",
        "node",
        "position",
        "retry_at",
        "topic",
        "used_at",
    )

    def __init__(self, dataset: str, topic: str, lane: int, position: int) -> None:
        self.dataset = dataset
        self.topic = topic
        self.lane = lane
        #: Every record below was taken; at the latest the next one has this offset.
        self.position = position
        #: Where the next fetch begins.
        self.fetched = position
        #: A fault that Kafka told of this input alone; `take` does not look at it.
        self.fault: Exception | None = None
        #: How often in a row a checksum failed.
        self.corrupt = 0
        #: The poll whose records were last used, by number.
        self.used_at = 0
        # The fetches' notes.
        self.node: int | None = None
        self.is_hot = False
        self.carried_cold = False
        self.carried_hot = False
        self.fed_at = 0.0
        self.retry_at = 0.0
        self.faulty_since: float | None = None
        self._readers: deque[RecordReader] = deque()
        self._again: list[InboundRecord] = []  # taken before, given back
        self._again_bytes = 0
        self._last: list[InboundRecord] = []  # taken last: may be given back
        self._least = position  # from here to `position` are no other records than `_last`

    @property
    def bytes_ahead(self) -> int:
        """Bytes that were fetched and not yet taken, or given back."""
        return self._again_bytes + sum(reader.bytes_left for reader in self._readers)

    @property
    def has_more(self) -> bool:
        """Whether `take` may find something."""
        return bool(self._again or self._readers)

    def feed(self, data: bytes, aborted: tuple[tuple[int, int], ...]) -> bool:
        """Add what was fetched from `fetched` on; False if not one batch is wholly there."""
        reader = RecordReader(self.dataset, self.lane, self.fetched, data, aborted)
        end = reader.end
        if end <= self.fetched:
            return False
        self._readers.append(reader)
        self.fetched = end
        return True

    def take(self, records_max: int) -> list[InboundRecord]:
        """The next records in offset order, at most so many; none does not mean none are left.

        Raises what `RecordReader.read` raises, when there is nothing before that batch.
        """
        self.settle()
        found, self._again = self._again[:records_max], self._again[records_max:]
        again_bytes = _bytes_of(found)
        self._again_bytes -= again_bytes
        if not self._again and again_bytes < AGAIN_BYTES_ENOUGH:
            self._read(found, records_max)
        if found:
            self._last = found
        if self._again:
            self.position = found[-1].offset + 1
        else:
            self.position = self._readers[0].next if self._readers else self.fetched
        return found

    def _read(self, found: list[InboundRecord], records_max: int) -> None:
        while self._readers and len(found) < records_max:
            room = records_max - len(found)
            try:
                read = self._readers[0].read(room)
            except Exception:
                if found:
                    return  # it is raised next time
                raise
            found += read
            if len(read) < room and not self._readers[0].is_broken:
                self._readers.popleft()

    def settle(self) -> bool:
        """What was taken last is used: it cannot be given back any more. Whether there was any."""
        if not self._last:
            return False
        self._least = self._last[-1].offset + 1
        self._last = []
        return True

    def seek(self, offset: int) -> None:
        """The next record is the first one at or after `offset`."""
        if self._least <= offset <= self.position:
            kept = bisect_left(self._last, offset, key=_offset_of)
            self._again_bytes += _bytes_of(self._last[kept:])
            self._again = self._last[kept:] + self._again
            self._last = self._last[:kept]  # a new list: who polled holds the old one
            self.position = offset
        else:
            self._jump(offset)

    def refetch(self) -> None:
        """Throw away what was fetched and not taken, and fetch it again."""
        if not self._again:
            self._jump(self.position)

    def _jump(self, offset: int) -> None:
        self.position = self.fetched = self._least = offset
        self._readers.clear()
        self._again, self._again_bytes, self._last = [], 0, []
        self.fault = None


def _bytes_of(records: Iterable[InboundRecord]) -> int:
    return sum(map(len, filter(None, map(_value_of, records))))
