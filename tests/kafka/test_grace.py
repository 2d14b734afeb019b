"""The grace of checkpoints on a real Kafka: what counts, from when, and what never does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from audit_samples import filled
from kafka.audited_bus import LANES, AuditedBus, until
from shutong_broker.grace import CheckpointGrace
from shutong_core.audit.checkpoint import Checkpoint
from shutong_core.runtime.checkpointfeed import CheckpointFeed
from shutong_core.runtime.keyring import Signer

pytestmark = pytest.mark.kafka


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_ms(self) -> int:
        return int((time.time() + self.ahead_s) * 1000)


@asynccontextmanager
async def watching(bus: AuditedBus, clock: Clock) -> AsyncIterator[CheckpointGrace]:
    feed = CheckpointFeed(
        bus.node.client,
        bus.topics.checkpoints,
        bus.cluster,
        bus.node.keyring.publics("auditor"),
        lambda: [bus.tree("audit", lane) for lane in range(LANES)],
    )
    feed.start()
    try:
        await feed.wait_read()
        yield CheckpointGrace(bus.node.client, bus.topics.audit, bus.cluster, feed, clock.now_ms)
    finally:
        await feed.close()


async def sign(bus: AuditedBus, size: int, signer: Signer | None = None, root: str = "") -> None:
    tree = bus.tree("audit", 0)
    signer = signer or bus.node.keyring.signer("auditor")
    checkpoint = Checkpoint(tree.origin, size, filled(f"root {root or size}", 32))
    note = checkpoint.sign(tree.key(signer.public), signer.sign)
    await bus.send((bus.topics.checkpoints, 0, tree.origin.encode(), note.encode()))


async def test_before_the_first_checkpoint_the_grace_runs_from_the_first_block(
    bus: AuditedBus,
) -> None:
    clock = Clock()
    async with watching(bus, clock) as grace:
        assert not await grace.late(0, 0, 10)
        clock.ahead_s = 1000
        assert not await grace.late(0, 0, 10), "nothing was placed that could be vouched for"
        clock.ahead_s = 0
        await bus.decide(1)
        assert not await grace.late(0, 1, 10)
        clock.ahead_s = 11
        assert await grace.late(0, 1, 10)
    async with watching(bus, clock) as grace:
        assert await grace.late(0, 1, 10), "a restart does not begin a new grace"


async def test_a_checkpoint_begins_the_grace_anew_for_its_own_lane(bus: AuditedBus) -> None:
    await bus.decide(2)
    clock = Clock()
    clock.ahead_s = 3600
    async with watching(bus, clock) as grace:
        assert await grace.late(0, 2, 3000)
        clock.ahead_s = 0
        await sign(bus, 2)
        await until(lambda: grace.vouched(0) == 2)
        clock.ahead_s = 2900
        assert not await grace.late(0, 2, 3000)
        assert (grace.vouched(1), await grace.late(1, 2, 2800)) == (0, True)
        clock.ahead_s = 3600
        assert await grace.late(0, 2, 3000)


async def test_forged_older_and_contradicting_checkpoints_keep_nothing_going(
    bus: AuditedBus, tmp_path: Path
) -> None:
    await bus.decide(2)
    stranger = AuditedBus(bus.kafka, bus.prefix, tmp_path / "other").node.keyring.signer("auditor")
    clock = Clock()
    async with watching(bus, clock) as grace:
        await sign(bus, 2)
        await until(lambda: grace.vouched(0) == 2)
        await asyncio.sleep(1.2)
        await sign(bus, 5, stranger)
        await sign(bus, 1)
        await sign(bus, 2, root="other")
        await bus.send((bus.topics.checkpoints, 0, None, b"\x00" * 100))
        await sign(bus, 2, stranger)
        await asyncio.sleep(0.8)
        assert grace.vouched(0) == 2
        assert (grace.age_s(0) or 0) >= 2.0


async def test_the_newest_checkpoint_is_found_behind_thousands_of_others(
    bus: AuditedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutong_core.runtime.checkpointfeed.LOOK_BACK", 3)
    await sign(bus, 2)
    await bus.send(*[(bus.topics.checkpoints, 0, b"x", b"y")] * 60)
    async with watching(bus, Clock()) as grace:
        assert grace.vouched(0) == 2
