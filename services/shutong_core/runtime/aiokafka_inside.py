"""The parts of aiokafka below its producer that transactions stand on, all in one place.

Its producer is not used for transactions: it sends each step when it happens to wake up, twice as
many requests as needed, and two at once where Kafka takes one. Only connections, metadata, the
encoding of requests and the C code for record batches are. A test pins the version of aiokafka
that all this is known for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, repeat
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import CloseReason
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
)
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from shutong_core.wire.batches import ColumnBatch, RecordBatch

#: The version whose inside this is.
AIOKAFKA_VERSION = "0.14.0"

#: Names of codecs, as settings have them, to their numbers on the wire.
CODECS = {
    None: 0,
    "gzip": DefaultRecordBatch.CODEC_GZIP,
    "snappy": DefaultRecordBatch.CODEC_SNAPPY,
    "lz4": DefaultRecordBatch.CODEC_LZ4,
    "zstd": DefaultRecordBatch.CODEC_ZSTD,
}

#: The builder's own bound: none, since the size is looked at once all records are in.
_UNBOUNDED = 1 << 40
_NO_HEADERS: list[tuple[str, bytes]] = []


class BatchTooLarge(ValueError):  # noqa: N818 - an answer, handled by the caller
    """More than one record, and more bytes than one record batch may have."""


def record_batch(
    batch: RecordBatch | ColumnBatch, codec: int, bytes_max: int
) -> tuple[DefaultRecordBatchBuilder, int]:
    """The builder that holds exactly this record batch for a transaction, and how many it holds.

    Raises BatchTooLarge; one record always fits.
    """
    if isinstance(batch, RecordBatch):
        batch = _columns(batch)
    builder = DefaultRecordBatchBuilder(2, codec, 1, -1, -1, 0, _UNBOUNDED)
    # One call of C for each record, made by C: a loop of Python around it costs as much again.
    append, now_ms, count = builder.append, int(time.time() * 1000), len(batch.keys)
    headers: Iterable[list[tuple[str, bytes]]]
    first, headers = list(batch.first_headers), repeat(_NO_HEADERS)
    if batch.headers is not None:
        first += batch.headers[0]
        headers = map(list, islice(batch.headers, 1, None))
    append(0, now_ms, batch.keys[0], batch.values[0], first)
    keys, values = islice(batch.keys, 1, None), islice(batch.values, 1, None)
    deque(map(append, range(1, count), repeat(now_ms), keys, values, headers), maxlen=0)
    if count > 1 and builder.size() > bytes_max:
        raise BatchTooLarge(f"a record batch for {batch.topic} is larger than allowed")
    return builder, count


def _columns(batch: RecordBatch) -> ColumnBatch:
    records = batch.records
    return ColumnBatch(
        batch.topic,
        batch.partition,
        [record.key for record in records],
        [record.value for record in records],
        headers=[record.headers for record in records],
    )


def new_client(options: Mapping[str, Any], request_timeout_ms: int) -> AIOKafkaClient:
    """Connections and metadata for one producer; `options` as every client of the process has."""
    return AIOKafkaClient(**options, request_timeout_ms=request_timeout_ms)


async def partitions_of(client: AIOKafkaClient, topic: str) -> set[int]:
    """Partitions of a topic from memory, else from Kafka. Raises KafkaError if it is not there."""
    found: set[int] = await client._wait_on_metadata(topic)
    return found


async def connection(client: AIOKafkaClient, node: int) -> Any:
    """An open connection to a node. Raises NodeNotReadyError if there is none to be had."""
    opened = await client._get_conn(node)
    if opened is None:
        raise NodeNotReadyError(f"node {node}")
    return opened


async def ask(opened: Any, requests: Sequence[Any]) -> list[Any]:
    """Send requests at once; the answers in their order, a KafkaError for each that got none.

    Kafka works off one connection in order: the second request waits there for the first one's
    answer, not here. Nothing else runs between this call and the writing of the requests.
    """
    waits: list[Any] = []
    unsent: list[Any] = []
    for request in requests:
        try:
            waits.append(opened.send(request))
        except KafkaConnectionError as error:
            unsent.append(error)
    answers: list[Any] = []
    try:
        for wait in waits:
            try:
                answers.append(await wait)
            except TimeoutError:
                opened.close(reason=CloseReason.CONNECTION_TIMEOUT)
                answers.append(RequestTimedOutError())
            except KafkaError as error:
                answers.append(error)
    except asyncio.CancelledError:
        for wait in waits[len(answers) + 1 :]:
            wait.close()
        for _, _, future in opened._requests:
            future.add_done_callback(take_exception)  # nobody waits for it any more
        raise
    return answers + unsent


def take_exception(future: asyncio.Future[Any]) -> None:
    """Take note of its exception, so that nobody having waited is no noise in the log."""
    if not future.cancelled():
        future.exception()
