"""Writes record batches and answers only once Kafka acknowledged all of them.

acks=all and idempotent. aiokafka never expires an idempotent batch, so every wait here has an end;
after any doubt the producer is thrown away and replaced, because a failed batch leaves a hole in
its sequence. What it had sent may still have arrived: the outcome is then unknown, and the
publisher repeats with the same event ids.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from shutong_core.domain.errors import Retryable
from shutong_core.wire.batches import RecordBatch
from shutong_core.wire.topics import INBOUND_BYTES_MAX

_RETRY_S = 0.5
_log = structlog.stdlib.get_logger(__name__)


class Unacknowledged(Retryable):
    """Kafka did not acknowledge everything in time; what was sent may or may not be there."""


class _Generation:
    """One producer, from start to the first doubt."""

    def __init__(self, client: Mapping[str, Any], ack_s: float) -> None:
        self._producer = AIOKafkaProducer(
            **client,
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            max_batch_size=INBOUND_BYTES_MAX,
            max_request_size=INBOUND_BYTES_MAX + 4096,
            request_timeout_ms=max(1000, int(ack_s * 1000)),
        )
        self.dead = asyncio.Event()
        # aiokafka counts the same waiting time again each time a waiter for a partition wakes up
        # in vain, and so gives up long before its time: only one waits for it at once.
        self._turns: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        await self._producer.start()

    async def know(self, topic: str) -> None:
        """Have the topic's partitions at hand, from memory or from Kafka."""
        await self._producer.partitions_for(topic)

    async def send(self, batch: RecordBatch) -> asyncio.Future[Any]:
        builder = self._producer.create_batch()
        for record in batch.records:
            added = builder.append(
                timestamp=None, key=record.key, value=record.value, headers=list(record.headers)
            )
            if added is None:
                # The caller bounds batches; a batch cut short would lose a record silently.
                raise Unacknowledged(f"a record batch for {batch.topic} is larger than allowed")
        builder.close()
        async with self._turns[batch.topic, batch.partition]:
            future: asyncio.Future[Any] = await self._producer.send_batch(
                builder, batch.topic, partition=batch.partition
            )
        return future

    async def abandon(self) -> None:
        """Close without waiting for what is queued; who waits for `dead` learns of it at once."""
        self.dead.set()
        task = self._producer._sender.sender_task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._producer.client.close()
        self._producer._closed = True


class AckedWriter:
    """A producer that replaces itself; `write` may be called by many tasks at once."""

    def __init__(
        self,
        client: Mapping[str, Any],
        *,
        ack_s: float = 5.0,
        start_s: float = 10.0,
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._ack_s = ack_s
        self._start_s = start_s
        self._on_error = on_error
        self._generation: _Generation | None = None
        self._retired: _Generation | None = None
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.problem: str | None = "not connected to Kafka yet"
        self.replaced = 0

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        self._wanted.set()
        self._task = asyncio.create_task(self._keep(), name="acked writer")

    async def close(self) -> None:
        """Let go of the producer; nothing may be under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        generation, self._generation = self._generation, None
        if generation is not None:
            await self._abandon(generation)

    @property
    def ready(self) -> bool:
        """Whether there is a producer that was not doubted yet."""
        return self._generation is not None

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait for a producer. Raises Retryable if there is none in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.ready:
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise Retryable("no connection to Kafka in time") from error

    async def write(
        self, batches: Sequence[RecordBatch], on_sent: Callable[[], None] = lambda: None
    ) -> list[int]:
        """Write every batch; the base offset of each, once all are acknowledged.

        `on_sent` is called when all are sent and none is waited for yet. Raises Unacknowledged.
        """
        generation = self._generation
        if generation is None:
            raise Unacknowledged(self.problem or "not connected to Kafka")
        await self._know(generation, {batch.topic for batch in batches})
        try:
            async with asyncio.timeout(self._ack_s):
                offsets = await _unless_dead(_send_all(generation, batches, on_sent), generation)
        except Unacknowledged as error:
            self._doubt(generation, str(error))
            raise
        except (TimeoutError, KafkaError, AssertionError) as error:
            name = type(error).__name__
            self._doubt(generation, name)
            raise Unacknowledged(f"not acknowledged by Kafka: {name}") from error
        if min(offsets, default=0) < 0:
            # Kafka knew the batch but no longer where it put it: no receipt could be given.
            self._doubt(generation, "OffsetUnknown")
            raise Unacknowledged("acknowledged without an offset")
        return offsets

    async def _know(self, generation: _Generation, topics: set[str]) -> None:
        # Apart from writing: a topic that does not exist yet must not cost all the others their
        # producer, and nothing was sent so far.
        try:
            async with asyncio.timeout(self._ack_s):
                for topic in topics:
                    await generation.know(topic)
        except (TimeoutError, KafkaError, AssertionError) as error:
            self._on_error(type(error).__name__)
            raise Unacknowledged(f"no partitions known: {type(error).__name__}") from error

    def _doubt(self, generation: _Generation, cause: str) -> None:
        """Replace `generation`, if nobody did yet."""
        generation.dead.set()
        self._on_error(cause if cause.isidentifier() else "Unacknowledged")
        if self._generation is generation:
            self._generation = None
            self.problem = f"Kafka does not acknowledge: {cause}"
            _log.warning("producer replaced", error_type=cause)
            self.replaced += 1
            self._retired = generation
            self._wanted.set()

    async def _keep(self) -> None:
        while True:
            await self._wanted.wait()
            retired, self._retired = self._retired, None
            if retired is not None:
                await self._abandon(retired)
            if await self._renew():
                self._wanted.clear()
            else:
                await asyncio.sleep(_RETRY_S)

    async def _renew(self) -> bool:
        generation = _Generation(self._client, self._ack_s)
        try:
            async with asyncio.timeout(self._start_s):
                await generation.start()
        except (TimeoutError, KafkaError, AssertionError) as error:
            self.problem = f"no connection to Kafka: {type(error).__name__}"
            self._on_error(type(error).__name__)
            await self._abandon(generation)
            return False
        except asyncio.CancelledError:
            await self._abandon(generation)
            raise
        self._generation = generation
        self.problem = None
        return True

    async def _abandon(self, generation: _Generation) -> None:
        with contextlib.suppress(TimeoutError, KafkaError, AssertionError):
            async with asyncio.timeout(self._ack_s):
                await generation.abandon()


async def _send_all(
    generation: _Generation, batches: Sequence[RecordBatch], on_sent: Callable[[], None]
) -> list[int]:
    futures = [await generation.send(batch) for batch in batches]
    on_sent()
    return [(await future).offset for future in futures]


async def _unless_dead(work: Coroutine[Any, Any, list[int]], generation: _Generation) -> list[int]:
    """What `work` gives, unless the producer is given up before."""
    doing = asyncio.ensure_future(work)
    dead = asyncio.ensure_future(generation.dead.wait())
    try:
        await asyncio.wait({doing, dead}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Unacknowledged("the producer was replaced while this was under way")
        return doing.result()
    finally:
        for task in (doing, dead):
            task.cancel()
        await asyncio.gather(doing, dead, return_exceptions=True)
