"""Turns what the lanes did into metrics, logs and readiness."""

from __future__ import annotations

import structlog

from shutong_broker.plan import Plan
from shutong_broker.recovery import TakenLane
from shutong_core.domain.errors import Fatal
from shutong_core.runtime.health import Health
from shutong_core.runtime.metrics import Metrics
from shutong_core.runtime.transaction import CommitUnknown, Fenced

_log = structlog.stdlib.get_logger(__name__)


class BrokerObserver:
    """What all lanes of a process tell; fits `LaneObserver`."""

    def __init__(self, metrics: Metrics, health: Health) -> None:
        self._metrics = metrics
        self._statuses: dict[int, str] = {}
        self._parked: dict[int, dict[str, str]] = {}
        self._joined = False
        health.check("lanes", self._problem)

    def joined(self) -> None:
        """The group said which lanes are ours (perhaps none)."""
        self._joined = True

    def _problem(self) -> str | None:
        if not self._joined:
            return "the broker group has not assigned lanes yet"
        halted = sorted(lane for lane, status in self._statuses.items() if status == "halted")
        if halted:
            return f"lanes {halted} are halted: see the log, then the runbook"
        waiting: dict[str, list[int]] = {}
        for lane, status in sorted(self._statuses.items()):
            if status != "serving":
                waiting.setdefault(status, []).append(lane)
        if waiting:
            said = "; ".join(f"lanes {lanes}: {status}" for status, lanes in waiting.items())
            return f"not serving: {said}"
        parked = {lane: inputs for lane, inputs in self._parked.items() if inputs}
        return f"parked inputs by lane: {parked}" if parked else None

    def committed(self, lane: int, plan: Plan, began_ms: int, ended_ms: int) -> None:
        """One transaction was committed."""
        metrics, label = self._metrics, str(lane)
        rows = sum(counts.decided for counts in plan.datasets.values())
        metrics.count("shutong_transactions_total", lane=label, outcome="committed")
        metrics.count("shutong_audit_blocks_total", lane=label)
        metrics.set("shutong_lane_sequence", plan.changes.sequence, lane=label)
        metrics.observe("shutong_transaction_seconds", (ended_ms - began_ms) / 1000, lane=label)
        metrics.observe("shutong_transaction_records", rows, lane=label)
        for dataset, counts in plan.datasets.items():
            refused = sum(counts.refused.values())
            passed = counts.decided - refused
            metrics.count("shutong_decisions_total", passed, dataset=dataset, verdict="passed")
            if refused:
                metrics.count(
                    "shutong_decisions_total", refused, dataset=dataset, verdict="refused"
                )
            if counts.out_of_scope:
                metrics.count("shutong_out_of_scope_total", counts.out_of_scope, dataset=dataset)
            for reason, count in counts.refused.items():
                metrics.count("shutong_refused_total", count, dataset=dataset, reason=reason.name)
            metrics.observe(
                "shutong_publish_to_placed_seconds", max(0, ended_ms - counts.oldest_ms) / 1000
            )
        for grant, verdicts in plan.verdicts.items():
            if verdicts.placed:
                metrics.count("shutong_placed_total", verdicts.placed, grant=grant)
            for reason, count in verdicts.withheld.items():
                metrics.count("shutong_withheld_total", count, grant=grant, reason=reason.name)

    def attempt_failed(self, lane: int, error: Exception) -> None:
        """A tenure of a lane ended by a fault."""
        outcome = "failed"
        if isinstance(error, Fenced):
            outcome = "fenced"
        elif isinstance(error, CommitUnknown):
            outcome = "unknown"
        self._metrics.count("shutong_transactions_total", lane=str(lane), outcome=outcome)
        level = _log.error if isinstance(error, Fatal) else _log.warning
        level("lane attempt ended", lane=lane, error=str(error), error_type=type(error).__name__)

    def taken(self, lane: int, taken: TakenLane) -> None:
        """A lane was taken."""
        self._metrics.count("shutong_lane_takes_total", lane=str(lane), outcome="taken")
        _log.info("lane taken", lane=lane, sequence=taken.state.sequence, records=len(taken.window))

    def parked(self, lane: int, dataset: str, why: str) -> None:
        """An input of a lane does not flow any more."""
        inputs = self._parked.setdefault(lane, {})
        inputs[dataset] = why
        self._metrics.set("shutong_lane_parked_inputs", len(inputs), lane=str(lane))
        _log.error("input parked", lane=lane, dataset=dataset, reason=why)

    def unparked(self, lane: int, dataset: str) -> None:
        """A parked input is tried again."""
        inputs = self._parked.setdefault(lane, {})
        inputs.pop(dataset, None)
        self._metrics.set("shutong_lane_parked_inputs", len(inputs), lane=str(lane))
        _log.info("input is tried again", lane=lane, dataset=dataset)

    def restored(self, lane: int, datasets: list[str]) -> None:
        """Expired input offsets were written again from the lane's state."""
        _log.warning(
            "input offsets had expired, restored from lane state", lane=lane, name=datasets
        )

    def status(self, lane: int, status: str) -> None:
        """What a lane is doing."""
        if self._statuses.get(lane) == status:
            return
        if status == "taking":
            self._parked.pop(lane, None)
            self._metrics.set("shutong_lane_parked_inputs", 0, lane=str(lane))
        if status == "released":
            self._statuses.pop(lane, None)
        else:
            self._statuses[lane] = status
        self._metrics.set("shutong_lanes_held", len(self._statuses))
        _log.info("lane status", lane=lane, state=status)
