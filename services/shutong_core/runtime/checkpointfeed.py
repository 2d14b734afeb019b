"""Follows topic `checkpoints` from near its end, for whoever must know the newest of each tree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_core.audit.checkpoint import TreeName
from shutong_core.audit.treeheads import TreeHead, TreeHeads
from shutong_core.runtime.consumers import reading_committed

RETRY_S = 0.5
#: Records to look back over for a first checkpoint of every tree; then so many times as many.
LOOK_BACK = 2_000
_FURTHER = 16
_ANSWER_S = 10.0
_log = structlog.stdlib.get_logger(__name__)


class CheckpointFeed:
    """The newest checkpoints, kept up to date in the background. `start`, then `close`."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        cluster: str,
        publics: Callable[[], Iterable[bytes]],
        trees: Callable[[], Iterable[TreeName]],
    ) -> None:
        """`publics`: trusted auditor keys now; `trees`: those that are looked for at the start."""
        self._client = client
        self._place = TopicPartition(topic, 0)
        self._cluster = cluster
        self._publics = publics
        self._trees = trees
        self._heads = TreeHeads(cluster, publics)
        self._next: int | None = None
        self._read = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._told: set[str] = set()
        self.problem: str | None = "topic checkpoints is being read"

    def start(self) -> None:
        """Begin to read; returns at once."""
        self._task = asyncio.create_task(self._run(), name="checkpoint feed")

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether the topic was read to what was its end."""
        return self._read.is_set()

    async def wait_read(self) -> None:
        """Until the topic was read to what was its end."""
        await self._read.wait()

    def newest(self, tree: TreeName) -> TreeHead | None:
        """The tree's newest checkpoint that counts."""
        return self._heads.newest(tree)

    def fault(self, tree: TreeName) -> str | None:
        """What signed checkpoints of the tree say against each other; None if nothing."""
        return self._heads.fault(tree)

    @property
    def refused(self) -> int:
        """Records read that are no checkpoint of this bus by a trusted key."""
        return self._heads.refused

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, TimeoutError) as error:
                self.problem = f"topic checkpoints cannot be read: {type(error).__name__}"
            except Exception as error:
                self.problem = f"topic checkpoints cannot be read: {type(error).__name__}"
                _log.exception("checkpoints cannot be read", exc_info=error)
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        async with reading_committed(self._client, _ANSWER_S, fetch_max_wait_ms=200) as consumer:
            consumer.assign([self._place])
            if self._next is None:
                await self._begin(consumer)
            else:
                # Cut meanwhile: what was known stays known, or a cut would make one forget.
                first = (await consumer.beginning_offsets([self._place]))[self._place]
                self._next = max(self._next, first)
            consumer.seek(self._place, self._next or 0)
            self._read.set()
            self.problem = None
            while True:
                await self._take(consumer, self._heads)

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        """Read far enough back to know every tree there is."""
        first = (await consumer.beginning_offsets([self._place]))[self._place]
        end = (await consumer.end_offsets([self._place]))[self._place]
        back = LOOK_BACK
        while True:
            start = max(first, end - back)
            heads = TreeHeads(self._cluster, self._publics)
            consumer.seek(self._place, start)
            while (self._next if self._next is not None else start) < end:
                await self._take(consumer, heads)
            self._next = self._next if self._next is not None else start
            if start == first or all(heads.newest(tree) for tree in self._trees()):
                self._heads = heads
                return
            self._next, back = None, back * _FURTHER

    async def _take(self, consumer: AIOKafkaConsumer, heads: TreeHeads) -> None:
        found = await consumer.getmany(timeout_ms=200, max_records=1_000)
        for records in found.values():
            for record in records:
                heads.add(record.key, record.value, record.timestamp)
        self._next = await consumer.position(self._place)
        self._tell(heads)

    def _tell(self, heads: TreeHeads) -> None:
        for tree in heads.heads:
            fault = heads.fault(tree)
            if fault is not None and fault not in self._told and len(self._told) < LOOK_BACK:
                self._told.add(fault)
                _log.error(
                    "signed checkpoints contradict each other", name=tree.origin, problem=fault
                )
