"""Verification from Kafka: a whole bus passes, each kind of damage is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from audit_samples import CLUSTER, SampleLane, filled, sample_lane
from shutong_auditor.kafka_verdict import KafkaVerdict
from shutong_auditor.kafka_verify import verify_kafka
from shutong_core.audit.follow import Position
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.transaction import Deadlines, TransactionalProducer
from shutong_core.wire.batches import KafkaRecord, RecordBatch
from shutong_core.wire.busrecords import (
    HEAD_KEY,
    DatasetPosition,
    GrantPosition,
    LaneHead,
    dataset_key,
    grant_key,
)
from shutong_core.wire.topics import Topics
from unit.bus_schemas import codec

pytestmark = pytest.mark.kafka
CODEC = codec()
LANES = 2


class Bus:
    """Writes sample lanes to Kafka as the broker would, or not quite."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str) -> None:
        self.client = {"bootstrap_servers": kafka.bootstrap_servers}
        self.topics = Topics(prefix)
        self.lanes = [sample_lane(3, lane=lane) for lane in range(LANES)]
        for lane in self.lanes:
            lane.add_block()

    async def create(self) -> None:
        topics = self.topics
        wanted = [NewTopic(topics.audit, LANES, 1), NewTopic(topics.lanes, LANES, 1)]
        wanted += [NewTopic(topics.inbound(name), LANES, 1) for name in ("deaths", "births")]
        grants = {grant for lane in self.lanes for grant in lane.deliveries}
        wanted += [NewTopic(topics.delivery(grant), 1, 1) for grant in grants]
        admin = AIOKafkaAdminClient(**self.client)
        await admin.start()
        try:
            await admin.create_topics(wanted)
        finally:
            await admin.close()

    async def write(
        self,
        batches: Sequence[RecordBatch],
        offsets: dict[tuple[str, int], int] | None = None,
        *,
        commit: bool = True,
    ) -> None:
        producer = TransactionalProducer(
            self.client, f"{self.topics.prefix}.test", Deadlines(), batch_bytes_max=2 * 1024 * 1024
        )
        await producer.start()
        try:
            await producer.begin()
            for batch in batches:
                await producer.send(batch)
            if offsets:
                await producer.offsets(offsets, f"{self.topics.prefix}.lanes")
            if commit:
                await producer.commit()
            else:
                await producer.flush()
        finally:
            await producer.close()

    async def fill(self, change=None) -> None:
        """Everything of all lanes; `change(bus, lane)` may damage a lane first."""
        await self.create()
        for lane in self.lanes:
            rows = self.state(lane)
            if change is not None:
                change(lane, rows)
            await self.write(self.batches(lane, rows), self.offsets(lane))

    def state(self, lane: SampleLane) -> dict[bytes, object]:
        rows: dict[bytes, object] = {HEAD_KEY: LaneHead(len(lane.blocks), lane.previous, 0)}
        rows |= {dataset_key(name): DatasetPosition(at) for name, at in lane.offsets.items()}
        rows |= {grant_key(name): GrantPosition(*at) for name, at in lane.heads.items()}
        return rows

    def offsets(self, lane: SampleLane) -> dict[tuple[str, int], int]:
        return {(self.topics.inbound(name), lane.lane): at for name, at in lane.offsets.items()}

    def batches(self, lane: SampleLane, rows: dict[bytes, object]) -> list[RecordBatch]:
        topics = self.topics
        out = [
            RecordBatch(topics.audit, lane.lane, [KafkaRecord(block.header, block.body)])
            for block in lane.blocks
        ]
        for grant, records in lane.deliveries.items():
            for headers, key, value in records:
                if headers:
                    out.append(RecordBatch(topics.delivery(grant), 0, []))
                out[-1].records.append(KafkaRecord(key, value, headers))
        state = [KafkaRecord(key, CODEC.encode(row)) for key, row in rows.items()]
        return [*out, RecordBatch(topics.lanes, lane.lane, state)]

    async def verify(self, **options) -> KafkaVerdict:
        options = {"cluster": CLUSTER, "settle_s": 0.05} | options
        return await verify_kafka(self.client, self.topics, CODEC, **options)


@pytest.fixture
def bus(kafka: EmbeddedKafka, prefix: str) -> Bus:
    return Bus(kafka, prefix)


def _codes(verdict: KafkaVerdict) -> set[str]:
    return {finding.code for finding in verdict.findings}


