"""A producer service under test: its client, and what stands in its topics."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from aiokafka import AIOKafkaConsumer, TopicPartition

from shutong_core.audit.access import AccessVerifier
from shutong_core.runtime.cluster import bus_name, ensure_topics
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import Settings
from shutong_core.wire.busrecords import AccessEvent
from shutong_core.wire.topics import topic_specs
from shutong_producer.service import Parts
from unit import listing_fixtures as listing
from unit.intake_world import DATASET, Lists, data

NDJSON = {"Content-Type": "application/x-ndjson"}
AVRO = {"Content-Type": "application/avro"}
PATH = f"/v1/datasets/{DATASET}/records"


@dataclass
class Service:
    """A running service, its list, and a client that holds key-1."""

    node: Node
    lists: Lists
    parts: Parts
    http: httpx2.AsyncClient
    cluster: str

    async def post(self, body: Any, key: str = "key-1", path: str = PATH, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= more.pop("headers", {})
        if not isinstance(body, bytes):
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(body).encode()
        return await self.http.post(path, content=body, headers=headers, **more)

    async def get(self, path: str, key: str = "key-1", **more: Any) -> Any:
        return await self.http.get(path, headers={"Authorization": f"Bearer {key}"}, **more)

    async def records(self, topic: str) -> list[Any]:
        """Everything in `topic` now."""
        reader = AIOKafkaConsumer(**self.node.client, auto_offset_reset="earliest")
        await reader.start()
        try:
            tps = [TopicPartition(topic, n) for n in range(listing.bus().lanes)]
            ends = await reader.end_offsets(tps)
            reader.assign(tps)
            found = []
            async with asyncio.timeout(10):
                while any([await reader.position(tp) < ends[tp] for tp in tps]):
                    for batch in (await reader.getmany(timeout_ms=100)).values():
                        found += batch
            return found
        finally:
            await reader.stop()

    async def inbound(self) -> list[Any]:
        return await self.records(self.node.topics.inbound(DATASET))

    async def access(self) -> list[AccessEvent]:
        """Access events; their chains are checked on the way."""
        verifier = AccessVerifier(lambda raw: self.node.codec.decode_as(AccessEvent, raw))
        found = await self.records(self.node.topics.access)
        assert [verifier.feed(each.value) for each in found] == [None] * len(found)
        return [self.node.codec.decode_as(AccessEvent, each.value) for each in found]


def settings(kafka_address: str, prefix: str, tmp_path: Path, **producer: Any) -> Settings:
    return Settings(
        prefix=prefix,
        data_dir=tmp_path,
        kafka={"bootstrap_servers": kafka_address, "replication": 1, "min_isr": 1},
        producer={"http_port": 0, "admin_port": 0, **producer},
    )


async def prepared(node: Node, lists: Lists) -> str:
    assert lists.version is not None
    await ensure_topics(node.client, topic_specs(lists.version, node.topics, 1, 1))
    return await bus_name(node.client, node.settings.prefix)


def events(count: int, start: int = 0, **changed: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"e-{n}", "data": data(decision_no=f"MZ-{n:05d}", **changed)}
        for n in range(start, start + count)
    ]


def lines(entries: list[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in entries)
