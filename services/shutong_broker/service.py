"""The broker process: joins the group, runs the lanes it is given, until asked to stop."""

from __future__ import annotations

import asyncio
import os
import time
from typing import get_args

import structlog

from shutong_broker.collector import Collector
from shutong_broker.engine import engine_of
from shutong_broker.failpoint import Failpoint, Step, no_failpoint
from shutong_broker.grace import CheckpointGrace
from shutong_broker.inbounds import InboundTopics
from shutong_broker.lane import Lane
from shutong_broker.observer import BrokerObserver
from shutong_broker.ownership import Ownership
from shutong_broker.planner import Origin, Planner
from shutong_broker.policies import PolicyBook
from shutong_broker.wiring import LaneLimits, LaneWiring
from shutong_core.audit.checkpoint import AUDIT, TreeName
from shutong_core.audit.rotation import SIGNER
from shutong_core.domain.errors import Fatal
from shutong_core.runtime.checkpointfeed import CheckpointFeed
from shutong_core.runtime.cluster import bus_name, ensure_topics
from shutong_core.runtime.failpoint import kill_at
from shutong_core.runtime.health import admin_server
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.node import Node

_log = structlog.stdlib.get_logger(__name__)


class Lanes:
    """The lanes this process runs, as the group assigns them."""

    def __init__(self, wiring: LaneWiring, observer: BrokerObserver) -> None:
        self._wiring = wiring
        self._observer = observer
        self._running: dict[int, tuple[Lane, asyncio.Task[None]]] = {}

    def assigned(self, lanes: frozenset[int]) -> None:
        """Start what is new, let go what is not ours any more."""
        for number, (lane, _) in self._running.items():
            if number not in lanes:
                lane.stop()
        for number in sorted(lanes):
            held = self._running.get(number)
            if held is None or held[1].done() or held[0].stopping:
                self._observer.status(number, "assigned")
                self._start(number, held[1] if held else None)
            else:
                held[0].affirm()
        self._observer.joined()

    def _start(self, number: int, predecessor: asyncio.Task[None] | None) -> None:
        lane = Lane(number, self._wiring)

        async def run() -> None:
            if predecessor is not None:
                await asyncio.gather(predecessor, return_exceptions=True)
            await lane.run()

        task = asyncio.create_task(run(), name=f"lane {number}")
        task.add_done_callback(lambda done: self._ended(number, done))
        self._running[number] = (lane, task)

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._observer.attempt_failed(number, Fatal(f"lane {number}: {type(error).__name__}"))
            self._observer.status(number, "halted")

    @property
    def held(self) -> tuple[int, ...]:
        """Lanes that run here now."""
        return tuple(n for n, (_, task) in self._running.items() if not task.done())

    async def stop(self) -> None:
        """Finish every transaction under way."""
        for lane, _ in self._running.values():
            lane.stop()
        await asyncio.gather(*(task for _, task in self._running.values()), return_exceptions=True)


async def serve(node: Node, stop: Stop) -> None:
    """Run the broker until `stop`. Raises Fatal if it cannot start."""
    admin = admin_server(node.health, node.metrics, node.settings.broker.admin)
    observer = BrokerObserver(node.metrics, node.health)
    engine = engine_of(node.settings.broker.engine)
    feed, collector = node.list_feed(), Collector()
    book = PolicyBook(
        feed,
        node.table,
        node.keyring.secret,
        node.metrics,
        taken_up=collector.taken_up,
        make=engine.make,
    )
    node.health.check("list", book.problem)
    await admin.start()
    await feed.start()
    following = asyncio.create_task(book.follow(), name="policy book")
    try:
        if await _first_list(book, stop):
            await _serve_lanes(node, book, observer, collector, engine.name, stop)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await feed.stop()
        await admin.stop()


async def _first_list(book: PolicyBook, stop: Stop) -> bool:
    while not stop.requested:
        if book.policies is not None:
            return True
        await stop.wait(0.05)
    return False


async def _serve_lanes(
    node: Node,
    book: PolicyBook,
    observer: BrokerObserver,
    collector: Collector,
    engine: str,
    stop: Stop,
) -> None:
    await ensure_topics(node.client, node.topics_to_make(book.version))
    inbounds = InboundTopics(node.client, node.topics, book)
    looking: asyncio.Task[None] | None = None
    if node.settings.topics == "own":
        await inbounds.look()
        looking = asyncio.create_task(inbounds.follow(), name="inbound topics")
    settings, origin = node.settings.broker, await _origin(node, engine)
    lanes_all = [TreeName(origin.cluster, AUDIT, n) for n in range(book.version.bus.lanes)]
    checkpoints = CheckpointFeed(
        node.client,
        node.topics.checkpoints,
        origin.cluster,
        node.keyring.publics(SIGNER),
        lambda: lanes_all,
    )
    grace = CheckpointGrace(node.client, node.topics.audit, origin.cluster, checkpoints, _now_ms)
    node.health.check("checkpoints", lambda: checkpoints.problem)
    checkpoints.start()
    wiring = LaneWiring(
        client=node.client,
        topics=node.topics,
        offsets_group=node.topics.lanes_group,
        lease=book,
        grace=grace,
        planner=Planner(origin),
        observer=observer,
        now_ms=_now_ms,
        failpoint=_failpoint(settings.failpoint),
        still_ours=lambda lane: _confirmed(ownership, lane),
        limits=LaneLimits(records_max=settings.transaction_records_max),
    )
    lanes = Lanes(wiring, observer)
    ownership = Ownership(
        node.client,
        node.topics.lanes,
        node.topics.broker_group,
        lanes.assigned,
        session_timeout_ms=settings.session_timeout_ms,
    )
    await ownership.start()
    try:
        while not await stop.wait(0.5):
            node.health.beat("main loop", within_s=30)
            node.metrics.set("shutong_list_lease_age_seconds", book.word_age_s)
            for lane in lanes.held:
                if (age_s := grace.age_s(lane)) is not None:
                    node.metrics.set("shutong_lane_checkpoint_age_seconds", age_s, lane=str(lane))
            collector.tend()
    finally:
        # Lanes first: leaving the group would hand them on while they still work.
        await lanes.stop()
        await ownership.close()
        await checkpoints.close()
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


async def _confirmed(ownership: Ownership, lane: int) -> bool | None:
    lanes = await ownership.confirmed()
    return None if lanes is None else lane in lanes


async def _origin(node: Node, engine: str) -> Origin:
    return Origin(
        topics=node.topics,
        cluster=await bus_name(node.client, node.settings.prefix),
        engine=engine,
        instance=os.urandom(16),
        division_digest=node.table.digest,
        quarantine_key=node.keyring.secret("quarantine/1"),
        codec=node.codec,
        random_bytes=os.urandom,
        monotonic=time.monotonic,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _failpoint(setting: str | None) -> Failpoint:
    if setting is None:
        return no_failpoint
    step, _, nth = setting.partition(":")
    for known in get_args(Step):
        if known == step:
            _log.warning("FAILPOINT set: this process will kill itself", step=step, count=int(nth))
            return kill_at(known, int(nth))
    raise Fatal(f"no failpoint is called {step}: {', '.join(get_args(Step))}")
