"""Records on their way into the log: what must become one Kafka record batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

#: Kafka's own bytes for one record beside key, value and headers, rounded up (KIP-98 format v2).
RECORD_OVERHEAD_BYTES = 32


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
        return size + sum(len(name) * 3 + len(value) + 8 for name, value in self.headers)


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records that must become exactly one Kafka record batch of one partition."""

    topic: str
    partition: int
    records: Sequence[KafkaRecord]


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
