"""What the verification of an audit copy says: figures, what was checked, what was not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from shutong_core.audit.verdict import Statement, Verdict
from shutong_core.audit.verify import Totals


@dataclass(slots=True)
class CopyVerdict(Verdict):
    """The verdict with its figures."""

    cluster: str = ""
    totals: Totals = field(default_factory=Totals)
    events: int = 0
    checkpoints: int = 0
    agreed: int = 0  # places where a tree agreed with a signed checkpoint
    delivered: int = 0
    receipts: int = 0


@dataclass(slots=True)
class Limits:
    """What limits the verdict's reach; names are those of files of the copy."""

    known: int = 0  # checkpoints kept elsewhere that were given
    uncovered: int = 0  # leaves after the newest checkpoints
    no_body: int = 0
    thinned: bool = False  # chain values at some block ends were not kept
    no_tree: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)


def tell(verdict: CopyVerdict, limits: Limits, lanes: int, level: int) -> None:
    """Adds what was checked, what was not."""
    totals = verdict.totals
    verdict.checked.append(
        Statement(
            f"第一级：{lanes} 条分道、{totals.blocks} 块（{totals.bodies} 个块体）、"
            f"{totals.rows} 条记录；{verdict.events} 条访问事件；"
            f"{verdict.agreed} 处与已签名的检查点一致（其中另存 {limits.known} 份）",
            f"level 1: {lanes} lanes, {totals.blocks} blocks ({totals.bodies} bodies),"
            f" {totals.rows} rows; {verdict.events} access events; trees agree with signed"
            f" checkpoints at {verdict.agreed} places ({limits.known} kept elsewhere)",
        )
    )
    if level > 1:
        records, receipts = verdict.delivered, verdict.receipts
        verdict.checked.append(
            Statement(
                f"第二级：各行的根、{records} 条已投放记录的链、{receipts} 份回执",
                f"level 2: row roots, chains of {records} placed records, {receipts} receipts",
            )
        )
    verdict.not_checked += _not_checked(limits, level)


def _not_checked(limits: Limits, level: int) -> Iterator[Statement]:
    if level == 1:
        yield Statement("第二级：行的根、投放、回执", "level 2: row roots, deliveries, receipts")
    if limits.no_tree:
        names = ", ".join(limits.no_tree)
        yield Statement(
            f"{names} 的树（缺早期的条目）",
            f"the trees of {names} against their checkpoints (earlier leaves are not there)",
        )
    if limits.thinned:
        yield Statement(
            "部分中间块末的链值（末块已比对）", "chain values at some block ends in between"
        )
    if limits.late:
        names = ", ".join(sorted(set(limits.late)))
        yield Statement(f"{names} 中早于副本的记录", f"records of {names} before the copy")
    if limits.no_body:
        count = limits.no_body
        yield Statement(f"{count} 个未保存的块体", f"{count} bodies that were not kept")
    if limits.uncovered:
        count = limits.uncovered
        yield Statement(
            f"最新检查点之后的 {count} 条：末尾被截去不会显出",
            f"{count} leaves after the newest checkpoints: a cut-off end would not show there",
        )
    if not limits.known:
        yield Statement(
            "另存的检查点（--known）：无此则整份旧快照看似完好",
            "checkpoints kept elsewhere (--known): without one an old snapshot looks healthy",
        )
    yield Statement("输入记录与行摘要", "input records against the row digests")
