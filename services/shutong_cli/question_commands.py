"""`shutong audit index | search | matrix | reconcile | certificate`: what people ask the audit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Engine

from shutong_auditor.index.engine import open_index
from shutong_auditor.index.indexer import drop_index
from shutong_auditor.index.questions import LINES_MAX, SPLITS, Answer, Question, matrix, spans, sums
from shutong_auditor.reconcile import GrantDay, reconcile
from shutong_auditor.service import index_follower
from shutong_auditor.supply import certificate_body
from shutong_cli.onrecord import on_record
from shutong_cli.output import AsJson, examples, print_json, print_table, say
from shutong_cli.proof_commands import read_bytes, read_trust
from shutong_cli.reading import read_in_force
from shutong_cli.session import open_session
from shutong_cli.sheet import write_sheet
from shutong_core.audit.acts import ActName
from shutong_core.audit.certificate import (
    CERTIFICATE_BYTES_MAX,
    encode_certificate,
    parse_certificate,
)
from shutong_core.audit.rotation import SIGNER
from shutong_core.domain.errors import Rejected
from shutong_core.domain.regions import Level
from shutong_core.runtime.cluster import bus_name, partitions_of
from shutong_core.runtime.lifecycle import EXIT_FATAL
from shutong_core.runtime.node import Node

LEVELS = {
    Level.NATION: "国",
    Level.PROVINCE: "省",
    Level.CITY: "市",
    Level.COUNTY: "县",
    Level.TOWN: "镇",
}
_HEADS = {
    "day": "日 day",
    "month": "月 month",
    "list_number": "清单 list",
    "dataset": "数据资源 dataset",
    "grant_id": "许可 grant",
    "publisher": "发布方 publisher",
    "provider": "提供方 provider",
    "requester": "需求方 requester",
    "giver": "从 from",
    "receiver": "到 to",
    "direction": "方向 direction",
    "verdict": "裁决 verdict",
    "lane": "分道 lane",
    "sequence": "块 block",
    "count": "条数 records",
}
From = Annotated[
    str | None, typer.Option("--from", metavar="DAY", help="自某日 First day, China's time.")
]
To = Annotated[str | None, typer.Option("--to", metavar="DAY", help="至某日 Last day.")]
LevelName = Annotated[
    str | None, typer.Option(metavar="LEVEL", help="nation, province, city, county, town.")
]
File = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="写入 .csv 或 .xlsx Write a sheet.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the group `audit`."""
    app.command(epilog=examples("shutong audit index", "shutong audit index --rebuild"))(index)
    app.command(
        epilog=examples(
            "shutong audit search --by grant_id,verdict",
            "shutong audit search --organisation 11440000006940140P --by day,direction --json",
        )
    )(search)
    app.command("matrix", epilog=examples("shutong audit matrix --out matrix.xlsx"))(levels)
    app.command("reconcile", epilog=examples("shutong audit reconcile 2026-11-26"))(reconcile_day)
    app.command(epilog=examples("shutong audit certificate 11440000006940140P --from 2026-11-01"))(
        certificate
    )
    app.command(
        "check-certificate",
        epilog=examples("shutong audit check-certificate c.json --trust bus.trust.json"),
    )(check_certificate)


def index(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="由审计重建 Make it anew from the audit.")
    ] = False,
) -> None:
    """更新索引：由审计主题建立，可随时重建。

    Bring the index up to date from topic audit; the auditor service does so all the time. It can
    be made anew at any time, and is no evidence itself.
    """
    node = open_session()
    blocks = asyncio.run(_index(node, rebuild=rebuild))
    say(f"新入索引 {blocks} 块", f"{blocks} blocks were new to the index")


