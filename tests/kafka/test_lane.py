"""One lane on a real Kafka: what a transaction leaves behind, in health and after faults."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.record.util import calc_crc32c

from kafka.lane_world import LaneWorld, Observer, Running, until
from shutong_broker.policies import PolicySet
from shutong_core.audit.chain import SEGMENT_HEADER, extend, genesis, parse_segment
from shutong_core.audit.verify import Anchor, LaneVerifier
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.kafka_server import EmbeddedKafka
from unit.policy_world import MEIZHOU_GRANT

pytestmark = pytest.mark.kafka


def decided(observer: Observer) -> int:
    return sum(counts.decided for plan in observer.plans for counts in plan.datasets.values())


async def started(kafka: EmbeddedKafka, prefix: str, **given: object) -> LaneWorld:
    world = LaneWorld(kafka.bootstrap_servers, prefix, given or None)
    await world.create_topics()
    return world


async def test_placed_audited_and_committed_together(kafka: EmbeddedKafka, prefix: str) -> None:
    world = await started(kafka, prefix)
    observer = Observer()
    bad = {"headers": {"ce_id": "bad"}, "record": {"town_code": "441481100000"}}
    await world.publish({"headers": {"ce_id": "1"}}, bad, {"headers": {"ce_id": "2"}})
    async with Running(world.lane(observer)):
        await until(lambda: decided(observer) == 3)

    placed = await world.read(world.topics.delivery(MEIZHOU_GRANT))
    assert len(placed) == 2
    segment = parse_segment(dict(placed[0].headers)[SEGMENT_HEADER])
    start = genesis("test-cluster", MEIZHOU_GRANT, world.lane_number)
    assert (segment.lane, segment.k, segment.chain) == (world.lane_number, 1, start)

    refused = await world.read(world.topics.quarantine, world.lane_number)
    assert len(refused) == 1
    assert dict(refused[0].headers)["reason"] == Reason.OUT_OF_JURISDICTION.name.encode()

    blocks = await world.blocks()
    assert sum(header.rows for header, _ in blocks) == 3
    assert sum(header.placed for header, _ in blocks) == 2
    assert sum(header.refused for header, _ in blocks) == 1


async def test_a_successor_goes_on_where_the_predecessor_stopped(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    for number in range(3):
        observer = Observer()
        await world.publish({"headers": {"ce_id": str(number)}})
        async with Running(world.lane(observer)):
            await until(lambda seen=observer: decided(seen) == 1)
        assert observer.failures == []
        assert observer.taken_at == [number]

    verifier = LaneVerifier("test-cluster", world.lane_number)
    for record in await world.read(world.topics.audit, world.lane_number):
        findings, _ = verifier.feed(record.offset, record.key, record.value)
        assert findings == []
    assert verifier.totals.blocks == 3
    placed = await world.read(world.topics.delivery(MEIZHOU_GRANT))
    chain = genesis("test-cluster", MEIZHOU_GRANT, world.lane_number)
    for record in placed:
        assert parse_segment(dict(record.headers)[SEGMENT_HEADER]).chain == chain
        chain = extend(chain, [(record.key, record.value)])
    assert verifier.grants[MEIZHOU_GRANT].chain == chain
    assert isinstance(verifier.last, Anchor)


async def test_a_repeated_event_is_placed_once_also_after_a_restart(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    await world.publish({}, {}, {"record": {"members": 9}})
    first = Observer()
    async with Running(world.lane(first)):
        await until(lambda: decided(first) == 3)
    await world.publish({}, {"record": {"members": 9}})
    second = Observer()
    async with Running(world.lane(second)):
        await until(lambda: decided(second) == 2)
    assert len(await world.read(world.topics.delivery(MEIZHOU_GRANT))) == 1
    refusals = [
        reason
        for observer in (first, second)
        for plan in observer.plans
        for counts in plan.datasets.values()
        for reason, count in counts.refused.items()
        for _ in range(count)
    ]
    assert sorted(reason.name for reason in refusals) == [
        "DUPLICATE",
        "DUPLICATE",
        "ID_REUSED",
        "ID_REUSED",
    ]


async def test_nothing_is_placed_while_the_lease_is_lost(kafka: EmbeddedKafka, prefix: str) -> None:
    world = await started(kafka, prefix)
    world.lease.good = False
    observer = Observer()
    await world.publish({})
    async with Running(world.lane(observer)):
        await until(lambda: "waiting for the list" in observer.statuses)
        assert await world.read(world.topics.delivery(MEIZHOU_GRANT)) == []
        world.lease.good = True
        await until(lambda: decided(observer) == 1)
    assert len(await world.read(world.topics.delivery(MEIZHOU_GRANT))) == 1


async def test_nothing_is_placed_while_a_checkpoint_is_late_then_it_goes_on_by_itself(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    world.grace.is_late = True
    observer = Observer()
    await world.publish({})
    async with Running(world.lane(observer)):
        await until(lambda: "waiting for a checkpoint" in observer.statuses)
        assert await world.read(world.topics.delivery(MEIZHOU_GRANT)) == []
        world.grace.is_late = False
        await until(lambda: decided(observer) == 1)
    assert len(await world.read(world.topics.delivery(MEIZHOU_GRANT))) == 1


async def test_a_lane_behind_a_signed_checkpoint_places_nothing_and_is_taken_again(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    world.grace.blocks = 1
    observer = Observer()
    await world.publish({})
    async with Running(world.lane(observer)):
        await until(lambda: len(observer.taken_at) > 1)
        assert "behind a signed checkpoint" in observer.statuses
        assert any("restored from an old backup" in each for each in observer.failures)
        assert await world.read(world.topics.delivery(MEIZHOU_GRANT)) == []
        world.grace.blocks = 0
        await until(lambda: decided(observer) == 1)


async def test_a_lease_lost_before_commit_places_nothing_then_everything_once(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    lost = []

    def lose(step: str) -> None:
        if step == "after-flush" and not lost:
            lost.append(step)
            world.lease.good = False

    observer = Observer()
    await world.publish({})
    async with Running(world.lane(observer, lose)):
        await until(lambda: observer.failures)
        assert await world.read(world.topics.delivery(MEIZHOU_GRANT)) == []
        world.lease.good = True
        await until(lambda: decided(observer) == 1)
    assert len(await world.read(world.topics.delivery(MEIZHOU_GRANT))) == 1
    (header, body), *_ = await world.blocks()
    assert header.after_abort
    assert body.exposed == (MEIZHOU_GRANT,)


async def test_a_second_process_fences_the_first_which_lets_go(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    first, second = Observer(), Observer()
    world.ours = False
    old = world.lane(first)
    async with Running(old):
        await world.publish({"headers": {"ce_id": "1"}})
        await until(lambda: decided(first) == 1)
        async with Running(world.lane(second)):
            await until(lambda: "serving" in second.statuses)
            await world.publish({"headers": {"ce_id": "2"}})
            await until(lambda: decided(second) == 1)
            await until(lambda: first.statuses[-1] == "released")
    assert any(text.startswith("Fenced") for text in first.failures)
    assert len(await world.read(world.topics.delivery(MEIZHOU_GRANT))) == 2


async def test_a_clock_that_is_wrong_halts_the_lane(kafka: EmbeddedKafka, prefix: str) -> None:
    world = await started(kafka, prefix)
    world.clock_offset_ms = -60_000
    observer = Observer()
    await world.publish({})
    async with Running(world.lane(observer)):
        await until(lambda: "halted" in observer.statuses)
    assert "clock" in observer.failures[0]
    assert await world.read(world.topics.delivery(MEIZHOU_GRANT)) == []


async def test_a_transaction_that_gets_too_large_takes_a_part_and_loses_nothing(
    kafka: EmbeddedKafka, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutong_broker.planner.INPUT_BYTES_ENOUGH", 20_000)
    monkeypatch.setattr("shutong_broker.deciding.RUN_RECORDS", 32)
    world = await started(kafka, prefix)
    observer = Observer()
    await world.publish(*({"headers": {"ce_id": str(n)}} for n in range(300)))
    async with Running(world.lane(observer)):
        await until(lambda: decided(observer) == 300)
    assert len(observer.plans) > 1
    assert len(await world.read(world.topics.delivery(MEIZHOU_GRANT))) == 300
    verifier = LaneVerifier("test-cluster", world.lane_number)
    for record in await world.read(world.topics.audit, world.lane_number):
        assert verifier.feed(record.offset, record.key, record.value)[0] == []


async def test_a_lane_without_inputs_leaves_the_loop_to_others(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    world.lease.policies = PolicySet.of(world.world.version, {})
    world.policies = world.lease.policies
    observer = Observer()
    async with Running(world.lane(observer)):
        await until(lambda: "serving" in observer.statuses)
        turns = 0
        async with asyncio.timeout(2):
            while turns < 20:
                await asyncio.sleep(0.01)
                turns += 1


async def test_planning_stops_in_time_and_the_rest_is_read_again(
    kafka: EmbeddedKafka, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutong_broker.planner.PLAN_S_ENOUGH", 0.0)
    monkeypatch.setattr("shutong_broker.deciding.RUN_RECORDS", 1)
    world = await started(kafka, prefix)
    observer = Observer()
    await world.publish(*({"headers": {"ce_id": str(n)}} for n in range(5)))
    async with Running(world.lane(observer)):
        await until(lambda: decided(observer) == 5)
    assert [sum(c.decided for c in plan.datasets.values()) for plan in observer.plans] == [1] * 5
    assert len(await world.read(world.topics.delivery(MEIZHOU_GRANT))) == 5


async def test_a_missing_delivery_topic_parks_its_dataset_until_it_is_there(
    kafka: EmbeddedKafka, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutong_broker.tenure.PARKED_AGAIN_S", 1.0)
    monkeypatch.setattr("shutong_broker.tenure.TOPIC_KNOWN_S_MAX", 1.0)
    world = await started(kafka, prefix)
    admin = AIOKafkaAdminClient(**world.client)
    await admin.start()
    topic = world.topics.delivery(MEIZHOU_GRANT)
    await admin.delete_topics([topic])
    observer = Observer()
    await world.publish({})
    async with Running(world.lane(observer)):
        await until(lambda: any(topic in why for _, why in observer.parked_inputs))
        # A fresh coordinator may not know the offsets yet; then the lane is taken once more.
        assert all("no committed offset told" in each for each in observer.failures)
        assert decided(observer) == 0
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await until(lambda: decided(observer) == 1, 30)
    await admin.close()
    assert len(await world.read(topic)) == 1


async def test_a_list_older_than_the_audit_places_nothing(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    newer = PolicySet.of(replace(world.world.version, number=2), world.policies.by_dataset)
    world.lease.policies = newer
    observer = Observer()
    await world.publish({"headers": {"ce_id": "1"}})
    async with Running(world.lane(observer)):
        await until(lambda: decided(observer) == 1)
    world.lease.policies = world.policies  # a restored backup: list 1 again
    await world.publish({"headers": {"ce_id": "2"}})
    restored = Observer()
    async with Running(world.lane(restored)):
        await until(lambda: "the list is older than the audit" in restored.statuses)
        assert decided(restored) == 0
    assert len(await world.read(world.topics.delivery(MEIZHOU_GRANT))) == 1


async def test_after_a_crash_the_next_block_says_that_something_may_have_been_seen(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    await world.publish({})

    class CrashedError(Exception):
        pass

    def crash(step: str) -> None:
        if step == "after-flush":
            raise CrashedError

    crashed = Observer()
    async with Running(world.lane(crashed, crash)):
        await until(lambda: "halted" in crashed.statuses)
    observer = Observer()
    async with Running(world.lane(observer)):
        await until(lambda: decided(observer) == 1)
        await world.publish({"headers": {"ce_id": "2"}})
        await until(lambda: decided(observer) == 2)
    assert [header.after_abort for header, _ in await world.blocks()] == [True, False]


async def test_an_input_no_client_can_read_is_parked_and_the_lane_stays(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    # A header name that is not UTF-8: Kafka takes it, aiokafka cannot decode the batch.
    world = await started(kafka, prefix)
    observer = Observer()
    async with Running(world.lane(observer)):
        await world.publish({"headers": {"ce_id": "1"}})
        await until(lambda: decided(observer) == 1)
        await write_unreadable(world)
        await until(lambda: observer.parked_inputs)
        assert observer.parked_inputs[0][0] == "minimum-living"
        assert observer.failures == []
        assert observer.statuses[-1] == "serving"
    assert len(await world.read(world.topics.delivery(MEIZHOU_GRANT))) == 1


async def write_unreadable(world: LaneWorld) -> None:
    producer = AIOKafkaProducer(**world.client)
    await producer.start()
    try:
        builder = producer.create_batch()
        builder.append(timestamp=None, key=b"k", value=b"v", headers=[("AAAA", b"x")])
        builder.close()
        batch = bytearray(builder._build())
        at = batch.index(b"AAAA")
        batch[at : at + 4] = b"\xff\xfe\xff\xfe"
        batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
        builder._buffer = bytes(batch)
        topic = world.topics.inbound("minimum-living")
        await (await producer.send_batch(builder, topic, partition=world.lane_number))
    finally:
        await producer.stop()


async def test_the_digest_in_the_audit_is_of_the_salted_body(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    world = await started(kafka, prefix)
    observer = Observer()
    await world.publish({})
    async with Running(world.lane(observer)):
        await until(lambda: decided(observer) == 1)
    ((_, body),) = await world.blocks()
    value = world.world.record().value
    assert value is not None
    (row,) = body.rows(body.inputs[0])
    assert row.digest == hashlib.sha256(body.salt + value[5:]).digest()
