"""One lane: takes it, then decides and places record after record, one transaction at a time.

A transaction holds what was placed, what was refused, the audit block, the lane's state and the
input offsets, or none of it. Order within an attempt: decide (pure) → send all → wait for all →
look at the clock and the list lease → commit → move memory.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from shutong_broker.failpoint import Failpoint
from shutong_broker.plan import Plan, Planner, Polled
from shutong_broker.policies import PolicySet
from shutong_broker.recovery import TakenLane, take_lane
from shutong_broker.source import InboundSource
from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.runtime.transaction import (
    Deadlines,
    Fenced,
    TransactionalProducer,
    TransactionFailed,
)
from shutong_core.wire.batches import KafkaRecord, RecordBatch
from shutong_core.wire.topics import Topics

#: Own clock and Kafka's may differ by this much before the lane stops.
CLOCK_SKEW_MS_MAX = 2_000
RETRY_DELAY_S = (0.2, 5.0)
#: A tenure that lasted this long was good: the next failure starts with the short delay again.
GOOD_TENURE_S = 30.0
#: An input parked for a topic that is not there is tried again after this time.
PARKED_AGAIN_S = 30.0
TOPIC_KNOWN_S_MAX = 5.0
ASK_AGAIN_S = 0.5


class Lease(Protocol):
    """The list in force and the word of Kafka that it is the newest."""

    @property
    def policies(self) -> PolicySet | None:
        """What to decide by; None until a list was read."""
        ...

    def may_place(self, policies: PolicySet) -> bool:
        """Whether Kafka's last word that this list is the newest is recent enough."""
        ...


class LaneObserver(Protocol):
    """Told what happened, for metrics and logs; never fails."""

    def committed(self, lane: int, plan: Plan, began_ms: int, ended_ms: int) -> None: ...
    def attempt_failed(self, lane: int, error: Exception) -> None: ...
    def taken(self, lane: int, taken: TakenLane) -> None: ...
    def parked(self, lane: int, dataset: str, why: str) -> None: ...
    def unparked(self, lane: int, dataset: str) -> None: ...
    def restored(self, lane: int, datasets: list[str]) -> None: ...
    def status(self, lane: int, status: str) -> None: ...


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of one transaction, times in milliseconds."""

    records_max: int = 500
    poll_wait_ms: int = 200
    batch_bytes_max: int = 2 * 1024 * 1024 - 64 * 1024


@dataclass(frozen=True, slots=True)
class LaneWiring:
    """What all lanes of a process share."""

    client: Mapping[str, Any]
    topics: Topics
    offsets_group: str
    lease: Lease
    planner: Planner
    observer: LaneObserver
    now_ms: Callable[[], int]
    failpoint: Failpoint
    #: Whether the group, asked afresh, says that the lane is this process's; None: not known now.
    still_ours: Callable[[int], Awaitable[bool | None]]
    deadlines: Deadlines = field(default_factory=Deadlines)
    limits: LaneLimits = field(default_factory=LaneLimits)

    def producer(self, lane: int) -> TransactionalProducer:
        """A new producer for the lane's transactional id."""
        return TransactionalProducer(
            self.client,
            self.topics.transactional_id(lane),
            self.deadlines,
            batch_bytes_max=self.limits.batch_bytes_max,
            on_end_txn=lambda: self.failpoint("end-txn-sent"),
        )


