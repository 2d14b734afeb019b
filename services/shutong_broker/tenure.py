"""One tenure of a lane, from taking it to the first doubt: one transaction at a time.

A transaction holds what was placed, what was refused, the audit block, the lane's state and the
input offsets, or none of it. Order: decide (pure) → send all → wait for all → look at the clock
and the list lease → commit → move memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

from aiokafka.structs import RecordMetadata

from shutong_broker.plan import Plan, Polled
from shutong_broker.policies import PolicySet
from shutong_broker.recovery import TakenLane
from shutong_broker.source import InboundSource
from shutong_broker.wiring import LaneWiring
from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.runtime.transaction import TransactionalProducer, TransactionFailed
from shutong_core.wire.batches import KafkaRecord, RecordBatch

#: Own clock and Kafka's may differ by this much before the lane stops.
CLOCK_SKEW_MS_MAX = 2_000
#: An input parked for a topic that is not there is tried again after this time.
PARKED_AGAIN_S = 30.0
TOPIC_KNOWN_S_MAX = 5.0


class Tenure:
    """What a lane does while it is held; any fault ends it."""

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
        if await self._waits_for_checkpoint(policies):
            wiring.observer.status(self._lane, "waiting for a checkpoint")
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

    async def _waits_for_checkpoint(self, policies: PolicySet) -> bool:
        """Whether what this lane audited was not vouched for within the list's grace."""
        wiring, sequence = self._wiring, self._state.sequence
        grace = wiring.grace
        if (vouched := grace.vouched(self._lane)) > sequence:
            # Whoever was frozen while another process went on takes the lane anew, and finds all
            # of it. If it is still so then, the topics are behind: nothing may go on from there.
            wiring.observer.status(self._lane, "behind a signed checkpoint")
            await asyncio.sleep(0.5)
            raise Retryable(
                f"lane {self._lane}: a checkpoint of {vouched} blocks was signed, the lane has"
                f" {sequence}. If this stays: its topics were cut or restored from an old backup;"
                " restore the newest state, nothing is placed before"
            )
        return await grace.late(self._lane, sequence, policies.version.bus.checkpoint_grace_s)

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
        unsure = sorted({batch.topic for batch in plan.batches} - self._known_topics)
        # All at once: the lane stands still meanwhile.
        there = await asyncio.gather(
            *(self._producer.knows(topic, TOPIC_KNOWN_S_MAX) for topic in unsure)
        )
        missing = [topic for topic, known in zip(unsure, there, strict=True) if not known]
        self._known_topics.update(unsure)
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
            if dataset in self._source.denied:
                self._park(dataset, "Kafka does not let its inbound topic be read", again=True)
            else:
                self._park(dataset, "its inbound records cannot be read or are not kept any more")

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
        self._window.add(plan.accepted)
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
        told = await self._source.committed_all(sorted(policies.datasets - self._source.parked))
        for dataset, committed in sorted(told.items()):
            known = self._state.positions.get(dataset)
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
