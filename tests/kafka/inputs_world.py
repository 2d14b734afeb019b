"""Inputs of one lane on a real Kafka, with who writes them and a reader to compare with."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shutong_broker.policy.model import InboundRecord
from shutong_broker.source import InboundSource
from shutong_core.wire.topics import Topics

LANE = 1


class InputsWorld:
    """Topics `inbound.<dataset>` under a prefix of their own; lane 1 of 2."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.client = {"bootstrap_servers": bootstrap}
        self.topics = Topics(prefix)

    async def create(self, *datasets: str) -> None:
        """The inbound topics, as the bus makes them."""
        admin = AIOKafkaAdminClient(**self.client)
        await admin.start()
        try:
            configs = {"message.timestamp.type": "LogAppendTime"}
            await admin.create_topics(
                [NewTopic(self.topics.inbound(d), 2, 1, topic_configs=configs) for d in datasets]
            )
        finally:
            await admin.close()

    @asynccontextmanager
    async def writer(self, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
        """A producer."""
        producer = AIOKafkaProducer(**self.client, **options)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def write(self, producer: AIOKafkaProducer, dataset: str, *values: str) -> None:
        """Records of one dataset in the lane, acknowledged; key and header say the same."""
        topic = self.topics.inbound(dataset)
        sent = [
            await producer.send(topic, v.encode(), v.encode(), LANE, headers=[("ce_id", b"1")])
            for v in values
        ]
        await producer.flush()
        await asyncio.gather(*sent)

    @asynccontextmanager
    async def source(self, **positions: int) -> AsyncIterator[InboundSource]:
        """The source under test, reading `positions` (dashes in names as underscores)."""
        source = InboundSource(self.client, self.topics, self.topics.lanes_group, LANE)
        try:
            await source.start()
            if positions:
                source.read_from({name.replace("_", "-"): at for name, at in positions.items()})
            yield source
        finally:
            await source.close()

    async def as_consumed(self, dataset: str, offset: int) -> list[InboundRecord]:
        """What aiokafka's own consumer reads from `offset` to the end."""
        reader = AIOKafkaConsumer(
            **self.client, isolation_level="read_committed", fetch_max_wait_ms=50
        )
        await reader.start()
        try:
            tp = TopicPartition(self.topics.inbound(dataset), LANE)
            end = (await reader.end_offsets([tp]))[tp]
            reader.assign([tp])
            reader.seek(tp, offset)
            found: list[InboundRecord] = []
            async with asyncio.timeout(20):
                while await reader.position(tp) < end:
                    for r in (await reader.getmany(tp, timeout_ms=100)).get(tp, []):
                        headers = tuple(r.headers)
                        found.append(
                            InboundRecord(
                                dataset, LANE, r.offset, r.key, r.value, headers, r.timestamp
                            )
                        )
            return found
        finally:
            await reader.stop()


async def read(
    source: InboundSource, count: int, records_max: int = 500, seconds: float = 15
) -> dict[str, list[InboundRecord]]:
    """Poll until `count` records came."""
    found: dict[str, list[InboundRecord]] = defaultdict(list)
    async with asyncio.timeout(seconds):
        while sum(map(len, found.values())) < count:
            for each in await source.poll(100, records_max):
                found[each.dataset] += each.records
    return found


def values(records: Sequence[InboundRecord]) -> list[str]:
    """Their values as text."""
    return [(record.value or b"").decode() for record in records]
