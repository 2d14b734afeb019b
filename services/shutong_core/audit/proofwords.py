"""Says in words what a proof of one record proves, and what it does not."""

from __future__ import annotations

from datetime import UTC, datetime

from shutong_core.audit.proof import Proved
from shutong_core.audit.rowtree import Fate, RowVerdict
from shutong_core.audit.verdict import Statement, Verdict


def proof_verdict(proved: Proved, grant: str | None = None) -> Verdict:
    """The verdict on a proof that holds; with `grant`, also on a grant the row does not name."""
    verdict = Verdict()
    verdict.checked += [_where(proved), _by_what(proved), _under(proved)]
    row = proved.row
    if row.refusal is not None:
        zh, en = row.refusal.zh, row.refusal.en
        verdict.checked.append(
            Statement(f"整条记录被退回：{zh}", f"the record was refused as a whole: {en}")
        )
    told = [each for each in row.verdicts if grant in (None, each.grant)]
    verdict.checked += map(_fate, told)
    if row.refusal is None and grant is not None and not told:
        verdict.checked.append(
            Statement(
                f"许可 {grant}：未投放，因区划不在范围内或条件不满足（或清单中当时没有该许可）",
                f"grant {grant}: not placed, by region or condition (or the list had no such grant"
                " then)",
            )
        )
        verdict.not_checked.append(
            Statement(
                "区划与条件两者中的哪一个：须依该版清单重新裁决（shutong audit replay）",
                "which of region and condition: the record must be decided again by that list"
                " (`shutong audit replay`)",
            )
        )
    if any(each.fate is Fate.DEFERRED for each in told):
        verdict.not_checked.append(
            Statement(
                "暂缓的裁决：由补装游标的另一块给出",
                "the deferred verdict: another block, of the loading cursor, gives it",
            )
        )
    verdict.not_checked.append(
        Statement(
            "记录的内容：与发布方的接收回执对照（回执写有同一偏移与摘要）",
            "the record's content: compare with the publisher's intake receipt, which names the"
            " offset and a digest",
        )
    )
    if not proved.cosigned:
        verdict.not_checked.append(
            Statement("无见证人联署该检查点", "no trusted witness cosigned the checkpoint")
        )
    return verdict


def _where(proved: Proved) -> Statement:
    row, lane = proved.row, proved.header.lane
    loading = f"（许可 {row.loading} 的补装）" if row.loading else ""
    loaded = f" (loading of grant {row.loading})" if row.loading else ""
    return Statement(
        f"数据资源 {row.dataset}，分道 {lane}，输入偏移 {row.offset}，"
        f"发布方 {row.publisher or '未登记'}{loading}",
        f"dataset {row.dataset}, lane {lane}, input offset {row.offset}, publisher"
        f" {row.publisher or 'not registered'}, operation {row.operation.name.lower()}{loaded}",
    )


def _by_what(proved: Proved) -> Statement:
    header = proved.header
    at = datetime.fromtimestamp(header.decided_ms / 1000, UTC).isoformat(timespec="milliseconds")
    digest = header.list_digest.hex()
    return Statement(
        f"{at} 依责任清单第 {header.list_number} 版（摘要 {digest}）裁决",
        f"decided at {at} by list {header.list_number} (hash {digest})",
    )


def _under(proved: Proved) -> Statement:
    header, size = proved.header, proved.checkpoint.size
    by = ", ".join(proved.cosigned)
    zh = f"，见证人 {by} 联署" if by else ""
    en = f", cosigned by {by}" if by else ""
    return Statement(
        f"总线 {header.cluster} 分道 {header.lane} 第 {header.sequence} 块，"
        f"在审计方签名的 {size} 块检查点之内{zh}",
        f"block {header.sequence} of lane {header.lane} of bus {header.cluster}, in the checkpoint"
        f" of {size} blocks that its auditor signed{en}",
    )


def _fate(each: RowVerdict) -> Statement:
    if each.fate is Fate.PLACED:
        return Statement(
            f"许可 {each.grant}：已投放，为该分道第 {each.k} 条",
            f"grant {each.grant}: placed, as record {each.k} of this lane",
        )
    if each.fate is Fate.DEFERRED or each.reason is None:
        return Statement(f"许可 {each.grant}：暂缓", f"grant {each.grant}: deferred")
    return Statement(
        f"许可 {each.grant}：未投放，{each.reason.zh}",
        f"grant {each.grant}: not placed, {each.reason.en}",
    )
