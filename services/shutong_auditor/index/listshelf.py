"""The list versions that blocks name, a bounded number of them at hand, read again at need."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from shutong_core.domain.changes import Assembler, Verify
from shutong_core.domain.errors import Rejected
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.consumers import committed_consumer, stop_consumer

#: Versions at hand. Rows that did not change are shared, so one more costs its indexes only.
KEPT_MAX = 32
_START_S = 15.0
_POLL_MS = 200


class ListShelf:
    """Reads control.lists no further than a block needs; `close` it at the end."""

    def __init__(
        self, client: Mapping[str, Any], topic: str, verify: Verify, kept_max: int = KEPT_MAX
    ) -> None:
        self._client = client
        self._place = TopicPartition(topic, 0)
        self._verify = verify
        self._kept_max = kept_max
        self._assembler = Assembler(verify)
        self._kept: OrderedDict[int, ListVersion] = OrderedDict()
        self._consumer: AIOKafkaConsumer | None = None

    async def get(self, number: int, digest: bytes, within_s: float) -> ListVersion:
        """List `number`, which must have this digest.

        It may be read after the block that names it, so it is waited for. Raises Rejected if the
        topic does not have it in time, or has another one under that number; KafkaError.
        """
        version = self._kept.get(number)
        if version is None:
            version = await self._read_to(number, within_s)
        self._kept.move_to_end(number)
        if version.digest != digest:
            raise Rejected(f"a block names another list {number} than control.lists has")
        return version

    async def close(self) -> None:
        """Let go of Kafka."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)

    async def _read_to(self, number: int, within_s: float) -> ListVersion:
        consumer = await self._reader()
        held = self._assembler.version
        if held is not None and held.number >= number:
            # Put away since: a lane that was far behind names it.
            self._assembler = Assembler(self._verify)
            consumer.seek(self._place, 0)
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while number not in self._kept:
            if loop.time() > until:
                raise Rejected(f"a block names list {number}, which control.lists does not have")
            found = await consumer.getmany(self._place, timeout_ms=_POLL_MS, max_records=1)
            for record in found.get(self._place, ()):
                until = max(until, loop.time() + within_s)
                self._take(record.value or b"")
        return self._kept[number]

    def _take(self, value: bytes) -> None:
        try:
            version = self._assembler.add(value)
        except Rejected:
            return  # as every reader does; the list feed tells of it
        if version is not None:
            self._kept[version.number] = version
            if len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)

    async def _reader(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = committed_consumer(self._client, max_partition_fetch_bytes=2 * 1024 * 1024)
            async with asyncio.timeout(_START_S):
                await consumer.start()
            self._consumer = consumer
            consumer.assign([self._place])
            self._assembler = Assembler(self._verify)
            consumer.seek(self._place, 0)
        return self._consumer
