"""`shutong audit …`: verify what the bus says it did."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from shutong_auditor.copyexport import export_copy
from shutong_auditor.copyfiles import About, AuditCopy
from shutong_auditor.copyverdict import CopyVerdict
from shutong_auditor.copyverify import verify_copy
from shutong_auditor.kafka_verdict import KafkaVerdict
from shutong_auditor.kafka_verify import verify_kafka
from shutong_cli import proof_commands, question_commands, subject_command, use_commands
from shutong_cli.history import read_history
from shutong_cli.onrecord import on_record
from shutong_cli.output import AsJson, console, examples, new_app, print_json, safe, say
from shutong_cli.reading import read_in_force
from shutong_cli.session import open_session
from shutong_core.audit.acts import ActName
from shutong_core.domain.errors import Rejected
from shutong_core.runtime.cluster import bus_name, existing_topics
from shutong_core.runtime.lifecycle import EXIT_FATAL
from shutong_core.runtime.node import Node, bus_codec

app = new_app("审计：校验总线的记录。 The audit: verify what the bus did.")
proof_commands.register(app)
question_commands.register(app)
subject_command.register(app)
use_commands.register(app)


@app.callback()
def audit() -> None:
    """审计：校验总线的记录。 The audit: verify what the bus did."""


@app.command(
    epilog=examples(
        "shutong audit verify --kafka",
        "shutong audit verify --kafka --level 1 --json",
        "shutong audit verify --kafka --grant births-police",
        "shutong audit verify ./copy --trust bus.trust.json --known witness.note",
    )
)
def verify(
    copy: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="审计副本 An audit copy.")
    ] = None,
    trust: Annotated[
        Path | None, typer.Option("--trust", metavar="FILE", help="信任包 Trust bundle.")
    ] = None,
    known: Annotated[
        list[Path] | None,
        typer.Option("--known", metavar="FILE", help="另存的检查点 Checkpoints kept elsewhere."),
    ] = None,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="从 Kafka 校验 Verify from Kafka.")
    ] = False,
    level: Annotated[
        int, typer.Option(min=1, max=2, help="1 块链 chain of blocks; 2 另校验投放 deliveries too.")
    ] = 2,
    grant: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="只校验这些许可 Only these grants.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """校验审计：块链、块体、计数、分道状态；第二级逐条重算投放链。

    Verify the audit, of a bus (--kafka, which may go on meanwhile) or of an audit copy (DIR with
    --trust: also trees, signed checkpoints, receipts). Level 1: chain of blocks, bodies, counts.
    Level 2 also computes every delivery chain anew. Says what was not checked. Exit code 1 if
    something is wrong.
    """
    if copy is not None and trust is not None:
        _verify_copy(copy, trust, known or [], level, as_json=as_json)
        return
    if not kafka or copy is not None:
        raise Rejected(
            "请说明校验什么：--kafka，或副本目录与 --trust。"
            " Say what to verify: `--kafka`, or the directory of a copy with `--trust`."
        )
    verdict = asyncio.run(_verify(level, grant))
    if as_json:
        print_json(_json(verdict, level))
    else:
        for language in ("zh", "en"):
            console().print(safe(verdict.text(language)))
    if not verdict.ok:
        raise typer.Exit(EXIT_FATAL)


@app.command(
    epilog=examples("shutong audit export ./copy", "shutong audit export ./copy --no-trees")
)
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="新目录 A new directory.")],
    trees: Annotated[
        bool, typer.Option("--trees/--no-trees", help="含审计树 With the auditor's trees.")
    ] = True,
) -> None:
    """导出审计副本：可在别处离线校验，含投放主题中的数据，须同等保管。

    Write an audit copy to be verified elsewhere: blocks, access events, checkpoints, receipts,
    trees, and the delivery topics as they are kept, so keep it as well as those. With the trees
    where the auditor has run on this data directory. The bus may go on meanwhile.
    """
    node = open_session()
    trees_of = node.settings.data_dir if trees else None
    about = asyncio.run(_export(node, directory, trees_of))
    say(
        f"总线 {about.cluster} 的审计副本已写入 {directory}（{about.lanes} 条分道）",
        f"the audit copy of bus {about.cluster} is in {directory} ({about.lanes} lanes)",
    )


async def _export(node: Node, directory: Path, trees_of: Path | None) -> About:
    cluster = await bus_name(node.client, node.settings.prefix)
    await on_record(node, ActName.AUDIT_EXPORT, "audit")
    return await export_copy(node.client, node.topics, node.codec, cluster, directory, trees_of)


def _verify_copy(
    directory: Path, trust: Path, known: list[Path], level: int, *, as_json: bool
) -> None:
    notes = [proof_commands.read_note(path) for path in known]
    verdict = verify_copy(
        AuditCopy(directory), proof_commands.read_trust(trust), bus_codec(), notes, level=level
    )
    if as_json:
        print_json(
            {**_said(verdict, level), "totals": asdict(verdict.totals), "events": verdict.events}
        )
    else:
        for language in ("zh", "en"):
            console().print(safe(verdict.text(language)))
    if not verdict.ok:
        raise typer.Exit(EXIT_FATAL)


async def _verify(level: int, grants: list[str] | None) -> KafkaVerdict:
    node = open_session()
    if grants:
        await _require(node, grants)
    lists = {step.number: step.digest for step in await read_history(node)}
    return await verify_kafka(
        node.client,
        node.topics,
        node.codec,
        cluster=await bus_name(node.client, node.settings.prefix),
        lists=lists,
        grants=grants,
        deliveries=level > 1,
    )


async def _require(node: Node, grants: list[str]) -> None:
    """Raises Rejected for a grant that neither the list nor a delivery topic knows."""
    version, _ = await read_in_force(node)
    # A grant that an earlier list had can still be verified: its topic stays for its term.
    names = await existing_topics(node.client, node.topics.prefix)
    there = {node.topics.grant_of(name) for name in names}
    for grant in grants:
        if version.grant(grant) is None and grant not in there:
            raise Rejected(
                f"清单 {version.number} 中没有许可 {grant}。"
                f" List {version.number} has no grant {grant}: see `shutong list show grant`."
            )


def _json(verdict: KafkaVerdict, level: int) -> dict[str, Any]:
    return {
        **_said(verdict, level),
        "totals": asdict(verdict.totals),
        "placed": verdict.placed,
        "delivered": verdict.delivered,
    }


def _said(verdict: KafkaVerdict | CopyVerdict, level: int) -> dict[str, Any]:
    return {
        "ok": verdict.ok,
        "level": level,
        "cluster": verdict.cluster,
        "findings_count": verdict.findings_count,
        "findings": [
            {"code": each.code, "where": each.where, "zh": each.text.zh, "en": each.text.en}
            for each in verdict.findings
        ],
        "checked": [asdict(each) for each in verdict.checked],
        "not_checked": [asdict(each) for each in verdict.not_checked],
    }
