"""A lane with everything around it on a real Kafka: topics, inputs, a lease that can be lost."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shutong_broker.failpoint import Failpoint, no_failpoint
from shutong_broker.lane import Lane
from shutong_broker.plan import Plan
from shutong_broker.planner import Origin, Planner
from shutong_broker.policies import PolicySet
from shutong_broker.recovery import TakenLane
from shutong_broker.wiring import LaneLimits, LaneWiring
from shutong_core.audit.block import Body, Header, parse_block
from shutong_core.runtime.transaction import Deadlines
from shutong_core.wire.topics import Topics, topic_specs
from unit.bus_schemas import codec
from unit.policy_world import World, keys, table


@dataclass
class FakeLease:
    """Stands in for the list feed: may be lost and given back by a test."""

    policies: PolicySet | None
    good: bool = True

    def may_place(self, policies: PolicySet) -> bool:
        return self.good and policies is self.policies


@dataclass
class FakeGrace:
    """Stands in for the checkpoints: may be late, may vouch for more than there is."""

    is_late: bool = False
    blocks: int = 0

    def vouched(self, lane: int) -> int:
        return self.blocks

    async def late(self, lane: int, sequence: int, grace_s: int) -> bool:
        return self.is_late


@dataclass
class Observer:
    """Remembers what a lane told."""

    plans: list[Plan] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    parked_inputs: list[tuple[str, str]] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    taken_at: list[int] = field(default_factory=list)  # sequence of the head at each take

    def committed(self, lane: int, plan: Plan, began_ms: int, ended_ms: int) -> None:
        self.plans.append(plan)

    def attempt_failed(self, lane: int, error: Exception) -> None:
        self.failures.append(f"{type(error).__name__}: {error}")

    def taken(self, lane: int, taken: TakenLane) -> None:
        self.taken_at.append(taken.state.sequence)

    def parked(self, lane: int, dataset: str, why: str) -> None:
        self.parked_inputs.append((dataset, why))

    def unparked(self, lane: int, dataset: str) -> None:
        self.parked_inputs.append((dataset, "tried again"))

    def restored(self, lane: int, datasets: list[str]) -> None:
        self.failures.append(f"restored {datasets}")

    def status(self, lane: int, status: str) -> None:
        self.statuses.append(status)


class LaneWorld:
    """One dataset, its grants and one lane, under a prefix of their own."""

    def __init__(self, bootstrap: str, prefix: str, given: dict[str, Any] | None = None) -> None:
        self.client = {"bootstrap_servers": bootstrap}
        self.topics = Topics(prefix)
        self.world = World(given)
        self.policies = PolicySet.of(
            self.world.version, {self.world.policy.dataset: self.world.policy}
        )
        self.lease = FakeLease(self.policies)
        self.grace = FakeGrace()
        self.lane_number = self.world.record().partition
        self.clock_offset_ms = 0
        self.ours = True  # what the group would answer

    def now_ms(self) -> int:
        return int(time.time() * 1000) + self.clock_offset_ms

    async def create_topics(self) -> None:
        admin = AIOKafkaAdminClient(**self.client)
        await admin.start()
        try:
            await admin.create_topics(
                [
                    NewTopic(spec.name, spec.partitions, 1, topic_configs=dict(spec.configs))
                    for spec in topic_specs(self.world.version, self.topics, 1, 1)
                ]
            )
        finally:
            await admin.close()

    async def publish(self, *records: dict[str, Any]) -> None:
        """Write inbound records as `World.record` bends them (all into this lane)."""
        producer = AIOKafkaProducer(**self.client, enable_idempotence=True)
        await producer.start()
        try:
            for when in records:
                record = self.world.record(when)
                await producer.send_and_wait(
                    self.topics.inbound(record.dataset),
                    value=record.value,
                    key=record.key,
                    partition=self.lane_number,
                    headers=list(record.headers),
                )
        finally:
            await producer.stop()

    def lane(
        self,
        observer: Observer,
        failpoint: Failpoint = no_failpoint,
        bootstrap: str | None = None,
        deadlines: Deadlines | None = None,
        records_max: int = 500,
    ) -> Lane:
        async def still_ours(_: int) -> bool:
            return self.ours

        origin = Origin(
            topics=self.topics,
            cluster="test-cluster",
            engine="test",
            instance=bytes(16),
            division_digest=table().digest,
            quarantine_key=keys("quarantine/1"),
            codec=codec(),
            monotonic=time.monotonic,
            random_bytes=lambda n: hashlib.sha256(str(time.time_ns()).encode()).digest()[:n],
        )
        client = {"bootstrap_servers": bootstrap} if bootstrap else self.client
        wiring = LaneWiring(
            client=client,
            topics=self.topics,
            offsets_group=self.topics.lanes_group,
            lease=self.lease,
            grace=self.grace,
            planner=Planner(origin),
            observer=observer,
            now_ms=self.now_ms,
            failpoint=failpoint,
            still_ours=still_ours,
            deadlines=deadlines or Deadlines(),
            limits=LaneLimits(records_max=records_max, poll_wait_ms=50),
        )
        return Lane(self.lane_number, wiring)

    async def read(self, topic: str, partition: int = 0) -> list[Any]:
        """Every committed record of one partition."""
        reader = AIOKafkaConsumer(
            **self.client, isolation_level="read_committed", fetch_max_wait_ms=50
        )
        await reader.start()
        try:
            tp = TopicPartition(topic, partition)
            end = (await reader.end_offsets([tp]))[tp]
            reader.assign([tp])
            reader.seek(tp, 0)
            found: list[Any] = []
            async with asyncio.timeout(20):
                while await reader.position(tp) < end:
                    found += (await reader.getmany(tp, timeout_ms=100)).get(tp, [])
            return found
        finally:
            await reader.stop()

    async def blocks(self) -> Sequence[tuple[Header, Body]]:
        """The lane's committed audit blocks."""
        records = await self.read(self.topics.audit, self.lane_number)
        return [parse_block(record.key, record.value) for record in records]


async def until(done: Any, seconds: float = 15) -> None:
    """Wait until `done()` is true."""
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)


class Running:
    """A lane that runs in the background of a test."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(self._lane.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._lane.stop()
        assert self._task is not None
        await asyncio.wait_for(self._task, 30)