async def test_a_whole_bus_verifies_and_says_what_was_not_checked(bus: Bus):
    await bus.fill()
    verdict = await bus.verify()
    assert verdict.findings == []
    assert verdict.totals.blocks == 4 * LANES
    assert verdict.placed == verdict.delivered != {}
    assert verdict.placed["deaths-city"] == sum(lane.heads["deaths-city"][0] for lane in bus.lanes)
    english = verdict.text("en")
    assert "level 1" in english
    assert "level 2" in english
    assert "not checked: list digests" in english


async def test_records_of_an_aborted_transaction_do_not_count(bus: Bus):
    await bus.fill()
    topic = bus.topics.delivery("deaths-city")
    await bus.write([RecordBatch(topic, 0, [KafkaRecord(b"k", b"leak")])], commit=False)
    # The next producer of the same transactional id aborts what the one before left open.
    await bus.write([RecordBatch(bus.topics.inbound("deaths"), 0, [KafkaRecord(b"k", b"v")])])
    assert (await bus.verify()).findings == []


async def test_lists_and_the_name_of_the_bus_are_held_against_what_is_given(bus: Bus):
    await bus.fill()
    good = await bus.verify(lists={7: filled("list 7", 32)})
    assert good.ok
    assert "list digests" not in good.text("en")
    assert _codes(await bus.verify(lists={7: filled("other", 32)})) == {"list-digest"}
    assert "place" in _codes(await bus.verify(cluster="another"))
    assert (await bus.verify(cluster=None)).ok


def _altered_delivery(lane: SampleLane, rows) -> None:
    headers, key, value = lane.deliveries["deaths-city"][4]
    lane.deliveries["deaths-city"][4] = (headers, key, value + b"!")


def _dropped_delivery(lane: SampleLane, rows) -> None:
    lane.deliveries["deaths-city"].pop()


def _altered_block(lane: SampleLane, rows) -> None:
    block = lane.blocks[2]
    changed = block.body[:-1] + bytes((block.body[-1] ^ 1,))
    lane.blocks[2] = dataclasses.replace(block, body=changed)


def _dropped_block(lane: SampleLane, rows) -> None:
    del lane.blocks[1]


def _last_block_gone(lane: SampleLane, rows) -> None:
    del lane.blocks[-1]


def _torn_position(lane: SampleLane, rows) -> None:
    rows[dataset_key("deaths")] = DatasetPosition(lane.offsets["deaths"] + 1)


def _torn_offset(lane: SampleLane, rows) -> None:
    lane.offsets["births"] -= 1


def _other_chain(lane: SampleLane, rows) -> None:
    at = Position(*lane.heads["deaths-city"])
    rows[grant_key("deaths-city")] = GrantPosition(at.k, filled("other", 32))


def _extra_dataset(lane: SampleLane, rows) -> None:
    rows[dataset_key("marriages")] = DatasetPosition(5)


def _garbage_state(lane: SampleLane, rows) -> None:
    rows[grant_key("deaths-city")] = DatasetPosition(5)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_altered_delivery, "delivery-chain"),
        (_dropped_delivery, "count"),
        (_altered_block, "body-hash"),
        (_dropped_block, "sequence"),
        (_last_block_gone, "head"),
        (_torn_position, "lane-position"),
        (_torn_offset, "committed"),
        (_other_chain, "lane-grant"),
        (_extra_dataset, "lane-position"),
        (_garbage_state, "lane-state"),
    ],
)
async def test_damage_is_named(bus: Bus, damage, code: str):
    await bus.fill(lambda lane, rows: damage(lane, rows) if lane.lane == 1 else None)
    verdict = await bus.verify()
    assert code in _codes(verdict)
    assert {finding.lane for finding in verdict.findings} == {1}
    assert verdict.text("zh").startswith("校验不通过")


async def test_invented_deliveries_are_named(bus: Bus):
    await bus.fill()
    lane = bus.lanes[0]
    before = len(lane.deliveries["deaths-city"])
    lane.add_block()
    extra = lane.deliveries["deaths-city"][before:]
    records = [KafkaRecord(key, value, headers) for headers, key, value in extra]
    await bus.write([RecordBatch(bus.topics.delivery("deaths-city"), 0, records)])
    assert _codes(await bus.verify()) >= {"unaudited"}
    assert (await bus.verify(deliveries=False)).ok
    assert (await bus.verify(grants={"births-city"})).ok


async def test_a_bus_without_an_audit_does_not_verify(bus: Bus):
    assert _codes(await bus.verify()) == {"no-audit"}
