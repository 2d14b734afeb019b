"""`shutong audit …`: verify what the bus says it did."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from shutong_auditor.copyexport import export_copy
from shutong_auditor.copyfiles import About, AuditCopy, DeliveryFiles
from shutong_auditor.copyverdict import CopyVerdict
from shutong_auditor.copyverify import Own, verify_copy
from shutong_auditor.kafka_trees import Signed
from shutong_auditor.kafka_verdict import KafkaVerdict
from shutong_auditor.kafka_verify import verify_kafka
from shutong_cli import (
    proof_commands,
    question_commands,
    replay_command,
    subject_command,
    use_commands,
)
from shutong_cli.history import read_history
from shutong_cli.onrecord import on_record
from shutong_cli.output import AsJson, console, examples, new_app, print_json, safe, say
from shutong_cli.reading import read_in_force
from shutong_cli.session import open_session
from shutong_cli.verdictview import verdict_json
from shutong_core.audit.acts import ActName
from shutong_core.domain.errors import Rejected
from shutong_core.runtime.cluster import bus_name, existing_topics
from shutong_core.runtime.lifecycle import EXIT_FATAL
from shutong_core.runtime.node import Node, bus_codec

app = new_app("审计：校验总线的记录。 The audit: verify what the bus did.")
proof_commands.register(app)
question_commands.register(app)
subject_command.register(app)
replay_command.register(app)
use_commands.register(app)


@app.callback()
def audit() -> None:
    """审计：校验总线的记录。 The audit: verify what the bus did."""


@app.command(
    epilog=examples(
        "shutong audit verify --kafka",
        "shutong audit verify --kafka --level 1 --json",
        "shutong audit verify --kafka --grant births-police",
        "shutong audit verify --kafka --trust bus.trust.json --known witness.note",
        "shutong audit verify ./copy --trust bus.trust.json --known witness.note",
        "shutong audit verify ./copy --trust bus.trust.json --own ./my-records",
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
    trees: Annotated[
        Path | None,
        typer.Option("--trees", metavar="DIR", help="树文件，auditor/trees Tree files of --kafka."),
    ] = None,
    own: Annotated[
        Path | None,
        typer.Option("--own", metavar="DIR", help="本部门存下的记录 A subscriber's own records."),
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="--own 主题的分区数 Partitions of its topics.")
    ] = None,
    late: Annotated[
        bool, typer.Option("--late", help="--own 不从首条开始 They begin later than record 1.")
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

    Verify the audit, of a bus (--kafka, which may go on meanwhile; with --trust also trees, signed
    checkpoints, access events) or of an audit copy (DIR with --trust: also receipts; with --own,
    files delivery/<grant>/<partition>.records that a subscriber kept against its blocks). Level 1:
    chain of blocks, bodies, counts. Level 2 also computes every delivery chain anew. Says what was
    not checked. Exit code 1 if something is wrong.
    """
    if copy is not None and trust is not None:
        mine = None if own is None else Own(DeliveryFiles(own), partitions, not late)
        _verify_copy(copy, trust, known or [], level, mine, as_json=as_json)
        return
    if own is not None:
        raise Rejected("--own 须有审计副本与 --trust。 --own needs an audit copy and --trust.")
    if not kafka or copy is not None:
        raise Rejected(
            "请说明校验什么：--kafka，或副本目录与 --trust。"
            " Say what to verify: `--kafka`, or the directory of a copy with `--trust`."
        )
    if trust is None and (trees is not None or known):
        raise Rejected("--trees 与 --known 须有 --trust。 --trees and --known need --trust.")
    with TemporaryDirectory(prefix="shutong-trees-") as scratch:
        signed = None if trust is None else _signed(trust, trees, known or [], level, scratch)
        verdict = asyncio.run(_verify(level, grant, signed))
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
    directory: Path,
    trust: Path,
    known: list[Path],
    level: int,
    own: Own | None,
    *,
    as_json: bool,
) -> None:
    notes = [proof_commands.read_note(path) for path in known]
    verdict = verify_copy(
        AuditCopy(directory),
        proof_commands.read_trust(trust),
        bus_codec(),
        notes,
        level=level,
        own=own,
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


def _signed(trust: Path, trees: Path | None, known: list[Path], level: int, scratch: str) -> Signed:
    if trees is not None and not trees.is_dir():
        raise Rejected(f"{trees}: 没有这个目录。 There is no such directory.")
    notes = [proof_commands.read_note(path) for path in known]
    bundle = proof_commands.read_trust(trust)
    return Signed(bundle, trees, Path(scratch), notes, compute=level > 1)


async def _verify(level: int, grants: list[str] | None, signed: Signed | None) -> KafkaVerdict:
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
        signed=signed,
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
    return {"level": level, "cluster": verdict.cluster, **verdict_json(verdict)}
