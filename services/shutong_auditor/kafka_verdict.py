"""What a verification from Kafka says: its figures, and plainly what it did not check."""

from __future__ import annotations

from dataclasses import dataclass, field

from shutong_core.audit.verdict import Statement, Verdict
from shutong_core.audit.verify import Anchor, Totals


@dataclass(slots=True)
class KafkaVerdict(Verdict):
    """The verdict with its figures; `placed` is grant → records that the audit says were placed."""

    cluster: str = ""
    totals: Totals = field(default_factory=Totals)
    placed: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)  # grant → records in its topic
    last_blocks: dict[int, Anchor] = field(default_factory=dict)  # by lane


@dataclass(slots=True)
class Limits:
    """What limits the verdict's reach."""

    cluster_given: bool
    lists_given: bool = False
    cut: list[int] = field(default_factory=list)  # lanes whose early blocks are gone
    offsets_missing: int = 0
    past_term: int = 0  # delivery partitions whose first records are gone
    compared: int = 0  # block ends at which a delivery chain was compared
    thinned: bool = False
    trees: bool = False  # held against signed checkpoints, which tell for themselves


def tell(verdict: KafkaVerdict, limits: Limits, *, deliveries: bool) -> None:
    """Adds what was checked, what was not."""
    totals, lanes = verdict.totals, len(verdict.last_blocks)
    verdict.checked.append(
        Statement(
            f"第一级：{lanes} 条分道、{totals.blocks} 块（{totals.bodies} 个块体）、"
            f"{totals.rows} 条记录：序号、哈希链、块体哈希、计数、投放序号、分道状态、消费偏移",
            f"level 1: {lanes} lanes, {totals.blocks} blocks ({totals.bodies} bodies),"
            f" {totals.rows} rows: sequence, hash chain, body hashes, counts, grant sequences,"
            " lane state, input offsets",
        )
    )
    if deliveries:
        grants, records = len(verdict.delivered), sum(verdict.delivered.values())
        verdict.checked.append(
            Statement(
                f"第二级（投放）：{grants} 个许可的 {records} 条已投放记录，逐条重算投放链，"
                f"在 {limits.compared} 个块末与审计比对，并比对条数",
                f"level 2 (deliveries): {records} placed records of {grants} grants, delivery"
                f" chains computed anew, compared with the audit at {limits.compared} block ends,"
                " counts compared",
            )
        )
    verdict.not_checked.extend(_not_checked(limits, deliveries=deliveries))


def _not_checked(limits: Limits, *, deliveries: bool) -> list[Statement]:
    told = []
    if not deliveries:
        told.append(Statement("投放主题", "delivery topics"))
    if not limits.lists_given:
        told.append(
            Statement(
                "清单摘要与已签名清单是否一致（未提供清单；各块之间一致已查）",
                "list digests against the signed lists (none given; that blocks agree is checked)",
            )
        )
    if not limits.cluster_given:
        told.append(
            Statement("总线名称（取自首块）", "name of the bus (taken from its first block)")
        )
    if limits.cut:
        lanes = ", ".join(map(str, limits.cut))
        told.append(
            Statement(
                f"分道 {lanes} 已按期限截去的早期块",
                f"earlier blocks of lanes {lanes}, cut by their term",
            )
        )
    if limits.offsets_missing:
        told.append(
            Statement(
                f"{limits.offsets_missing} 个输入没有已提交的消费偏移（空闲七日后过期）",
                f"{limits.offsets_missing} inputs without a committed offset (expire when idle)",
            )
        )
    if limits.past_term:
        told.append(
            Statement(
                f"{limits.past_term} 个投放分区中已过保存期的记录",
                f"records past their term in {limits.past_term} delivery partitions",
            )
        )
    if limits.thinned:
        told.append(
            Statement(
                "部分中间块末的链值（末块已比对）", "chain values at some block ends in between"
            )
        )
    if not limits.trees:
        told.append(
            Statement(
                "见证检查点（--trust）：防范能改写全部主题者，须与检查点或部门回执对照",
                "witnessed checkpoints (--trust): against whoever can rewrite all topics, compare"
                " with a checkpoint or an agency's receipt",
            )
        )
    told.append(Statement("输入记录与行摘要", "input records against the row digests"))
    return told
