"""Records on their way into the log: what must become one Kafka record batch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import add

#: Kafka's own bytes for one record beside key, value and headers, rounded up (KIP-98 format v2).
RECORD_OVERHEAD_BYTES = 32

#: Headers of one record, names as text.
Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """One record to write: bytes as they go to the log."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes in a record batch, an upper bound."""
        size = RECORD_OVERHEAD_BYTES + len(self.key or b"") + len(self.value or b"")
        return size + headers_size(self.headers)


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records that must become exactly one Kafka record batch of one partition."""

    topic: str
    partition: int
    records: Sequence[KafkaRecord]


@dataclass(frozen=True, slots=True)
class ColumnBatch:
    """The same as columns: one record per place, no object per record.

    `first_headers` go before the headers of the first record; `headers` are those of each record,
    None if no record has any.
    """

    topic: str
    partition: int
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    first_headers: Headers = ()
    headers: Sequence[Headers] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for no records, or columns of different length."""
        count = len(self.keys)
        if not count:
            raise ValueError("a record batch has at least one record")
        if len(self.values) != count or (self.headers is not None and len(self.headers) != count):
            raise ValueError("columns of one record batch have one length")


def headers_size(headers: Headers) -> int:
    """Bytes that the headers of one record take in a record batch, an upper bound."""
    return sum(len(name) * 4 + len(value) + 8 for name, value in headers)


def columns_size(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], header_bytes: int = 0
) -> int:
    """Bytes that these records take in a record batch, an upper bound.

    `header_bytes`: the most that the headers of one record take (`headers_size`).
    """
    each = (RECORD_OVERHEAD_BYTES + header_bytes) * len(keys)
    # filter: a null has no length, and what is empty adds none.
    return each + sum(map(len, filter(None, keys))) + sum(map(len, filter(None, values)))


def cut(
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    header_bytes: int,
    bytes_max: int,
    count_max: int,
) -> list[slice]:
    """Cut columns in order into runs that stay within both bounds (one record always fits).

    The same runs as `chunks` makes of records whose headers take `header_bytes` each.
    """
    count = len(keys)
    if count <= count_max and columns_size(keys, values, header_bytes) <= bytes_max:
        return [slice(0, count)] if count else []
    overhead = RECORD_OVERHEAD_BYTES + header_bytes
    sizes = map(add, map(_length, keys), map(_length, values))
    # upto[n]: bytes of the first n records.
    upto = [0, *accumulate(size + overhead for size in sizes)]
    runs, start = [], 0
    while start < count:
        fits = bisect_right(upto, upto[start] + bytes_max) - 1
        end = min(max(fits, start + 1), start + count_max, count)
        runs.append(slice(start, end))
        start = end
    return runs


def _length(data: bytes | None) -> int:
    return 0 if data is None else len(data)


def chunks(
    records: Iterable[KafkaRecord], bytes_max: int, count_max: int
) -> Iterator[list[KafkaRecord]]:
    """Cut `records` in order into runs that stay within both bounds (one record always fits)."""
    run: list[KafkaRecord] = []
    size = 0
    for record in records:
        if run and (size + record.size > bytes_max or len(run) >= count_max):
            yield run
            run, size = [], 0
        run.append(record)
        size += record.size
    if run:
        yield run
