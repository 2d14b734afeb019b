"""Topics with sample blocks and events, and an auditor's node over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import audit_samples
from audit_samples import SampleLane
from shutong_auditor.treereader import TreeReader, tree_directory
from shutong_auditor.treetail import TreeTail
from shutong_core.audit.access import AccessChain, Act
from shutong_core.audit.checkpoint import TreeName
from shutong_core.audit.rotation import rotation_key
from shutong_core.audit.treeheads import TreeHeads
from shutong_core.runtime.cluster import bus_name
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import load_settings

LANES = 2


class AuditedBus:
    """Topics with sample blocks and events, and the auditor's node."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str, directory: Path) -> None:
        self.kafka, self.prefix, self.directory = kafka, prefix, directory
        self.lanes = [SampleLane(lane) for lane in range(LANES)]
        self.chain = AccessChain("test", "ab" * 16)
        self.cluster = ""
        self.node = self.new_node()
        self.topics = self.node.topics

    def new_node(self, **auditor: object) -> Node:
        given = {"http_port": 0, "checkpoint_every_s": 0.2, "checkpoint_idle_s": 1.0, **auditor}
        return Node(
            "auditor",
            load_settings(
                data_dir=self.directory,
                prefix=self.prefix,
                kafka={"bootstrap_servers": self.kafka.bootstrap_servers},
                auditor=given,
            ),
        )

    async def create(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = await bus_name(self.node.client, self.prefix)
        monkeypatch.setattr(audit_samples, "CLUSTER", self.cluster)
        topics = self.topics
        await self.make_topics(
            NewTopic(topics.audit, LANES, 1),
            NewTopic(topics.access, LANES, 1),
            NewTopic(topics.checkpoints, 1, 1),
            NewTopic(topics.receipts, 1, 1),
            NewTopic(topics.lists, 1, 1),
            NewTopic(topics.schemas, 1, 1),
        )

    async def make_topics(self, *wanted: NewTopic) -> None:
        async with self.admin() as admin:
            await admin.create_topics(list(wanted))

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(**self.node.client)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def send(self, *records: tuple[str, int, bytes | None, bytes | None]) -> None:
        producer = AIOKafkaProducer(**self.node.client, max_request_size=4_000_000)
        await producer.start()
        try:
            for topic, partition, key, value in records:
                await producer.send_and_wait(topic, value, key, partition)
        finally:
            await producer.stop()

    async def decide(self, blocks: int = 3) -> None:
        """Some more blocks on every lane."""
        for lane in self.lanes:
            for _ in range(blocks):
                block = lane.add_block()
                await self.send((self.topics.audit, lane.lane, block.header, block.body))

    async def act(self, partition: int = 0) -> bytes:
        encoded, self.chain = self.chain.next(Act(1, "org/sys", "test"), self.node.codec.encode)
        await self.send((self.topics.access, partition, b"p", encoded))
        return encoded

    def tree(self, topic: str, number: int) -> TreeName:
        return TreeName(self.cluster, topic, number)

    def reader(self, topic: str, number: int) -> TreeReader:
        return TreeReader(tree_directory(self.directory, topic, number))

    async def published(self) -> TreeHeads:
        """What topic checkpoints says."""
        heads = TreeHeads(self.cluster, self.node.keyring.publics("auditor"))
        for record in await self._checkpoints():
            heads.add(record.key, record.value, record.timestamp)
        return heads

    async def rotations(self) -> list[bytes]:
        """Rotation records in topic checkpoints."""
        key = rotation_key(self.cluster)
        return [record.value for record in await self._checkpoints() if record.key == key]

    async def _checkpoints(self) -> list:
        place = TopicPartition(self.topics.checkpoints, 0)
        consumer = AIOKafkaConsumer(**self.node.client, auto_offset_reset="none")
        await consumer.start()
        try:
            consumer.assign([place])
            consumer.seek(place, 0)
            found = []
            end = (await consumer.end_offsets([place]))[place]
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
            return found
        finally:
            await consumer.stop()


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def signed(tail: TreeTail, **sizes: int) -> bool:
    """Whether checkpoints of these sizes were published, by tree (`audit_0`)."""
    wanted = {name.replace("_", "/"): size for name, size in sizes.items()}
    return all(tail.published.get(name) == size for name, size in wanted.items())
