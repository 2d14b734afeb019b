"""Reads one delivery topic for everybody who may read it: a shared end, some places further back.

The end is followed by one consumer into a bounded window, so that readers who keep up cost no
request to Kafka and hear of news at once. Who is behind reads through one of a few consumers of
its own. Only committed records are seen (read_committed).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from shutong_consumer.inbox import Ready, Window
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.consumers import committed_consumer

#: Of one window; a record may have 2 MiB, so one always fits.
WINDOW_BYTES_MAX = 2 * 1024 * 1024
#: Consumers of one topic that read further back.
PASTS_MAX = 2
START_S = 10.0
READ_S = 5.0
#: How long the end's fetch waits in Kafka; one request as often for each topic in use.
TAIL_WAIT_MS = 500
_PAST_WAIT_MS = 50
_RETRY_S = 0.3
_log = structlog.stdlib.get_logger(__name__)


class PositionGone(Rejected):
    """The position lies before what is kept; `oldest` is the first one that is."""

    def __init__(self, oldest: Mapping[int, int]) -> None:
        super().__init__("the position is past its retention")
        self.oldest = oldest


class PositionUnknown(Rejected):
    """The position names other partitions, or offsets that no reader can have been given."""


@dataclass(frozen=True, slots=True)
class Span:
    """First offset kept and offset after the last committed record, by partition."""

    begin: Mapping[int, int]
    end: Mapping[int, int]


class _Source:
    """One consumer over some partitions of the topic, and what it read last."""

    def __init__(self, client: Mapping[str, Any], topic: str, wait_ms: int) -> None:
        self._topic = topic
        self._consumer = committed_consumer(
            client,
            fetch_max_wait_ms=wait_ms,
            fetch_max_bytes=WINDOW_BYTES_MAX,
            max_partition_fetch_bytes=WINDOW_BYTES_MAX,
            request_timeout_ms=int(READ_S * 1000),
        )
        self.lock = asyncio.Lock()
        self.used_at = 0.0
        self.window: Window | None = None

    async def start(self) -> None:
        async with asyncio.timeout(START_S):
            await self._consumer.start()

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(READ_S):
                await self._consumer.stop()

    async def span(self, partitions: tuple[int, ...]) -> Span:
        """Asks Kafka for both ends."""
        asked = [TopicPartition(self._topic, each) for each in partitions]
        async with asyncio.timeout(READ_S):
            begin = await self._consumer.beginning_offsets(asked)
            end = await self._consumer.end_offsets(asked)
        return Span(
            {each.partition: at for each, at in begin.items()},
            {each.partition: at for each, at in end.items()},
        )

    def begin_at(self, position: Mapping[int, int]) -> Window:
        """Read on from `position`; what was held is forgotten."""
        wanted = [TopicPartition(self._topic, each) for each in position]
        if self._consumer.assignment() != frozenset(wanted):
            self._consumer.assign(wanted)
        for each in wanted:
            self._consumer.seek(each, position[each.partition])
        self.window = Window(position, WINDOW_BYTES_MAX)
        return self.window

    async def take(self, window: Window, wait_ms: int) -> bool:
        """Adds what came within `wait_ms` to `window`; whether it reached further."""
        found = await self._consumer.getmany(timeout_ms=wait_ms)
        further = False
        for partition, high in list(window.high.items()):
            place = TopicPartition(self._topic, partition)
            reached = await self._consumer.position(place)
            if reached > high:
                window.add(partition, found.get(place, ()), reached)
                further = True
        return further

    def rest(self) -> None:
        """Fetch nothing until the next `wake`."""
        self._consumer.pause(*self._consumer.assignment())

    def wake(self) -> None:
        """Fetch again."""
        self._consumer.resume(*self._consumer.assignment())


class TopicReader:
    """All reading of one delivery topic in this process; `start`, then `close`."""

    def __init__(self, client: Mapping[str, Any], topic: str, partitions: tuple[int, ...]) -> None:
        self._client = client
        self.topic = topic
        self.partitions = partitions
        self._end: Window | None = None
        self._news = asyncio.Event()
        self._pasts: list[_Source] = []
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the end; returns at once."""
        self._task = asyncio.create_task(self._follow(), name=f"end of {self.topic}")

    async def close(self) -> None:
        """Let go of every consumer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        pasts, self._pasts = self._pasts, []
        for source in pasts:
            await source.close()

    async def span(self) -> Span:
        """First and last offsets now. Raises Retryable if Kafka does not answer."""
        with _kafka():
            return await (await self._past()).span(self.partitions)

    def at_end(self, position: Mapping[int, int]) -> bool:
        """Whether nothing is known to lie behind `position`."""
        end = self._end
        return end is not None and all(at >= end.high[each] for each, at in position.items())

    async def ready(self, position: Mapping[int, int], wait_s: float = 0) -> Ready:
        """Records from `position` on; waits up to `wait_s` seconds if there are none.

        `position` may name some of the partitions only. What comes back ends with whole record
        batches. Raises PositionGone, PositionUnknown, Retryable.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            news, window = self._news, self._end
            if window is not None and window.covers(position):
                found = window.after(position)
            else:
                with _kafka():
                    found = await self._from_past(position)
            left = deadline - loop.time()
            if left <= 0 or any(found.records.values()) or found.reached != position:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await news.wait()

    async def _from_past(self, position: Mapping[int, int]) -> Ready:
        source = await self._past(position)
        async with source.lock:
            source.used_at = time.monotonic()
            window = source.window
            if window is None or not window.covers(position):
                await self._check(source, position)
                window = source.begin_at(position)
            found = window.after(position)
            if any(found.records.values()):
                return found
            try:
                return await self._read_on(source, window, position)
            except BaseException:
                # Cut off in the middle: what was consumed may not be in the window.
                source.window = None
                raise

    async def _read_on(self, source: _Source, window: Window, position: Mapping[int, int]) -> Ready:
        """Read until there are records, or up to the end as it is now."""
        end = (await source.span(tuple(position))).end
        source.wake()
        try:
            async with asyncio.timeout(READ_S):
                while any(window.high[each] < end[each] for each in position):
                    await source.take(window, _PAST_WAIT_MS)
                    found = window.after(position)
                    if any(found.records.values()):
                        return found
        except OffsetOutOfRangeError:
            await self._check(source, position)
            raise
        finally:
            source.rest()
        return window.after(position)

    async def _check(self, source: _Source, position: Mapping[int, int]) -> None:
        span = await source.span(tuple(position))
        if any(at > span.end[each] for each, at in position.items()):
            raise PositionUnknown("the position lies behind the end")
        if any(at < span.begin[each] for each, at in position.items()):
            raise PositionGone({each: max(at, span.begin[each]) for each, at in position.items()})

    async def _past(self, position: Mapping[int, int] | None = None) -> _Source:
        """A source that already stands at `position`, or the one that was used longest ago."""
        for source in self._pasts:
            if position is None or (source.window is not None and source.window.covers(position)):
                return source
        async with self._opening:
            if len(self._pasts) < PASTS_MAX and not any(s.window is None for s in self._pasts):
                source = _Source(self._client, self.topic, _PAST_WAIT_MS)
                try:
                    await source.start()
                except BaseException:
                    await source.close()
                    raise
                self._pasts.append(source)
        free = [source for source in self._pasts if not source.lock.locked()] or self._pasts
        return min(free, key=lambda source: source.used_at)

    async def _follow(self) -> None:
        while True:
            source = _Source(self._client, self.topic, TAIL_WAIT_MS)
            try:
                await source.start()
                window = source.begin_at((await source.span(self.partitions)).end)
                self._end = window
                self._tell()
                while True:
                    if await source.take(window, 2 * TAIL_WAIT_MS):
                        self._tell()
            except (KafkaError, TimeoutError) as error:
                _log.warning("end lost", topic=self.topic, error_type=type(error).__name__)
            except Exception as error:
                _log.error("end lost", topic=self.topic, exc_info=error)
            finally:
                self._end = None
                await source.close()
            await asyncio.sleep(_RETRY_S)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


@contextlib.contextmanager
def _kafka() -> Iterator[None]:
    """Kafka's faults as Retryable."""
    try:
        yield
    except TimeoutError as error:
        raise Retryable("Kafka did not answer in time") from error
    except KafkaError as error:
        raise Retryable(f"Kafka: {type(error).__name__}") from error
