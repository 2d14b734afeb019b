"""Compares a lane's blocks with its state in topic `lanes` and its committed input offsets.

The state is read before and after the blocks. What the blocks say must lie between the two; when
nothing moved, that means: be equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shutong_core.audit.chain import genesis
from shutong_core.audit.follow import Position
from shutong_core.audit.header import NO_BLOCK
from shutong_core.audit.verdict import Finding, Statement
from shutong_core.audit.verify import Anchor, LaneVerifier


@dataclass(frozen=True, slots=True)
class LaneRows:
    """A lane as topic `lanes` and the committed input offsets say."""

    head: Anchor | None
    positions: Mapping[str, int]  # dataset → next input offset
    grants: Mapping[str, Position]
    committed: Mapping[str, int]  # dataset → committed input offset, where there is one


@dataclass(frozen=True, slots=True)
class LaneState:
    """The lane's rows before the blocks were read, and after."""

    before: LaneRows
    after: LaneRows


def head_findings(verifier: LaneVerifier, state: LaneState) -> Iterator[Finding]:
    """The last block must be the head's; with a lane at work, at least the head's before."""
    last = verifier.last
    head = state.after.head or Anchor(0, NO_BLOCK)
    before = state.before.head
    if head.sequence <= last.sequence:
        yield from verifier.finish(head)
    elif before is not None and before.sequence > last.sequence:
        yield from verifier.finish(before)


def position_findings(
    lane: int, verifier: LaneVerifier, state: LaneState, *, cut: bool
) -> Iterator[Finding]:
    """Next input offsets: blocks against lane state, blocks against committed offsets."""
    before, after = state.before, state.after
    audited = _main_offsets(verifier)
    for dataset, offset in sorted(audited.items()):
        low, high = before.positions.get(dataset, 0), after.positions.get(dataset, -1)
        if not low <= offset <= high:
            text = Statement(
                f"{dataset}：审计到偏移 {offset}，分道状态为 {high}",
                f"{dataset}: audited up to offset {offset}, lane state says {high}",
            )
            yield Finding("lane-position", text, lane=lane)
        low, high = before.committed.get(dataset, 0), after.committed.get(dataset, offset)
        if not low <= offset <= high:
            text = Statement(
                f"{dataset}：审计到偏移 {offset}，已提交的消费偏移为 {high}",
                f"{dataset}: audited up to offset {offset}, committed offset is {high}",
            )
            yield Finding("committed", text, lane=lane)
    if not cut:
        unknown = (before.positions.keys() | before.committed.keys()) - audited.keys()
        for dataset in sorted(unknown):
            text = Statement(
                f"{dataset}：有已处理的位置，却没有审计", f"{dataset}: has a position but no audit"
            )
            yield Finding("lane-position", text, lane=lane)


def grant_findings(
    cluster: str, lane: int, verifier: LaneVerifier, state: LaneState, *, cut: bool
) -> Iterator[Finding]:
    """Records placed and chain values: blocks against lane state."""
    before, after = state.before.grants, state.after.grants
    for grant in sorted(verifier.grants.keys() | before.keys()):
        start = Position(0, genesis(cluster, grant, lane))
        audited = verifier.grants.get(grant)
        if audited is None:
            if cut:
                continue  # placed before what is left of the audit
            audited = start
        low, high = before.get(grant, start), after.get(grant, start)
        between = low.k <= audited.k <= high.k
        if not between or any(
            at.k == audited.k and at.chain != audited.chain for at in (low, high)
        ):
            text = Statement(
                f"审计记有 {audited.k} 条，分道状态为 {high.k} 条，或链值不同",
                f"audit says {audited.k} placed, lane state {high.k}, or the chain values differ",
            )
            yield Finding("lane-grant", text, lane=lane, grant=grant)


def missing_offsets(verifier: LaneVerifier, state: LaneState) -> int:
    """Inputs with blocks but without a committed offset, which can then not be compared."""
    there = state.before.committed.keys() & state.after.committed.keys()
    return len(_main_offsets(verifier).keys() - there)


def _main_offsets(verifier: LaneVerifier) -> dict[str, int]:
    return {
        dataset: offset
        for (dataset, loading), offset in verifier.next_offsets.items()
        if not loading
    }
