"""Stops an aiokafka consumer for certain, within a time, without taking its caller along."""

from __future__ import annotations

import asyncio
import contextlib

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

STOP_S = 5.0


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
