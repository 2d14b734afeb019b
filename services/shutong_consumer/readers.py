"""The readers of all delivery topics in use: one each, a bounded number, idle ones closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shutong_consumer.refused import busy
from shutong_consumer.topicreader import TopicReader

#: Topics read at once: at most 12 MiB and three consumers each.
READERS_MAX = 100
IDLE_S = 60.0


@dataclass(eq=False)
class _Entry:
    reader: TopicReader
    users: int = 0
    used_at: float = field(default_factory=time.monotonic)


class Readers:
    """Lends readers by topic; use from one event loop."""

    def __init__(
        self, client: Mapping[str, Any], readers_max: int = READERS_MAX, idle_s: float = IDLE_S
    ) -> None:
        self._client = client
        self._readers_max = readers_max
        self._idle_s = idle_s
        self._entries: dict[str, _Entry] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to close idle readers."""
        self._task = asyncio.create_task(self._sweep(), name="idle readers")

    async def close(self) -> None:
        """Close all; nothing may be lent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        entries, self._entries = self._entries, {}
        await asyncio.gather(*(entry.reader.close() for entry in entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    @contextlib.asynccontextmanager
    async def lend(self, topic: str, partitions: tuple[int, ...]) -> AsyncIterator[TopicReader]:
        """The topic's reader. Raises RequestRefused (TOO_MANY) if all are in use."""
        entry = self._entries.get(topic)
        if entry is None:
            await self._make_room()
            # Another request may have opened it while room was made.
            entry = self._entries.get(topic)
        if entry is None:
            entry = self._entries[topic] = _Entry(TopicReader(self._client, topic, partitions))
            entry.reader.start()
        entry.users += 1
        try:
            yield entry.reader
        finally:
            entry.users -= 1
            entry.used_at = time.monotonic()

    async def _make_room(self) -> None:
        if len(self._entries) < self._readers_max:
            return
        idle = [(entry.used_at, topic) for topic, entry in self._entries.items() if not entry.users]
        if not idle:
            raise busy("同时读取的许可已满，请稍后再试", "too many grants are being read at once")
        await self._entries.pop(min(idle)[1]).reader.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(5.0, self._idle_s))
            old = time.monotonic() - self._idle_s
            for topic, entry in list(self._entries.items()):
                if not entry.users and entry.used_at < old:
                    del self._entries[topic]
                    await entry.reader.close()
