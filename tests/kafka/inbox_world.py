"""A consumer service under test: its list can be changed, its delivery topics are written here.

Placed records are what the policy places, in record batches that open with a real segment header.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from shutong_broker.policy.model import Placement
from shutong_consumer.service import SERVICE, Parts, running
from shutong_core.audit.access import AccessVerifier
from shutong_core.audit.chain import Segment, extend, genesis
from shutong_core.audit.receipts import DeliveryReceipt, parse_receipt
from shutong_core.domain.version import ListVersion, next_version, parse_row
from shutong_core.runtime.cluster import bus_name, ensure_topics
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import Settings
from shutong_core.wire.busrecords import AccessEvent
from shutong_core.wire.schemarecords import Registration, Registry
from shutong_core.wire.schemas import Schema
from shutong_core.wire.topics import topic_specs
from unit import listing_fixtures as listing
from unit.policy_world import MEIZHOU_GRANT, World, table

TOWNS_GRANT = "minimum-living-towns"
SHUIZHAI, ZHUANSHUI = "441424100000", "441424104000"
SHUIZHAI_ORG, ZHUANSHUI_ORG = listing.uscc(11, SHUIZHAI), listing.uscc(12, ZHUANSHUI)
HOST_ORG, OTHER_ORG = listing.uscc(13, listing.WUHUA), listing.uscc(14, listing.XINGNING)
KEYS = {
    "key-city": "meizhou-civil",
    "key-shuizhai": "shuizhai-office",
    "key-zhuanshui": "zhuanshui-office",
    "key-host": "wuhua-data",
    "key-other": "xingning-civil",
    "key-gone": "not-in-the-list",
}


class Keys:
    """Stands in for the keyring's look-up."""

    def lookup(self, key: str) -> str | None:
        return KEYS.get(key)


@dataclass
class Lists:
    """Stands in for the list feed: the list can be changed, the lease lost."""

    version: ListVersion | None
    registry: Registry
    lease: bool = True

    @property
    def schemas(self) -> Mapping[int, Schema]:
        return self.registry.schemas

    def holds(self, number: int) -> bool:
        return self.lease and self.version is not None and number == self.version.number

    def change(self, row_id: str, **fields: Any) -> None:
        """Publish a version with parts of one row replaced."""
        assert self.version is not None
        row = parse_row(self.version.rows[row_id].body() | fields)
        self.version = next_version(self.version, [row], [], listing.EFFECTIVE_MS)

    def revoke(self, row_id: str) -> None:
        assert self.version is not None
        self.version = next_version(self.version, [], [row_id], listing.EFFECTIVE_MS)


def world(**grant: Any) -> World:
    """A grant of the city and a class grant of all towns, with two towns and others around."""

    def organisation(uscc: str, name: str, region: str, **fields: Any) -> dict[str, Any]:
        return listing.organisation(uscc, name=name, region=region, **fields).body()

    rows = [
        listing.bus(division_digest=table().digest.hex()).body(),
        organisation(SHUIZHAI_ORG, "水寨镇人民政府（示例）", SHUIZHAI),
        organisation(ZHUANSHUI_ORG, "转水镇人民政府（示例）", ZHUANSHUI, hosted_by=HOST_ORG),
        organisation(HOST_ORG, "五华县政务服务和数据管理局（示例）", listing.WUHUA),
        organisation(OTHER_ORG, "兴宁市民政局（示例）", listing.XINGNING),
        listing.system("shuizhai-office", SHUIZHAI_ORG).body(),
        listing.system("zhuanshui-office", ZHUANSHUI_ORG).body(),
        listing.system("wuhua-data", HOST_ORG).body(),
        listing.system("xingning-civil", OTHER_ORG).body(),
    ]
    towns = {
        "requester_class": {"level": "town", "within": listing.GUANGDONG},
        "scope": {"role": "受理地"},
    }
    return World({"grants": {MEIZHOU_GRANT: grant, TOWNS_GRANT: towns}, "rows": rows})