class Lane:
    """Runs lane `number` in this process until stopped, fenced away or halted."""

    def __init__(self, number: int, wiring: LaneWiring) -> None:
        self.number = number
        self._wiring = wiring
        self._stopping = asyncio.Event()
        self._affirmations = 0
        # Grants whose uncommitted data a failed attempt left readable to read_uncommitted.
        self._exposed: set[str] = set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to let go."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Finish the transaction under way, then let the lane go."""
        self._stopping.set()

    def affirm(self) -> None:
        """The group assigned the lane to this process once more."""
        self._affirmations += 1

    async def run(self) -> None:
        """Serve until stopped or no longer ours; Fatal halts the lane and is told, not raised."""
        observer, delay = self._wiring.observer, RETRY_DELAY_S[0]
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            began = clock()
            try:
                observer.status(self.number, "taking")
                await self._serve()
            except Fenced as error:
                observer.attempt_failed(self.number, error)
                await self._pause(1.0)
                if not await self._still_ours():
                    break
            except Fatal as error:
                await self._halt(error)
                return
            except (Retryable, KafkaError) as error:
                observer.attempt_failed(self.number, _told(self.number, error))
                if clock() - began > GOOD_TENURE_S:
                    delay = RETRY_DELAY_S[0]
                await self._pause(delay * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                delay = min(delay * 2, RETRY_DELAY_S[1])
                # Who was frozen meets lost requests before it learns that it was replaced: to
                # take the lane without asking would throw out the rightful owner.
                if not await self._still_ours():
                    break
            except Exception as error:
                # A fault nobody foresaw must not end the lane in silence, behind a green readiness.
                await self._halt(
                    Fatal(f"lane {self.number}: unforeseen fault: {type(error).__name__}")
                )
                return
        observer.status(self.number, "released")

    async def _halt(self, error: Fatal) -> None:
        self._wiring.observer.attempt_failed(self.number, error)
        self._wiring.observer.status(self.number, "halted")
        await self._stopping.wait()

    async def _still_ours(self) -> bool:
        """Ask the group until it knows, or until it assigns the lane to us again meanwhile."""
        before = self._affirmations
        while not self._stopping.is_set():
            try:
                ours = await self._wiring.still_ours(self.number)
            except Exception as error:  # no answer is no permission
                self._wiring.observer.attempt_failed(self.number, _told(self.number, error))
                ours = None
            if ours or self._affirmations > before:
                return True
            if ours is not None:
                return False
            await self._pause(ASK_AGAIN_S)
        return False

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _serve(self) -> None:
        wiring = self._wiring
        producer = wiring.producer(self.number)
        source = InboundSource(wiring.client, wiring.topics, wiring.offsets_group, self.number)
        try:
            # InitProducerId first: it ends the predecessor's transaction, so that what is read
            # afterwards is final.
            await producer.start()
            await source.start()
            taken = await take_lane(
                wiring.client, wiring.topics, self.number, wiring.planner.states, wiring.now_ms()
            )
            wiring.observer.taken(self.number, taken)
            attempt = _Attempt(wiring, self.number, producer, source, taken, self._exposed)
            wiring.observer.status(self.number, "serving")
            while not self._stopping.is_set():
                await attempt.step()
        finally:
            await producer.close()
            await source.close()


def _told(lane: int, error: Exception) -> Exception:
    """What may be logged of a fault: a client's own text could quote what it carried."""
    if isinstance(error, Retryable):
        return error
    return Retryable(f"lane {lane}: Kafka: {type(error).__name__}")


class _Attempt:
    """One tenure of a lane: from taking it to the first doubt."""

    def __init__(
        self,
        wiring: LaneWiring,
        lane: int,
        producer: TransactionalProducer,
        source: InboundSource,
        taken: TakenLane,
        exposed: set[str],
    ) -> None:
        self._wiring = wiring
        self._lane = lane
        self._producer = producer
        self._source = source
        self._state = taken.state
        self._window = taken.window
        self._exposed = exposed
        # Whether something aborted, not known what, may follow the last block of the audit.
        self._doubtful = not taken.clean
        self._floor = (taken.list_number, taken.list_digest)
        self._told: set[str] = set()
        self._try_again: dict[str, float] = {}
        self._known_topics: set[str] = set()

    async def step(self) -> None:
        """One poll and, if something came, one transaction."""
        wiring = self._wiring
        policies = wiring.lease.policies
        if policies is None or not wiring.lease.may_place(policies):
            wiring.observer.status(self._lane, "waiting for the list")
            await asyncio.sleep(0.05)
            return
        if not self._not_older(policies):
            wiring.observer.status(self._lane, "the list is older than the audit")
            await asyncio.sleep(0.5)
            return
        # Also while nothing comes in: readiness must not go on telling of a wait that is over.
        wiring.observer.status(self._lane, "serving")
        self._unpark()
        if policies.datasets - self._source.parked != self._source.datasets - self._source.parked:
            await self._follow(policies)
        polled = await self._source.poll(wiring.limits.poll_wait_ms, wiring.limits.records_max)
        self._tell_parked()
        if not polled:
            return
        # The list may have changed while waiting for records: decide by what is in force now.
        policies = wiring.lease.policies or policies
        polled = self._decidable(polled, policies)
        if not polled or not self._not_older(policies):
            self._source.give_back(self._state.positions, polled)
            return
        began_ms = wiring.now_ms()
        plan = wiring.planner.plan(
            lane=self._lane,
            polled=polled,
            policies=policies,
            state=self._state,
            window=self._window,
            exposed=sorted(self._exposed) if self._exposed or self._doubtful else None,
            now_ms=began_ms,
        )
        if not await self._topics_there(plan, policies):
            self._source.give_back(self._state.positions, polled)
            return
        for each in polled:
            taken_to = plan.changes.positions.get(each.dataset, each.records[0].offset)
            if taken_to != each.next:
                self._source.reread(each.dataset, taken_to)
        await self._place(plan, policies)
        wiring.observer.committed(self._lane, plan, began_ms, wiring.now_ms())

    def _not_older(self, policies: PolicySet) -> bool:
        """Whether the list is the one the last block was decided by, or newer.

        A restored backup of control.lists looks healthy, and would revive what was revoked.
        """
        number, digest = self._floor
        version = policies.version
        if version.number == number and version.digest != digest:
            raise Fatal(
                f"lane {self._lane}: list {number} is not the one the audit names: control.lists"
                " was restored or replaced; publish a newer list, then restart"
            )
        return version.number >= number

    def _decidable(self, polled: tuple[Polled, ...], policies: PolicySet) -> tuple[Polled, ...]:
        """What can be decided: a dataset whose policy cannot be made stops alone."""
        good = []
        for each in polled:
            try:
                policies.by_dataset.get(each.dataset)
            except Exception as error:  # whatever it is, it is this dataset's
                self._park(each.dataset, f"its policy cannot be made: {type(error).__name__}")
            else:
                good.append(each)
        return tuple(good)

    async def _topics_there(self, plan: Plan, policies: PolicySet) -> bool:
        """Whether every topic of the plan exists; else the datasets of those that do not stop."""
        missing = [
            batch.topic
            for batch in plan.batches
            if batch.topic not in self._known_topics
            and not await self._producer.knows(batch.topic, TOPIC_KNOWN_S_MAX)
        ]
        self._known_topics.update(batch.topic for batch in plan.batches)
        self._known_topics.difference_update(missing)
        for topic in missing:
            grant = policies.version.grant(self._wiring.topics.grant_of(topic) or "")
            if grant is None:
                raise Fatal(f"lane {self._lane}: topic {topic} is not there")
            self._park(grant.dataset, f"topic {topic} is not there or not allowed", again=True)
        return not missing

    def _park(self, dataset: str, why: str, *, again: bool = False) -> None:
        self._source.park(dataset)
        self._told.add(dataset)
        if again:
            self._try_again[dataset] = asyncio.get_running_loop().time() + PARKED_AGAIN_S
        self._wiring.observer.parked(self._lane, dataset, why)

    def _unpark(self) -> None:
        now = asyncio.get_running_loop().time()
        for dataset in [each for each, at in self._try_again.items() if at <= now]:
            del self._try_again[dataset]
            self._told.discard(dataset)
            self._source.unpark(dataset)
            self._wiring.observer.unparked(self._lane, dataset)

    def _tell_parked(self) -> None:
        for dataset in self._source.parked - self._told:
            self._told.add(dataset)
            self._wiring.observer.parked(
                self._lane, dataset, "its inbound records cannot be read or are not kept any more"
            )

    async def _place(self, plan: Plan, policies: PolicySet) -> None:
        wiring, producer = self._wiring, self._producer
        exposed_before = set(self._exposed)
        sent_ms = wiring.now_ms()
        await producer.begin()
        wiring.failpoint("after-begin")
        self._exposed.update(plan.grants)
        offsets = asyncio.create_task(
            producer.offsets(self._offsets(plan.changes.positions), wiring.offsets_group)
        )
        try:
            audit = await self._send_all(plan)
            await producer.flush()
            wiring.failpoint("after-flush")
            await offsets
        finally:
            offsets.cancel()
            await asyncio.gather(offsets, return_exceptions=True)
        wiring.failpoint("after-offsets")
        written = await audit
        self._check_clock(written.timestamp, sent_ms)
        if not wiring.lease.may_place(policies):
            raise TransactionFailed("the list lease ran out before commit")
        await producer.commit(lambda: wiring.lease.may_place(policies))
        wiring.failpoint("after-commit")
        # Only now does memory move.
        self._state.advance(plan.changes, written.offset)
        for seen in plan.seen:
            self._window.add(seen)
        self._exposed.difference_update(exposed_before | set(plan.grants))
        self._doubtful = False
        self._floor = (policies.version.number, policies.version.digest)

    async def _send_all(self, plan: Plan) -> Awaitable[RecordMetadata]:
        producer, topics = self._producer, self._wiring.topics
        audit = await producer.send(
            RecordBatch(topics.audit, self._lane, [KafkaRecord(plan.header, plan.body)])
        )
        self._wiring.failpoint("after-first-send")
        for batch in plan.batches:
            await producer.send(batch)
        await producer.send(RecordBatch(topics.lanes, self._lane, plan.state_records))
        self._wiring.failpoint("after-sends")
        return audit

    def _check_clock(self, written_ms: int, sent_ms: int) -> None:
        # A pause of this process between sending and now is no skew: compare with both ends.
        now_ms = self._wiring.now_ms()
        if not sent_ms - CLOCK_SKEW_MS_MAX <= written_ms <= now_ms + CLOCK_SKEW_MS_MAX:
            raise Fatal(
                f"lane {self._lane}: this clock and Kafka's differ by more than"
                f" {CLOCK_SKEW_MS_MAX} ms: set the clocks (NTP), then restart"
            )

    def _offsets(self, positions: Mapping[str, int]) -> dict[tuple[str, int], int]:
        topics = self._wiring.topics
        return {(topics.inbound(dataset), self._lane): at for dataset, at in positions.items()}

    async def _follow(self, policies: PolicySet) -> None:
        """Read exactly the datasets of the list, each from where this lane stands in it."""
        positions: dict[str, int] = {}
        missing: dict[str, int] = {}
        fresh: list[str] = []
        for dataset in sorted(policies.datasets - self._source.parked):
            known = self._state.positions.get(dataset)
            committed = await self._source.committed(dataset)
            if known is None and committed is None:
                fresh.append(dataset)
            elif known is None or (committed is not None and committed != known):
                # State and offset move in one transaction: they cannot differ unless one was torn
                # (KAFKA-17754) or somebody moved the offsets.
                self._park(dataset, f"committed offset {committed}, lane state {known}")
            else:
                positions[dataset] = known
                if committed is None:
                    missing[dataset] = known
        begun = await self._source.beginnings(fresh)
        positions.update(begun)
        for dataset in set(fresh) - begun.keys():
            self._park(dataset, "its inbound topic is not there or not allowed", again=True)
        if missing:
            await self._recommit(missing)
        self._source.read_from(positions)

    async def _recommit(self, missing: Mapping[str, int]) -> None:
        # Kafka forgets offsets of a group without members after 7 idle days.
        self._wiring.observer.restored(self._lane, sorted(missing))
        await self._producer.begin()
        await self._producer.offsets(self._offsets(missing), self._wiring.offsets_group)
        await self._producer.commit()