def search(
    by: Annotated[
        str, typer.Option(help=f"汇总的列 Columns to split by: {', '.join(SPLITS)}.")
    ] = "day,dataset,grant_id,verdict",
    first_day: From = None,
    last_day: To = None,
    organisation: Annotated[
        str | None, typer.Option(metavar="USCC", help="提供或需求 Giving or receiving.")
    ] = None,
    publisher: Annotated[str | None, typer.Option(metavar="USCC", help="发布方 Wrote.")] = None,
    provider: Annotated[str | None, typer.Option(metavar="USCC", help="提供方 Giving.")] = None,
    requester: Annotated[str | None, typer.Option(metavar="USCC", help="需求方 Receiving.")] = None,
    dataset: Annotated[str | None, typer.Option(metavar="ID", help="数据资源 Dataset.")] = None,
    grant: Annotated[str | None, typer.Option(metavar="ID", help="许可 Grant.")] = None,
    list_number: Annotated[int | None, typer.Option("--list", help="清单版本 List.")] = None,
    verdict: Annotated[
        str | None, typer.Option(help="placed、outside 或原因 or a reason, e.g. EXPIRED.")
    ] = None,
    direction: Annotated[str | None, typer.Option(help="方向，如 上行 Direction.")] = None,
    giver: LevelName = None,
    receiver: LevelName = None,
    limit: Annotated[int, typer.Option(min=1, max=LINES_MAX, help="行数 Lines.")] = 200,
    skip: Annotated[int, typer.Option(min=0, help="略过行数 Lines to skip.")] = 0,
    out: File = None,
    as_json: AsJson = False,
) -> None:
    """查询：谁给了谁多少条，因何未给，按任意列汇总。

    Ask the index: how many records went from whom to whom, or did not and why, split by any
    columns. `lane,sequence` name the blocks that prove it.
    """
    question = Question(
        first_day, last_day, organisation, provider, requester, dataset, grant, list_number,
        verdict, direction, _level(giver), _level(receiver), publisher,
    )  # fmt: skip
    columns = [each.strip() for each in by.split(",") if each.strip()]
    node = open_session()
    _show(node, sums(index_engine(node), question, columns, limit, skip), out, as_json=as_json)


def levels(
    first_day: From = None,
    last_day: To = None,
    organisation: Annotated[
        str | None, typer.Option(metavar="USCC", help="提供或需求 Giving or receiving.")
    ] = None,
    out: File = None,
    as_json: AsJson = False,
) -> None:
    """层级流向：月 × 从哪级 × 到哪级 × 方向，已投放条数。

    Flows between levels by month: nation, province, city, county, town, with their direction.
    """
    question = Question(first_day=first_day, last_day=last_day, organisation=organisation)
    node = open_session()
    _show(node, matrix(index_engine(node), question), out, as_json=as_json)


def reconcile_day(
    day: Annotated[str, typer.Argument(metavar="YYYY-MM-DD", help="北京时间 China's time.")],
    as_json: AsJson = False,
) -> None:
    """对账：当日审计与投放主题、回执逐许可比对，差异逐条列出。

    Reconcile one day: the audit against the delivery topics and receipts, grant by grant. Exit
    code 1 if anything differs; each difference is named.
    """
    node = open_session()
    found = asyncio.run(reconcile(node.client, node.topics, day, spans(index_engine(node), day)))
    wrong = [each for each in found if each.differences]
    if as_json:
        print_json({"day": day, "ok": not wrong, "grants": [_day_json(each) for each in found]})
    else:
        heads = (
            "许可 grant",
            "审计 audited",
            "主题 in topic",
            "签收 acknowledged",
            "差异 difference",
        )
        print_table(
            heads,
            [
                (each.grant, each.audited, each.in_topic, each.acknowledged, _said(each))
                for each in found
            ],
        )
        say(
            f"{day}：{len(found)} 个许可，{len(wrong)} 个有差异",
            f"{day}: {len(found)} grants, {len(wrong)} differ",
        )
    if wrong:
        raise typer.Exit(EXIT_FATAL)


def certificate(
    organisation: Annotated[str, typer.Argument(metavar="USCC", help="部门 Organisation.")],
    first_day: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD")],
    last_day: Annotated[str | None, typer.Option("--to", metavar="YYYY-MM-DD")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="写入文件 Write to a file.")
    ] = None,
) -> None:
    """免责凭证：某部门一段时间内供给了什么，由审计方签名。

    The supply certificate of a department: what it brought in and what went to whom, signed by the
    auditor. Run on the auditor's machine.
    """
    node = open_session()
    asked = (organisation, first_day, last_day or first_day)
    data = asyncio.run(_certificate(node, asked))
    if out is None:
        typer.echo(data.decode())
        return
    try:
        out.write_bytes(data)
    except OSError as error:
        raise Rejected(f"{out}: 无法写入 cannot be written ({error.strerror})") from None
    say(f"凭证已写入 {out}", f"the certificate is in {out}")


