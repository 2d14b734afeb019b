"""Record batches of one input, from Kafka's bytes to `InboundRecord`s, committed ones alone.

Rests on aiokafka's compiled batch, not on its consumer: that makes one object more per record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch

from shutong_broker.policy.model import InboundRecord

_BATCH_LENGTH = struct.Struct(">i")
_LENGTH_AT = 8  # after the base offset
_OVERHEAD = 12  # base offset and length themselves
_MAGIC_AT = 16
_MAGIC = 2
_BATCH_BYTES_LEAST = 61
_new = tuple.__new__


class RecordReader:
    """Reads what one fetch brought of one input, once, in order, from `offset` on."""

    __slots__ = (
        "_aborted",
        "_aborting",
        "_at",
        "_data",
        "_dataset",
        "_lane",
        "_records",
        "_then",
        "is_broken",
        "next",
    )

    def __init__(
        self,
        dataset: str,
        lane: int,
        offset: int,
        data: bytes,
        aborted: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._dataset = dataset
        self._lane = lane
        self._data = data
        self._at = 0
        self._aborted = sorted(aborted, key=lambda each: each[1], reverse=True)
        self._aborting: set[int] = set()
        self._records: Iterator[Any] | None = None  # of the batch under way
        self._then = offset  # the offset after it
        #: The offset after what was read: also markers and aborted records take offsets.
        self.next = offset
        #: A batch that cannot be read comes next.
        self.is_broken = False

    @property
    def bytes_left(self) -> int:
        """Bytes of batches not begun."""
        return len(self._data) - self._at

    @property
    def end(self) -> int:
        """Where to fetch on: the offset after the last whole batch, read or not."""
        end, at, data = self.next, self._at, self._data
        while (size := _whole(data, at)) > 0:
            base, delta = struct.unpack_from(">q", data, at)[0], _delta(data, at)
            end, at = max(end, base + delta + 1), at + size
        return max(end, self._then)

    def read(self, records_max: int) -> list[InboundRecord]:
        """At most so many records; fewer (also none) mean that nothing is left.

        Raises CorruptRecordException for a checksum that fails, ValueError or TypeError for a
        batch that cannot be taken apart (a header name that is not UTF-8). What was read before
        it is returned first, and the next call raises.
        """
        found: list[InboundRecord] = []
        while len(found) < records_max:
            try:
                if self._records is None and not self._begin():
                    break
                done = self._take(found, records_max)
            except Exception as error:
                self._records, self.is_broken = _broken(error), True
                if found:
                    return found
                raise
            if done:
                self._records = None
                self.next = max(self.next, self._then)
        return found

    def _take(self, found: list[InboundRecord], records_max: int) -> bool:
        """Move records of the batch under way to `found`; whether it has no more."""
        dataset, lane, least = self._dataset, self._lane, self.next
        room = records_max - len(found)
        records = self._records
        assert records is not None
        # Everything that is there for each record runs in this one expression.
        taken = [
            _new(
                InboundRecord,
                (dataset, lane, r.offset, r.key, r.value, tuple(r.headers), r.timestamp),
            )
            for _, r in zip(range(room), records, strict=False)
        ]
        done = len(taken) < room
        if taken:
            self.next = max(least, taken[-1].offset + 1)
            if taken[0].offset < least:  # a fetch may begin in the middle of a batch
                taken = [record for record in taken if record.offset >= least]
        found += taken
        return done

    def _begin(self) -> bool:
        """Go on to the next batch that holds committed records; whether there is one."""
        while (size := _whole(self._data, self._at)) > 0:
            batch = self._batch(size)
            self._at += size
            if self._is_committed(batch):
                # A batch lets itself be iterated over only once, from its first record.
                self._records = chain(batch)
                self._then = batch.next_offset
                return True
            self.next = self._then = max(batch.next_offset, self.next)
        self._at = len(self._data)
        return False

    def _batch(self, size: int) -> Any:
        if size < _BATCH_BYTES_LEAST or self._data[self._at + _MAGIC_AT] != _MAGIC:
            raise ValueError("not a record batch of format 2")
        batch = DefaultRecordBatch(self._data[self._at : self._at + size])
        if not batch.validate_crc():
            raise CorruptRecordException("the checksum of a record batch does not match")
        return batch

    def _is_committed(self, batch: Any) -> bool:
        """Whether the batch holds records that a reader of committed data may see."""
        aborted, producer = self._aborted, batch.producer_id
        while aborted and aborted[-1][1] <= batch.base_offset:
            self._aborting.add(aborted.pop()[0])
        if batch.is_control_batch:
            if ControlRecord.parse(next(batch).key) == ABORT_MARKER:
                self._aborting.discard(producer)
            return False
        return not (batch.is_transactional and producer in self._aborting)


def _whole(data: bytes, at: int) -> int:
    """Bytes of the batch at `at`, 0 if it is not wholly there."""
    if len(data) - at < _OVERHEAD:
        return 0
    size = _OVERHEAD + int(_BATCH_LENGTH.unpack_from(data, at + _LENGTH_AT)[0])
    return size if _OVERHEAD < size <= len(data) - at else 0


def _delta(data: bytes, at: int) -> int:
    """The last offset of the batch at `at`, counted from its first."""
    if len(data) - at < _BATCH_BYTES_LEAST:
        return 0
    return int(_BATCH_LENGTH.unpack_from(data, at + 23)[0])


def _broken(error: Exception) -> Iterator[Any]:
    yield from ()  # a generator: it raises when read
    raise error
