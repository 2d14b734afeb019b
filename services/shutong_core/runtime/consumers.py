"""Consumers that read what is committed and skip nothing in silence; stops them for certain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

STOP_S = 5.0


def committed_consumer(client: Mapping[str, Any], **options: Any) -> AIOKafkaConsumer:
    """A consumer, not started, that reads only what is committed and checks what it reads.

    It is in no group and never moves by itself: an offset that is gone is an error. `options`:
    aiokafka's, such as `fetch_max_wait_ms`.
    """
    return AIOKafkaConsumer(
        **client,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        check_crcs=True,
        **options,
    )


@contextlib.asynccontextmanager
async def reading_committed(
    client: Mapping[str, Any], start_s: float | None = None, **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """A started `committed_consumer`, stopped at the end.

    Raises KafkaError, or TimeoutError if it is not started in `start_s` seconds.
    """
    consumer = committed_consumer(client, **options)
    try:
        async with asyncio.timeout(start_s):
            await consumer.start()
        yield consumer
    finally:
        await stop_consumer(consumer)


async def committed_records(
    reader: AIOKafkaConsumer, place: TopicPartition, first: int, end: int
) -> AsyncIterator[Any]:
    """The committed records of a partition at offsets `first` … `end` - 1, in order."""
    if first >= end:
        return
    reader.assign([place])
    reader.seek(place, first)
    while await reader.position(place) < end:
        found = await reader.getmany(place, timeout_ms=200)
        for record in found.get(place, ()):
            if record.offset < end:
                yield record


async def stop_consumer(consumer: AIOKafkaConsumer, within_s: float = STOP_S) -> None:
    """Stop `consumer`; what cannot be ended in `within_s` seconds is left behind.

    aiokafka 0.14 cancels its fetches when it stops and awaits them, and their CancelledError comes
    out of `stop()` when Kafka is away. Taken for our own it would silently end the calling task.
    """
    try:
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(within_s):
                await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