def check_certificate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="凭证 The certificate.")],
    trust: Annotated[Path, typer.Option("--trust", metavar="FILE", help="信任包 Trust bundle.")],
) -> None:
    """校验免责凭证的签名，并显示其内容。

    Check the signature of a supply certificate and show what it says.
    """
    bundle = read_trust(trust)
    data = read_bytes(file, CERTIFICATE_BYTES_MAX)
    body = parse_certificate(data, bundle.cluster, bundle.auditor)
    who, days = f"{body['name']} {body['organisation']}", (body["first_day"], body["last_day"])
    say(
        f"签名有效：{who}，{days[0]} 至 {days[1]}",
        f"the signature holds: {who}, {days[0]} to {days[1]}",
    )
    print_table(
        ("数据资源 dataset", "结果 outcome", "条数 records"),
        [(each["dataset"], each["outcome"], each["records"]) for each in body["intakes"]],
    )
    print_table(
        ("许可 grant", "需求方 requester", "已投放 placed"),
        [(each["grant"], each["requester"], each["records"]) for each in body["placed"]],
    )


async def _index(node: Node, *, rebuild: bool) -> int:
    cluster = await bus_name(node.client, node.settings.prefix)
    lanes = (await partitions_of(node.client, [node.topics.audit])).get(node.topics.audit, 0)
    if not lanes:
        raise Rejected("没有审计主题。 There is no topic audit: is this the right prefix?")
    engine = index_engine(node)
    if rebuild:
        drop_index(engine, cluster)
    return await index_follower(node, engine, cluster, lanes).run_once()


async def _certificate(node: Node, asked: tuple[str, str, str]) -> bytes:
    version, _ = await read_in_force(node)
    cluster = await bus_name(node.client, node.settings.prefix)
    body = certificate_body(
        index_engine(node), version, cluster, node.settings.data_dir, asked, int(time.time() * 1000)
    )
    days = f"{asked[1]} to {asked[2]}"
    await on_record(node, ActName.AUDIT_CERTIFY, f"organisation/{asked[0]}", days)
    signer = node.keyring.signer(SIGNER)
    return encode_certificate(body, signer.key_id, signer.sign)


def index_engine(node: Node) -> Engine:
    """The index of this node."""
    settings = node.settings.auditor
    return open_index(settings.index_url, node.settings.data_dir, settings.index_password_file)


def _level(text: str | None) -> Level | None:
    return None if text is None else Level.named(text)


def _show(node: Node, answer: Answer, out: Path | None, *, as_json: bool) -> None:
    if out is not None:
        asyncio.run(on_record(node, ActName.AUDIT_SHEET, "question/audit", str(out.suffix)))
        write_sheet(out, [_HEADS[each] for each in answer.columns], _words(answer))
        say(f"{len(answer.lines)} 行已写入 {out}", f"{len(answer.lines)} lines are in {out}")
    elif as_json:
        lines = [dict(zip(answer.columns, line, strict=True)) for line in answer.lines]
        print_json({"lines": lines, "more": answer.more})
    else:
        print_table([_HEADS[each] for each in answer.columns], _words(answer))
    if answer.more and not as_json:
        say("还有更多行：用 --limit、--skip", "there are more lines: use --limit and --skip")


def _words(answer: Answer) -> Iterable[Sequence[Any]]:
    levels = {n for n, each in enumerate(answer.columns) if each in ("giver", "receiver")}
    for line in answer.lines:
        yield [LEVELS[Level(each)] if n in levels else each for n, each in enumerate(line)]


def _said(day: GrantDay) -> str:
    return "; ".join(f"{zh} {en}" for zh, en in day.differences) or "0"


def _day_json(day: GrantDay) -> dict[str, Any]:
    return {
        "grant": day.grant,
        "audited": day.audited,
        "in_topic": day.in_topic,
        "acknowledged": day.acknowledged,
        "differences": [{"zh": zh, "en": en} for zh, en in day.differences],
    }