@dataclass
class Inbox:
    """A running service, and what was written for it."""

    node: Node
    lists: Lists
    world: World
    parts: Parts
    http: httpx2.AsyncClient
    cluster: str
    client: Mapping[str, Any]
    chains: dict[tuple[str, int], tuple[int, bytes]] = field(default_factory=dict)
    written: int = 0

    async def get(self, grant: str, key: str = "key-city", **params: Any) -> Any:
        headers = {"Authorization": f"Bearer {key}", **params.pop("headers", {})}
        return await self.http.get(f"/v1/grants/{grant}/records", params=params, headers=headers)

    async def countersign(self, grant: str, cursor: Any, key: str = "key-city") -> Any:
        return await self.http.post(
            f"/v1/grants/{grant}/receipts",
            json={"cursor": cursor},
            headers={"Authorization": f"Bearer {key}"},
        )

    async def read_all(self, grant: str, key: str, limit: int = 3) -> tuple[list[Any], str]:
        """Every record a caller gets, page by page, and the last cursor."""
        records: list[Any] = []
        params: dict[str, Any] = {"limit": limit}
        while True:
            answer = await self.get(grant, key, **params)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert len(body["records"]) <= limit
            records += body["records"]
            params["cursor"] = body["next_cursor"]
            if not body["records"]:
                assert body["at_end"]
                return records, body["next_cursor"]

    def placements(self, towns: Sequence[str], **item: Any) -> dict[str, list[Placement]]:
        """What the policy places for records of these towns."""
        found: dict[str, list[Placement]] = {}
        for town in towns:
            self.written += 1
            record = {"decision_no": f"MZ-{self.written:05d}", "town_code": town, **item}
            decision = self.world.decide({"record": record})
            assert decision.refusal is None
            for each in decision.placements:
                found.setdefault(each.grant, []).append(each)
        return found

    async def place(
        self, *towns: str, lane: int = 0, spoil: str | None = None, **item: Any
    ) -> None:
        """Write a batch per grant, as a lane does, in a transaction; `spoil` alters that grant's.

        Spoilt: the chain goes on as if the last record had another value.
        """
        producer = AIOKafkaProducer(
            **self.client,
            transactional_id=f"{self.node.topics.prefix}.test.{lane}",
            max_batch_size=2**20,
        )
        await producer.start()
        try:
            async with producer.transaction():
                for grant, placed in self.placements(towns, **item).items():
                    await self._batch(producer, grant, placed, lane, spoilt=grant == spoil)
        finally:
            await producer.stop()

    async def _batch(
        self,
        producer: AIOKafkaProducer,
        grant: str,
        placed: Sequence[Placement],
        lane: int,
        *,
        spoilt: bool,
    ) -> None:
        k, chain = self.chains.get((grant, lane), (1, genesis(self.cluster, grant, lane)))
        builder = producer.create_batch()
        for index, each in enumerate(placed):
            segment = [] if index else [("shutong_segment", Segment(lane, k, chain).encode())]
            headers = [*segment, *each.headers]
            added = builder.append(key=each.key, value=each.value, timestamp=None, headers=headers)
            assert added is not None
        builder.close()
        assert self.lists.version is not None
        row = self.lists.version.grant(grant)
        partition = lane if row is not None and row.partitions == "lanes" else 0
        future = await producer.send_batch(
            builder, self.node.topics.delivery(grant), partition=partition
        )
        await future
        pairs = [(each.key, each.value) for each in placed]
        if spoilt:
            pairs[-1] = (pairs[-1][0], b"something else")
        self.chains[(grant, lane)] = (k + len(placed), extend(chain, pairs))

    async def topic(self, name: str, partitions: int = 1) -> list[Any]:
        """Everything in a topic now."""
        reader = AIOKafkaConsumer(**self.client, auto_offset_reset="earliest")
        await reader.start()
        try:
            places = [TopicPartition(name, n) for n in range(partitions)]
            ends = await reader.end_offsets(places)
            reader.assign(places)
            found: list[Any] = []
            while any([await reader.position(each) < ends[each] for each in places]):
                for batch in (await reader.getmany(timeout_ms=100)).values():
                    found += batch
            return found
        finally:
            await reader.stop()

    async def access(self) -> list[AccessEvent]:
        """Access events; their chains are checked on the way."""
        codec = self.node.codec
        verifier = AccessVerifier(lambda raw: codec.decode_as(AccessEvent, raw))
        found = await self.topic(self.node.topics.access, listing.bus().lanes)
        assert [verifier.feed(each.value) for each in found] == [None] * len(found)
        return [codec.decode_as(AccessEvent, each.value) for each in found]

    async def receipts(self, uscc: str) -> list[DeliveryReceipt]:
        """Receipts in the topic that this agency's key signed."""
        verify = self.node.keyring.verifier(f"agency/{uscc}")
        found = []
        for record in await self.topic(self.node.topics.receipts):
            if f"agency/{uscc}/".encode() in (record.value or b""):
                found.append(parse_receipt(record.value, verify))
        return found

    def metric(self, line: str) -> float:
        """Value of one sample by its name and labels; 0 if it is not there."""
        for each in self.node.metrics.exposition().decode().splitlines():
            if each.startswith(line + " "):
                return float(each.rpartition(" ")[2])
        return 0.0


def node_at(address: str, prefix: str, data_dir: Path) -> Node:
    """A node's wiring for tests: the small division table, ports chosen by the system."""
    node = Node(
        SERVICE,
        Settings(
            prefix=prefix,
            data_dir=data_dir,
            kafka={"bootstrap_servers": address, "replication": 1, "min_isr": 1},
            consumer={"http_port": 0, "admin_port": 0},
        ),
    )
    node.__dict__["table"] = table()
    return node


@asynccontextmanager
async def inbox(
    address: str,
    prefix: str,
    data_dir: Path,
    given: World | None = None,
    direct: Mapping[str, Any] | None = None,
) -> AsyncIterator[Inbox]:
    """A service at work, with its topics; `direct`: the tests' own way to Kafka."""
    it = given or world()
    node = node_at(address, prefix, data_dir)
    registry = Registry()
    for grant in it.version.grants_by_dataset["minimum-living"]:
        subject = f"{node.topics.delivery(grant.id)}-value"
        for each in grant.projections:
            schema = it.schemas[each.delivered_id]
            number = len(registry.versions(subject)) + 1
            registry.add(Registration(each.delivered_id, subject, number, schema))
    lists = Lists(it.version, registry)
    await ensure_topics(direct or node.client, topic_specs(it.version, node.topics, 1, 1))
    cluster = await bus_name(node.client, node.settings.prefix)
    async with running(node, lists, Keys(), cluster) as parts:
        await parts.writer.wait_ready(10)
        async with asyncio.timeout(10):
            while not parts.book.ready:
                await asyncio.sleep(0.02)
        async with httpx2.AsyncClient(base_url=parts.http.url, timeout=40) as http:
            yield Inbox(node, lists, it, parts, http, cluster, direct or node.client)
