"""The parts of aiokafka's producer that are not its public interface, all in one place.

A test pins the version of aiokafka that they are known for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from itertools import islice, repeat

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from shutong_core.wire.batches import ColumnBatch, RecordBatch

#: The version whose inside this is.
AIOKAFKA_VERSION = "0.14.0"

#: The builder's own bound: none, since the size is looked at once all records are in.
_UNBOUNDED = 1 << 40


class BatchTooLarge(ValueError):  # noqa: N818 - an answer, handled by the caller
    """More than one record, and more bytes than one record batch may have."""


def record_batch(batch: RecordBatch | ColumnBatch, codec: int, bytes_max: int) -> BatchBuilder:
    """The closed builder of exactly this record batch, for `send_batch`; `codec` as on the wire.

    Raises BatchTooLarge; one record always fits.
    """
    if isinstance(batch, RecordBatch):
        batch = _columns(batch)
    builder = BatchBuilder(_UNBOUNDED, codec, is_transactional=True)
    # The C builder itself: aiokafka's method around it costs twice as much as what it wraps, and
    # so would a loop of Python around this one.
    append, now_ms, count = builder._builder.append, int(time.time() * 1000), len(batch.keys)
    headers: Iterable[list[tuple[str, bytes]]]
    first, headers = list(batch.first_headers), repeat([])
    if batch.headers is not None:
        first += batch.headers[0]
        headers = map(list, islice(batch.headers, 1, None))
    append(0, now_ms, batch.keys[0], batch.values[0], first)
    keys, values = islice(batch.keys, 1, None), islice(batch.values, 1, None)
    deque(map(append, range(1, count), repeat(now_ms), keys, values, headers), maxlen=0)
    builder._relative_offset = count
    builder.close()
    if count > 1 and builder.size() > bytes_max:
        raise BatchTooLarge(f"a record batch for {batch.topic} is larger than allowed")
    return builder


def codec_of(producer: AIOKafkaProducer) -> int:
    """The wire number of the codec that the producer was made with."""
    codec: int = producer._message_accumulator._compression_type
    return codec


def _columns(batch: RecordBatch) -> ColumnBatch:
    records = batch.records
    return ColumnBatch(
        batch.topic,
        batch.partition,
        [record.key for record in records],
        [record.value for record in records],
        headers=[record.headers for record in records],
    )
