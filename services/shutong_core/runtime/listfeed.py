"""Follows control.lists and control.schemas, and holds the lease that lets data out.

Rule of the lease: it rests on an answer from Kafka that the end of control.lists (as read_committed
readers see it, transaction markers included) was where this process stands now or before, and it
counts from the moment that question was *sent*. So neither a slow answer, nor a paused process, nor
a cut connection makes it last longer than `LEASE_S`.

While a newer list is being taken up, in slices between which everything else runs, the word on the
older one is not renewed: it goes on for what is left of `LEASE_S`, and no longer. Unless the newer
one only adds to it: by the older nothing is let out then that the newer forbids, so it may be used
until the newer is taken up, at most for `TAKING_UP_S_MAX` (ADR 0028).

Rule of recovery: while what was read cannot be used, and when the trusted keys change, both topics
are read again from their beginning into a fresh view, which takes over only if it leads to where
this process has been before: the feed never goes back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from shutong_core.domain.errors import Retryable
from shutong_core.domain.steps import Steps
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.consumers import committed_consumer, stop_consumer
from shutong_core.runtime.listlease import LEASE_S, Lease
from shutong_core.runtime.listview import ListView, Verify
from shutong_core.runtime.slices import BRISK, GENTLE, in_slices
from shutong_core.wire.schemarecords import Registry
from shutong_core.wire.schemas import Schema
from shutong_core.wire.topics import Topics

#: Between two questions for the end; a new record ends the wait at once.
ASK_EVERY_MS = 250
#: The question waits behind a long fetch on the same connection, so fetches are short.
FETCH_WAIT_MS = 100
ANSWER_S = 2.5
CATCH_UP_S = 10.0
RETRY_S = 0.2
#: Schemas taken before the clock is looked at: some ten milliseconds.
SCHEMAS_BETWEEN = 64
#: Between two readings from the beginning; doubled while they do not help.
REREAD_S_MIN, REREAD_S_MAX = 2.0, 30.0
_log = structlog.stdlib.get_logger(__name__)


class ListFeed:
    """The list in force in this process. Use from one event loop; `start`, then `stop`."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: Topics,
        verify: Verify,
        monotonic: Callable[[], float] = time.monotonic,
        trust_mark: Callable[[], object] = lambda: None,
    ) -> None:
        """`trust_mark` gives another value once the keys that `verify` trusts have changed."""
        self._client = dict(client)
        self._lists = TopicPartition(topics.lists, 0)
        self._schemas = TopicPartition(topics.schemas, 0)
        self._verify = verify
        self._monotonic = monotonic
        self._trust_mark = trust_mark
        self._view = ListView(verify)
        # Takes the records while the topics are read again; then takes over, or is dropped.
        self._fresh: ListView | None = None
        self._reread_at, self._reread_s = 0.0, REREAD_S_MIN
        self._repeats_known, self._trust_known = 0, trust_mark()
        self._next = {self._lists: 0, self._schemas: 0}
        # When the question was sent whose ends were all read up to.
        self._read_to_end: float | None = None
        self._lease = Lease()
        self._asked = float("-inf")
        self._trouble: str | None = "nothing read yet"
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    @property
    def version(self) -> ListVersion | None:
        """The list in force; None before the first."""
        return self._view.version

    @property
    def schemas(self) -> Mapping[int, Schema]:
        """Registered schemas by id."""
        return self._view.schemas

    @property
    def registry(self) -> Registry:
        """All registrations, with their subjects."""
        return self._view.registry

    @property
    def problem(self) -> str | None:
        """What is wrong with the feed or with what it read, for readiness and alarms."""
        return self._trouble or self._view.problem

    @property
    def refused(self) -> int:
        """How many records of both topics were refused so far."""
        return self._view.refused

    def lease_age(self, now_monotonic: float) -> float:
        """Seconds since the question was sent on which the lease rests; infinite without one."""
        return self._lease.age(now_monotonic)

    def lease_ok(self, now_monotonic: float) -> bool:
        """True if data may be let out under `version` now. Compare with `time.monotonic()`."""
        return (
            self._view.version is not None
            and self._view.usable
            and 0 <= self.lease_age(now_monotonic) <= LEASE_S
        )

    def holds(self, number: int) -> bool:
        """True if Kafka's last word that list `number` was the newest is recent enough."""
        return self._lease.holds(number, self._monotonic())

    @property
    def current(self) -> bool:
        """True if data may be let out under `version` now."""
        return self.lease_ok(self._monotonic())

    @property
    def doubted(self) -> bool:
        """True if only a next list under a key of control that is not trusted is in the way."""
        return self._view.doubted and self.word_age_s <= LEASE_S

    @property
    def word_age_s(self) -> float:
        """Seconds since the question was sent on which the lease rests; infinite without one."""
        return self.lease_age(self._monotonic())

    async def caught_up(self, timeout_s: float = 30) -> None:
        """Wait until everything that is in the topics at the call was read.

        Raises Retryable with the reason if that does not happen in time.
        """
        begun = self._monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                async with self._changed:
                    await self._changed.wait_for(
                        lambda: self._read_to_end is not None and self._read_to_end >= begun
                    )
        except TimeoutError:
            raise Retryable(f"control.lists cannot be read to its end: {self.problem}") from None

    async def start(self) -> None:
        """Begin to follow the topics; they need not exist yet."""
        self._task = asyncio.create_task(self._run(), name="list feed")

    async def stop(self) -> None:
        """Stop following; the lease ends with it."""
        self._lease.lose()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def wait_change(self, after: int = 0) -> ListVersion:
        """The list in force once its number is above `after`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._number() > after)
        version = self._view.version
        if version is None:
            raise RuntimeError("a list number without a list")
        return version

    async def wait_ready(self, timeout_s: float = 30) -> ListVersion:
        """The list in force once there is one under lease. Raises Retryable with the reason."""
        try:
            async with asyncio.timeout(timeout_s):
                async with self._changed:
                    await self._changed.wait_for(lambda: self.lease_ok(self._monotonic()))
        except TimeoutError:
            raise Retryable(
                f"没有可用的清单：{self.problem}。"
                f" No responsibility list under lease after {timeout_s:g} s: {self.problem}"
            ) from None
        return await self.wait_change()

    def _number(self) -> int:
        return self._view.version.number if self._view.version else 0

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, TimeoutError, Retryable) as error:
                self._trouble = f"Kafka: {str(error) or type(error).__name__}"
                _log.warning("list feed interrupted", error_type=type(error).__name__)
            except Exception as error:  # an unknown fault ends the lease, never the trying
                self._lease.lose()
                self._trouble = f"list feed failed: {type(error).__name__}"
                _log.error("list feed failed", exc_info=error)
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        """Follow with one client until it fails."""
        consumer = committed_consumer(
            self._client,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=int(ANSWER_S * 1000),
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await consumer.start()
            await self._require_topics(consumer)
            consumer.assign([self._lists, self._schemas])
            for partition, offset in self._next.items():
                consumer.seek(partition, offset)
            while True:
                await self._round(consumer)
        finally:
            await stop_consumer(consumer)

    async def _require_topics(self, consumer: AIOKafkaConsumer) -> None:
        async with asyncio.timeout(ANSWER_S):
            there = await consumer.topics()
        for partition in self._next:
            if partition.topic not in there:
                raise Retryable(f"topic {partition.topic} does not exist yet")

    async def _round(self, consumer: AIOKafkaConsumer) -> None:
        """Ask for the ends, read up to them, renew the lease, wait for news."""
        sent = self._asked = self._monotonic()
        async with asyncio.timeout(ANSWER_S):
            ends = await consumer.end_offsets([self._lists, self._schemas])
        shorter = [each.topic for each, end in ends.items() if self._next[each] > end]
        if shorter:
            # Cut or made anew: what was read is no longer what the others read.
            self._lease.lose()
            self._view.block(f"{' and '.join(shorter)} is shorter than what was read of it")
            _log.error("topic is shorter than what was read of it", topics=shorter)
            self._begin_again(consumer)
        elif self._fresh is None and self._must_reread():
            self._begin_again(consumer)
        await self._read_to(consumer, ends)
        self._take_over()
        await self._settle()
        self._read_to_end = sent
        self._renew(sent)
        self._trouble = None
        await self._notify()
        await self._read(consumer, ASK_EVERY_MS)
        # Not only after the next question: a revocation should not wait for it.
        await self._settle()

    def _must_reread(self) -> bool:
        mark, now = self._trust_mark(), self._monotonic()
        if mark != self._trust_known:
            self._trust_known, self._reread_s = mark, REREAD_S_MIN
            return True
        # An old list written again is noise, or the sign of a topic that was made anew.
        wanted = self._view.blocked or self._view.repeats != self._repeats_known
        return wanted and now >= self._reread_at

    def _begin_again(self, consumer: AIOKafkaConsumer) -> None:
        self._fresh = ListView(self._verify, self._view)
        for partition in self._next:
            self._next[partition] = 0
            consumer.seek(partition, 0)

    def _take_over(self) -> None:
        """Let the fresh view, read to the end, replace the one in use, unless it goes back."""
        fresh, self._fresh = self._fresh, None
        if fresh is None:
            return
        fresh.settle()
        held = fresh.version.number if fresh.version else 0
        if fresh.gone_back is not None or held < self._number():
            self._view.block(fresh.gone_back or fresh.problem or "the list held is not usable")
        else:
            self._view = fresh
        if self._view.blocked:
            _log.error("control.lists read again, still not usable", problem=self._view.problem)
        else:
            _log.info("control.lists read again", list_number=self._number())
        self._repeats_known = self._view.repeats
        self._reread_at = self._monotonic() + self._reread_s
        wait = 2 * self._reread_s if self._view.blocked else REREAD_S_MIN
        self._reread_s = min(wait, REREAD_S_MAX)

    def _renew(self, sent: float) -> None:
        """Kafka said to a question of `sent` that control.lists ends where it was read to."""
        self._lease.heard(sent)
        if not self._view.blocked:
            newest = self._view.newest[0] if self._view.newest else 0
            self._lease.renew(sent, self._number(), newest, self._view.adds_since)

    async def _read_to(self, consumer: AIOKafkaConsumer, ends: Mapping[Any, int]) -> None:
        """Read up to `ends`. Raises TimeoutError if nothing comes for CATCH_UP_S."""
        # Lists first: whether one only adds should be known before its schemas are read.
        for order in ((self._lists,), (self._lists, self._schemas)):
            patience = self._monotonic() + CATCH_UP_S
            while any(self._next[partition] < ends[partition] for partition in order):
                before = dict(self._next)
                await self._read(consumer, FETCH_WAIT_MS, *order)
                if self._next != before:
                    patience = self._monotonic() + CATCH_UP_S
                elif self._monotonic() > patience:
                    raise TimeoutError

    async def _read(
        self, consumer: AIOKafkaConsumer, wait_ms: int, *partitions: TopicPartition
    ) -> None:
        """Take what comes within `wait_ms`, of all partitions if none is named.

        Only the fetch has a limit of time, not the taking.
        """
        async with asyncio.timeout(ANSWER_S):
            found = await consumer.getmany(*partitions, timeout_ms=wait_ms)
        await self._take_changes(consumer, found.get(self._lists, ()))
        if partitions != (self._lists,):
            await self._take_schemas(consumer, found.get(self._schemas, ()))
            await self._pass(consumer, self._schemas)

    async def _pass(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> None:
        """Also past markers and aborted records, which getmany skips."""
        async with asyncio.timeout(ANSWER_S):
            self._next[partition] = await consumer.position(partition)

    async def _take_schemas(
        self, consumer: AIOKafkaConsumer, records: Sequence[ConsumerRecord]
    ) -> None:
        view = self._fresh or self._view
        for start in range(0, len(records), SCHEMAS_BETWEEN):
            some = records[start : start + SCHEMAS_BETWEEN]
            await in_slices(_adding_schemas(view, some), pace=GENTLE)
            self._next[self._schemas] = some[-1].offset + 1
            await self._keep_word(consumer, read=True)

    async def _take_changes(
        self, consumer: AIOKafkaConsumer, records: Sequence[ConsumerRecord]
    ) -> None:
        view = self._fresh or self._view
        for record in records:
            refused = view.refused
            # The list in force may be used meanwhile, if this one only adds: no haste then.
            pace = GENTLE if view.additions_missing else BRISK
            await in_slices(view.adding_change(record.value), pace=pace)
            self._next[self._lists] = record.offset + 1
            if view.refused > refused and self._fresh is None:
                _log.error(
                    "record of control.lists refused", offset=record.offset, problem=view.problem
                )
            await self._keep_word(consumer, read=False)
        await self._pass(consumer, self._lists)

    async def _keep_word(self, consumer: AIOKafkaConsumer, *, read: bool) -> None:
        """Renew the words while much is read, unless Kafka was asked just now.

        Only if nothing of control.lists is unread but the rest of a change that only adds: so many
        records and the marker of their transaction. `read`: what came meanwhile is read first.
        """
        sent = self._monotonic()
        if self._fresh is not None or sent - self._asked <= ASK_EVERY_MS / 1000:
            return
        self._asked = sent
        async with asyncio.timeout(ANSWER_S):
            end = (await consumer.end_offsets([self._lists]))[self._lists]
        if read and self._next[self._lists] < end:
            await self._read(consumer, FETCH_WAIT_MS, self._lists)
        missing = self._view.additions_missing
        if end == self._next[self._lists] + (missing and missing + 1):
            self._renew(sent)

    async def _settle(self) -> None:
        if self._view.settle():
            _log.info("list in force", list_number=self._number())
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _adding_schemas(view: ListView, records: Iterable[ConsumerRecord]) -> Steps[None]:
    for record in records:
        view.add_schema(record.key, record.value)
        yield
