"""Follows `audit` and `access` into their trees, and has the trees signed when it is time.

One task does both in turn, so that no tree grows while it is being signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_auditor.growth import Floor, Halted, TreeGrowth
from shutong_auditor.signing import CheckpointSigner
from shutong_core.audit.checkpoint import Checkpoint
from shutong_core.domain.errors import Retryable
from shutong_core.runtime.consumers import reading_committed

RETRY_S = 1.0
_ANSWER_S = 15.0
_POLL_MS = 200
_FETCH_BYTES_MAX = 4 * 1024 * 1024
_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Published:
    """When a tree was published last, how large it was then, when that was tried last."""

    size: int = -1
    at: float = float("-inf")
    tried: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Times:
    """How often a growing tree is signed, how often one that stands still."""

    every_s: float
    idle_s: float


@dataclass(slots=True)
class TreeStates:
    """What the trees do, for readiness and metrics."""

    sizes: dict[str, int] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)  # offsets not read yet
    published_at: dict[str, float] = field(default_factory=dict)  # event loop's clock
    problems: dict[str, str] = field(default_factory=dict)


class TreeTail:
    """Grows and publishes all trees until stopped."""

    def __init__(
        self,
        client: Mapping[str, Any],
        growths: Mapping[tuple[str, int], TreeGrowth],
        signer: CheckpointSigner,
        floor: Callable[[TreeGrowth], Floor | None],
        times: Times,
    ) -> None:
        """`growths` by Kafka topic and partition; `floor`: the newest checkpoint published."""
        self._client = client
        self._growths = {TopicPartition(*place): each for place, each in growths.items()}
        self._signer = signer
        self._floor = floor
        self._times = times
        self._published = {place: _Published() for place in self._growths}
        self._begun: set[TopicPartition] = set()
        self._task: asyncio.Task[None] | None = None
        self.states = TreeStates()
        self.problem: str | None = "audit is being read"

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run(), name="tree tail")

    async def stop(self) -> None:
        """Stop between two steps of publishing, wherever that is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ended(self) -> BaseException | None:
        """Why it ended by itself, which it never should; None while it runs."""
        if self._task is None or not self._task.done():
            return None
        return self._task.exception() or RuntimeError("ended without a reason")

    @property
    def published(self) -> dict[str, int]:
        """Leaves of the checkpoint that this process published last, by tree."""
        return {
            self._growths[place].name: last.size
            for place, last in self._published.items()
            if last.size >= 0
        }

    def all_published(self) -> bool:
        """Whether every tree that is not halted was signed by this process."""
        published = self.published
        return all(
            growth.halted is not None or growth.name in published
            for growth in self._growths.values()
        )

    @property
    def halted(self) -> int:
        """Trees that are not signed any more."""
        return sum(growth.halted is not None for growth in self._growths.values())

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, TimeoutError, Retryable) as error:
                self.problem = f"Kafka: {type(error).__name__}"
                _log.warning("audit cannot be read", error_type=type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        async with reading_committed(
            self._client,
            _ANSWER_S,
            max_partition_fetch_bytes=_FETCH_BYTES_MAX,
            fetch_max_wait_ms=_POLL_MS,
        ) as consumer:
            async with asyncio.timeout(_ANSWER_S):
                await self._begin(consumer)
            self.problem = None
            while True:
                await self._take(consumer)
                await self._publish_due()

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        places = list(self._growths)
        consumer.assign(places)
        first = await consumer.beginning_offsets(places)
        end = await consumer.end_offsets(places)
        for place, growth in self._growths.items():
            if growth.halted is None:
                self._guarded(growth, partial(self._place, place, first[place], end[place]))
            if growth.halted is not None:
                consumer.pause(place)
                consumer.seek(place, end[place])
            else:
                consumer.seek(place, growth.next_offset)

    def _place(self, place: TopicPartition, first: int, end: int) -> None:
        growth = self._growths[place]
        if place in self._begun:
            growth.resume(first, end)
        else:
            growth.begin(first, end, self._floor(growth))
            self._begun.add(place)

    async def _take(self, consumer: AIOKafkaConsumer) -> None:
        found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=500)
        for place, records in found.items():
            growth = self._growths[place]
            for record in records:
                if growth.halted is not None:
                    break
                self._guarded(growth, partial(growth.take, record.offset, record.key, record.value))
                await asyncio.sleep(0)  # a block costs milliseconds, and health must answer
        for place, growth in self._growths.items():
            if growth.halted is not None:
                consumer.pause(place)
                continue
            position = await consumer.position(place)
            self._guarded(growth, partial(growth.passed, position))
            self.states.sizes[growth.name] = growth.store.size
            end = consumer.last_stable_offset(place)
            self.states.behind[growth.name] = max(0, (end or 0) - position)

    def _guarded(self, growth: TreeGrowth, step: Callable[[], None]) -> None:
        try:
            step()
        except Halted as error:
            self.states.problems[growth.name] = str(error)
            _log.error("tree halted", name=growth.name, problem=str(error))

    async def _publish_due(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [
            place
            for place, growth in self._growths.items()
            if growth.halted is None and growth.caught_up and self._due(place, growth, now)
        ]
        for place in due:
            await self._publish(place, self._growths[place], now)

    def _due(self, place: TopicPartition, growth: TreeGrowth, now: float) -> bool:
        last = self._published[place]
        if now - last.tried < self._times.every_s:
            return False
        return growth.store.size != last.size or now - last.at >= self._times.idle_s

    async def _publish(self, place: TopicPartition, growth: TreeGrowth, now: float) -> None:
        last = self._published[place]
        last.tried = now
        try:
            checkpoint: Checkpoint = await self._signer.publish(growth)
        except Halted as error:
            self.states.problems[growth.name] = str(error)
            _log.error("tree halted", name=growth.name, problem=str(error))
        except Retryable as error:
            self.states.problems[growth.name] = f"{growth.name}: {error}"
            _log.warning("checkpoint not published", name=growth.name, error=str(error))
        else:
            self.states.problems.pop(growth.name, None)
            last.size, last.at = checkpoint.size, now
            self.states.published_at[growth.name] = now
