"""Keeps the inputs of one lane filled: hot ones by a quick fetch, idle ones by a patient one.

Every input is carried by one of the two at any time, for moments by both: what comes second no
longer starts where the input stands, and is dropped. So a move loses, doubles, reorders nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.errors import for_code as error_of
from aiokafka.structs import TopicPartition

from shutong_broker.fetchwire import Bounds, Fetched, FetchLine
from shutong_broker.input import Input
from shutong_core.domain.errors import Retryable
from shutong_core.runtime.lifecycle import happens

MIB = 1024 * 1024
#: A fetch that fills a large transaction at once; one partition's share is above the largest batch.
HOT = Bounds(wait_ms=500, bytes_max=4 * MIB, partition_bytes_max=2 * MIB)
#: Kafka answers as soon as there is a byte: the long wait costs no latency.
COLD = Bounds(wait_ms=5_000, bytes_max=2 * MIB, partition_bytes_max=2 * MIB)
#: An input without a record for so long goes cold.
IDLE_S = 10.0
#: So much is read ahead of the lane.
AHEAD_BYTES = 4 * MIB
#: While something small waits to be taken, the next fetch waits too: many tiny ones cost most.
SMALL_BYTES = 128 * 1024
GATHER_S = 0.005
COLD_GATHER_S = 0.01
#: How much later than its wait a fetch may be answered.
PATIENCE_S = 5.0
RETRY_S = (0.1, 1.0)
#: A partition that answered with a fault is asked again after this time.
FAULT_PAUSE_S = 0.1
#: A partition that answers with nothing but faults, or has no leader, for so long is told.
FAULTY_S = 60.0
#: Who has nothing to fetch, or no room for it, looks again at least so often.
NOTHING_S = 0.5
#: Who leads a partition is looked up at least so often.
LEADERS_S = 5.0

_fed_at = attrgetter("fed_at")
_log = structlog.stdlib.get_logger(__name__)


class Fetching:
    """The fetches of one lane over every node that leads one of its inputs."""

    def __init__(self, client: AIOKafkaClient, lane: int) -> None:
        self._client = client
        self._lane = lane
        self._inputs: dict[str, Input] = {}  # by topic
        self._hot: set[Input] = set()
        self._nodes: dict[int, list[asyncio.Task[None]]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()  # leaders must be looked up
        self._room = asyncio.Event()  # something was taken, or an input became hot
        #: Inputs with records or a fault.
        self.ready: dict[Input, None] = {}
        #: Set when one became ready.
        self.arrived = asyncio.Event()

    @property
    def _full(self) -> bool:
        return sum(each.bytes_ahead for each in self._hot) >= AHEAD_BYTES

    def carry(self, inputs: Iterable[Input]) -> None:
        """Fetch exactly these from now on."""
        self._inputs = {each.topic: each for each in inputs}
        kept = set(self._inputs.values())
        self._hot &= kept
        self.ready = {each: None for each in self.ready if each in kept}
        if self._inputs:
            self._client.set_topics(list(self._inputs))
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"inputs of lane {self._lane}")
        self._lost.set()
        self._room.set()

    def drop(self, each: Input) -> None:
        """Fetch one no more."""
        self._inputs.pop(each.topic, None)
        self._hot.discard(each)
        self.ready.pop(each, None)

    def tell(self, each: Input) -> None:
        """One has something to be taken."""
        self.ready.setdefault(each)
        self.arrived.set()

    def taken(self) -> None:
        """Something was taken out of the inputs: there is room to fetch on."""
        self._room.set()

    def require_running(self) -> None:
        """Raises Retryable if fetching ended by a fault nobody foresaw: it must not be silent."""
        for task in self._tasks():
            error = task.exception() if task.done() and not task.cancelled() else None
            if error is not None:
                raise Retryable(f"inputs are not fetched any more: {type(error).__name__}")

    async def close(self) -> None:
        """Stop; never fails."""
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tasks(self) -> list[asyncio.Task[None]]:
        tasks = [task for node in self._nodes.values() for task in node]
        return tasks if self._keeper is None else [*tasks, self._keeper]

    async def _keep(self) -> None:
        """Know the leader of every input, and have fetches running at each."""
        delay = RETRY_S[0]
        while True:
            self._lost.clear()
            if self._look_up_leaders():
                delay = RETRY_S[0]
                await happens(self._lost, LEADERS_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEADERS_S):
                    await self._client.force_metadata_update()
            if not self._look_up_leaders():  # a topic that is not there must not keep us busy
                await asyncio.sleep(delay)
                delay = min(delay * 2, LEADERS_S)

    def _look_up_leaders(self) -> bool:
        known = True
        for each in self._inputs.values():
            leader = self._client.cluster.leader_for_partition(
                TopicPartition(each.topic, self._lane)
            )
            if leader is None or leader < 0:
                known = False
                self._suspect(each, LeaderNotAvailableError())
            elif leader != each.node:
                each.node, each.carried_cold, each.carried_hot = leader, False, False
                self._hot.add(each)
                self._room.set()
                if leader not in self._nodes:
                    self._nodes[leader] = self._start(leader)
        return known

    def _start(self, node: int) -> list[asyncio.Task[None]]:
        # The cold one first: at the start it takes all, and hot becomes what has records.
        return [
            asyncio.create_task(work, name=f"{name} inputs of lane {self._lane} at node {node}")
            for name, work in (("cold", self._run_cold(node)), ("hot", self._run_hot(node)))
        ]

    async def _run_cold(self, node: int) -> None:
        line = FetchLine(self._client, node, f"cold {self._lane}", self._lane)

        def wanted() -> dict[str, int]:
            found, now = {}, _now()
            for each in self._inputs.values():
                cold = each.node == node and not (each.is_hot and each.carried_hot)
                each.carried_cold = cold and each.retry_at <= now
                if each.carried_cold:
                    found[each.topic] = each.fetched
                    if not each.is_hot:
                        self._hot.discard(each)
            return found

        await self._run(line, COLD, wanted, COLD_GATHER_S)

    async def _run_hot(self, node: int) -> None:
        line = FetchLine(self._client, node, f"hot {self._lane}", self._lane)
        carried: list[Input] = []

        def wanted() -> dict[str, int]:
            now = _now()
            for each in carried:
                each.carried_hot = False
            carried.clear()
            # Without a session Kafka fills the answer in this order: the first must not take all.
            for each in sorted(self._hot, key=_fed_at):
                if each.is_hot and now - each.fed_at > IDLE_S and not each.bytes_ahead:
                    each.is_hot = False  # stays here until the cold fetch carries it
                if each.node == node and each.retry_at <= now:
                    each.carried_hot = True
                    carried.append(each)
            return {each.topic: each.fetched for each in carried}

        await self._run(line, HOT, wanted, GATHER_S)

    async def _run(
        self,
        line: FetchLine,
        bounds: Bounds,
        wanted: Callable[[], dict[str, int]],
        gather_s: float,
    ) -> None:
        delay = RETRY_S[0]
        while True:
            self._room.clear()
            asked = {} if self._full else wanted()
            if not asked:
                await happens(self._room, NOTHING_S)
                continue
            try:
                answer = await line.fetch(asked, bounds, PATIENCE_S)
            except KafkaError as error:
                _log.warning("inputs not fetched", lane=self._lane, error_type=type(error).__name__)
                self._client.force_metadata_update()
                self._lost.set()
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                delay = min(delay * 2, RETRY_S[1])
                continue
            delay = RETRY_S[0]
            came = sum(self._take(each, asked) for each in answer)
            if 0 < came < SMALL_BYTES:
                await happens(self._room, gather_s)

    def _take(self, fetched: Fetched, asked: dict[str, int]) -> int:
        """Give one input what was fetched for it; the number of bytes it could use."""
        each = self._inputs.get(fetched.topic)
        if each is None or each.fetched != asked.get(fetched.topic):
            return 0  # parked, moved, or fed by the other fetch meanwhile
        if fetched.error:
            self._fault(each, error_of(fetched.error))
            return 0
        each.faulty_since = None
        if not fetched.data:
            return 0
        if not each.feed(fetched.data, fetched.aborted):
            each.retry_at = _now() + FAULT_PAUSE_S
            return 0
        each.fed_at = _now()
        each.is_hot = True
        self.tell(each)
        if each not in self._hot:
            self._hot.add(each)
            self._room.set()
        return len(fetched.data)

    def _fault(self, each: Input, error: Any) -> None:
        each.retry_at = _now() + FAULT_PAUSE_S
        if error in (OffsetOutOfRangeError, TopicAuthorizationFailedError):
            each.fault = error()
            self.tell(each)
            return
        self._suspect(each, error())
        # Led by another node, gone, or not ready: who leads it now?
        each.node = None
        self._client.force_metadata_update()
        self._lost.set()

    def _suspect(self, each: Input, error: KafkaError) -> None:
        """What mostly passes by itself; if it does not, it must not go unnoticed."""
        if each.faulty_since is None:
            each.faulty_since = _now()
        elif _now() - each.faulty_since > FAULTY_S:
            each.fault, each.faulty_since = error, None
            self.tell(each)


def _now() -> float:
    return asyncio.get_running_loop().time()
