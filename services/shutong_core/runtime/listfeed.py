"""The list in force, followed from Kafka, with Kafka's word on how fresh that knowledge is.

A revocation must close at a process that was paused or cut off. So whatever lets data out asks
`holds(number)`: did Kafka say, at most three seconds ago by the monotonic clock and counted from
when it was *asked*, that this list stands at the end of control.lists?
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.changes import Assembler, Verify
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.domain.grants import Grant
from shutong_core.domain.version import ListVersion
from shutong_core.wire.schemarecords import Registry, decode_registration
from shutong_core.wire.schemas import Schema
from shutong_core.wire.topics import Topics

LEASE_S_MAX = 3.0
#: How long a fetch waits for news; the word is renewed at least this often.
POLL_MS = 300
ASK_S_MAX = 2.0
_RETRY_S = 0.3

_log = structlog.get_logger("shutong.listfeed")


class ListFeed:
    """Follows control.schemas and control.lists under read_committed, from the beginning."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: Topics,
        verify: Verify,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._lists = TopicPartition(topics.lists, 0)
        self._schemas = TopicPartition(topics.schemas, 0)
        self._assembler = Assembler(verify)
        self._clock = clock
        self._version: ListVersion | None = None
        self._word: dict[int, float] = {}  # list number -> when the asking began
        self._next: dict[TopicPartition, int] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.registry = Registry()
        self.problem: str | None = None

    @property
    def version(self) -> ListVersion | None:
        """The newest good list whose schemas are all known."""
        return self._version

    @property
    def schemas(self) -> Mapping[int, Schema]:
        """Every registered schema by id."""
        return self.registry.schemas

    @property
    def word_age_s(self) -> float | None:
        """Age of Kafka's last word on the list held; None if there was none."""
        if self._version is None or self._version.number not in self._word:
            return None
        return self._clock() - self._word[self._version.number]

    def holds(self, number: int) -> bool:
        """Whether list `number` was, by Kafka's recent word, the newest."""
        asked = self._word.get(number)
        return asked is not None and self._clock() - asked <= LEASE_S_MAX

    @property
    def current(self) -> bool:
        """Whether a list is held and Kafka's word on it is recent."""
        return self._version is not None and self.holds(self._version.number)

    async def start(self) -> None:
        """Begin to follow; returns at once."""
        self._task = asyncio.create_task(self._follow(), name="list feed")

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def wait_change(self, after: int, timeout_s: float) -> ListVersion | None:
        """The list once its number is above `after`; None if that does not happen in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._version is None or self._version.number <= after:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return None
        return self._version

    async def caught_up(self, timeout_s: float) -> None:
        """Wait until Kafka confirms that everything written so far was read.

        Raises Retryable if it does not in time.
        """
        begun = self._clock()
        try:
            async with asyncio.timeout(timeout_s):
                while self._word.get(-1, -1.0) < begun:  # noqa: ASYNC110 - a few polls
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise Retryable("Kafka did not confirm the end of control.lists in time") from error

    async def _follow(self) -> None:
        while True:
            try:
                await self._tenure()
            except (KafkaError, TimeoutError) as error:
                self.problem = f"Kafka: {type(error).__name__}"
            except Exception as error:  # a fault here must show, never end the feed silently
                self.problem = f"list feed failed: {type(error).__name__}"
                _log.error("list feed failed", exc_info=error)
            await asyncio.sleep(_RETRY_S)

    async def _tenure(self) -> None:
        """Follow by one consumer until it fails; resumes after what was already taken in."""
        consumer = AIOKafkaConsumer(
            **self._client,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="none",
            check_crcs=True,
            fetch_max_wait_ms=POLL_MS,
        )
        await asyncio.wait_for(consumer.start(), 10)
        try:
            consumer.assign([self._lists, self._schemas])
            consumer.seek(self._lists, self._next.get(self._lists, 0))
            consumer.seek(self._schemas, self._next.get(self._schemas, 0))
            while True:
                await self._ask(consumer)
                await self._take(consumer, POLL_MS)
        finally:
            await consumer.stop()

    async def _ask(self, consumer: AIOKafkaConsumer) -> None:
        """Read to what Kafka says is the end now; note that word if the list held is the newest."""
        asked = self._clock()
        async with asyncio.timeout(ASK_S_MAX):
            ends = await consumer.end_offsets([self._lists, self._schemas])
            for tp in (self._schemas, self._lists):
                while await consumer.position(tp) < ends[tp]:
                    await self._take(consumer, 50)
        self._word[-1] = asked
        newest = self._assembler.version
        if newest is not None and newest is not self._version:
            self._offer(newest)
        if newest is not None and newest is self._version:
            self._word[newest.number] = asked
            self._word.pop(newest.number - 2, None)
            if self.problem is not None and self.problem.startswith("Kafka"):
                self.problem = None

    async def _take(self, consumer: AIOKafkaConsumer, wait_ms: int) -> None:
        found = await consumer.getmany(timeout_ms=wait_ms)
        for record in found.get(self._schemas, ()):
            self._next[self._schemas] = record.offset + 1
            self._take_schema(record)
        for record in found.get(self._lists, ()):
            self._next[self._lists] = record.offset + 1
            self._take_change(record)

    def _take_schema(self, record: Any) -> None:
        try:
            self.registry.add(decode_registration(record.key, record.value))
        except Rejected as error:
            self._refuse("schema_refused", record.offset, error)

    def _take_change(self, record: Any) -> None:
        try:
            version = self._assembler.add(record.value or b"")
        except Rejected as error:
            self._refuse("list_refused", record.offset, error)
            return
        if version is not None:
            self._offer(version)

    def _refuse(self, event: str, offset: int, error: Rejected) -> None:
        # The last good list stays in force; somebody has to look.
        self.problem = f"{event} at offset {offset}: {error}"
        _log.error(event, offset=offset, error=str(error))

    def _offer(self, version: ListVersion) -> None:
        """Put `version` in force if every schema it names is known, else wait for them."""
        unknown = _schema_ids(version) - self.registry.schemas.keys()
        if unknown:
            self.problem = f"list {version.number} waits for schemas {sorted(unknown)[:5]}"
            return
        if self.problem is not None and " waits for schemas " in self.problem:
            self.problem = None
        self._version = version
        self._changed.set()
        _log.info(
            "list in force",
            list_number=version.number,
            list_digest=version.digest.hex(),
        )


def _schema_ids(version: ListVersion) -> set[int]:
    ids: set[int] = set()
    for row in version.rows.values():
        if isinstance(row, Dataset):
            ids.update(ref.id for ref in row.schemas)
        elif isinstance(row, Grant):
            ids.update(each.delivered_id for each in row.projections)
    return ids
