"""Compares a past decision, made again by the plain interpreter, with what the audit says of it.

Pure: record, row and policy in, a verdict out. No value of the record is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shutong_broker.policy.model import DatasetPolicy, Decision, InboundRecord, LaneFacts
from shutong_core.audit.body import Row, RowOperation
from shutong_core.audit.digests import row_digest
from shutong_core.audit.rowtree import Fate, RowVerdict
from shutong_core.audit.verdict import Finding, Statement, Verdict
from shutong_core.domain.reasons import IMPLIED, Reason

#: What only the lane's memory could tell; the audit keeps the outcome.
REPEATS = (Reason.DUPLICATE, Reason.ID_REUSED)


@dataclass(frozen=True, slots=True)
class Audited:
    """What the audit says of one record: its row, the verdicts in it, the block's salt and time.

    `loading`: the one grant whose loading cursor decided, "" for the main cursor.
    """

    row: Row
    verdicts: tuple[RowVerdict, ...]
    salt: bytes
    decided_ms: int
    lane: int
    block: int
    loading: str = ""


def replay(policy: DatasetPolicy | None, record: InboundRecord, audited: Audited) -> Verdict:
    """The verdict on the decision. `policy`: of the list that the block names, None if it has no
    such dataset."""
    verdict = Verdict()
    row = audited.row
    decision = None
    if policy is not None:
        repeat = row.refusal if row.refusal in REPEATS else None
        decision = policy.decide(record, LaneFacts(repeat), audited.decided_ms)
    for finding in _differences(decision, record, audited):
        verdict.add(finding)
    if decision is not None:
        verdict.checked += _told(decision, audited)
    verdict.not_checked += _not_checked(audited)
    return verdict


def _differences(
    decision: Decision | None, record: InboundRecord, audited: Audited
) -> Iterator[Finding]:
    row = audited.row
    refusal = Reason.DATASET_NOT_IN_FORCE if decision is None else decision.refusal
    body = (record.value or b"") if decision is None else decision.body
    if row_digest(audited.salt, body) != row.digest:
        yield _finding(
            audited,
            "digest",
            "记录的内容不是当时裁决的内容",
            "the record is not the one that was decided",
        )
    if refusal != row.refusal:
        was, now = _named(row.refusal), _named(refusal)
        yield _finding(
            audited,
            "refusal",
            f"审计：{was[0]}；重新裁决：{now[0]}",
            f"audit: {was[1]}; decided again: {now[1]}",
        )
    if decision is None:
        return
    operation = RowOperation.UNKNOWN if refusal else RowOperation(decision.operation.number)
    for name, zh, same in (
        ("publisher", "发布方", decision.publisher == row.publisher),
        ("operation", "操作", operation == row.operation),
        ("tokens", "主体标识", decision.tokens == row.tokens),
    ):
        if not same:
            yield _finding(audited, name, f"{zh}与审计不同", f"{name} other than in the audit")
    if refusal is None and row.refusal is None:
        yield from _verdict_differences(decision, audited)


def _verdict_differences(decision: Decision, audited: Audited) -> Iterator[Finding]:
    now = _by_grant(decision, audited)
    was = {each.grant: each for each in audited.verdicts}
    for grant in sorted(now.keys() | was.keys()):
        told = was.get(grant)
        if told is not None and told.fate is Fate.DEFERRED:
            continue
        placed_then = told is not None and told.fate is Fate.PLACED
        then = told.reason if told is not None else None
        placed, reason = now.get(grant, (False, None))
        # Region and condition stand in no verdict: absence says one of them.
        again = None if reason in IMPLIED else reason
        if grant not in now or placed != placed_then or again != then:
            a, b = _fate(placed_then, then), _fate(placed, reason)
            if grant not in now:
                b = "该版清单没有此许可", "the list has no such grant"
            yield _finding(
                audited,
                "verdict",
                f"审计：{a[0]}；重新裁决：{b[0]}",
                f"audit: {a[1]}; decided again: {b[1]}",
                grant,
            )


def _by_grant(decision: Decision, audited: Audited) -> Mapping[str, tuple[bool, Reason | None]]:
    found: dict[str, tuple[bool, Reason | None]]
    found = {each.grant: (False, each.reason) for each in decision.withheld}
    found.update((each.grant, (True, None)) for each in decision.placements)
    if audited.loading:
        return {grant: fate for grant, fate in found.items() if grant == audited.loading}
    return found


def _told(decision: Decision, audited: Audited) -> Iterator[Statement]:
    if decision.refusal is not None:
        zh, en = _named(decision.refusal)
        at = f" ({decision.path})" if decision.path else ""
        yield Statement(f"重新裁决：{zh}{at}", f"decided again: {en}{at}")
        return
    for grant, (placed, reason) in sorted(_by_grant(decision, audited).items()):
        zh, en = _fate(placed, reason)
        yield Statement(f"许可 {grant}：{zh}", f"grant {grant}: {en}")


def _not_checked(audited: Audited) -> Iterator[Statement]:
    yield Statement(
        "是否重复提交（取自审计：只有当时分道的记忆知道）",
        "whether it is a repeat (taken from the audit: only the lane's memory knew)",
    )
    deferred = [each.grant for each in audited.verdicts if each.fate is Fate.DEFERRED]
    if deferred:
        names = ", ".join(deferred)
        yield Statement(
            f"暂缓的许可 {names}：由补装游标裁决（--loading）",
            f"deferred grants {names}: their loading cursors decide (--loading)",
        )
    yield Statement("投放的内容（由投放链证明）", "what was placed (the delivery chain proves it)")


def _fate(placed: bool, reason: Reason | None) -> tuple[str, str]:
    if placed:
        return "投放", "placed"
    if reason is None:
        return "未投放，因区划或条件", "not placed, by region or condition"
    return f"未投放，{reason.zh}", f"not placed, {reason.en}"


def _named(refusal: Reason | None) -> tuple[str, str]:
    if refusal is None:
        return "未退回", "not refused"
    return f"整条退回，{refusal.zh}", f"refused, {refusal.en}"


def _finding(audited: Audited, code: str, zh: str, en: str, grant: str | None = None) -> Finding:
    return Finding(
        code,
        Statement(zh, en),
        lane=audited.lane,
        block=audited.block,
        offset=audited.row.offset,
        grant=grant,
    )
