"""What lanes are built from: what they ask, what they tell, their bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from shutong_broker.failpoint import Failpoint
from shutong_broker.plan import Plan
from shutong_broker.planner import Planner
from shutong_broker.policies import PolicySet
from shutong_broker.recovery import TakenLane
from shutong_core.runtime.transaction import Deadlines, TransactionalProducer
from shutong_core.wire.topics import Topics


class Lease(Protocol):
    """The list in force and the word of Kafka that it is the newest."""

    @property
    def policies(self) -> PolicySet | None:
        """What to decide by; None until a list was read."""
        ...

    def may_place(self, policies: PolicySet) -> bool:
        """Whether Kafka's last word that this list is the newest is recent enough."""
        ...


class Grace(Protocol):
    """The auditor's word on what the lanes audited."""

    def vouched(self, lane: int) -> int:
        """Blocks of the lane that a checkpoint speaks of."""
        ...

    async def late(self, lane: int, sequence: int, grace_s: int) -> bool:
        """Whether a lane with so many blocks must wait for a checkpoint. Raises Retryable."""
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
    grace: Grace
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
