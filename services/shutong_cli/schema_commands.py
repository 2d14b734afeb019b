"""`shutong schema …`: lint schemas of datasets, register them ahead of a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from shutong_cli.onrecord import command_actor
from shutong_cli.output import AsJson, console, examples, new_app, print_json, safe, say
from shutong_cli.publishing import now_ms
from shutong_cli.reading import following
from shutong_cli.session import open_session
from shutong_control.draftfile import read_bounded
from shutong_control.register import register_schema
from shutong_core.audit.access import Act
from shutong_core.audit.acts import ActName
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.actlog import act_batches
from shutong_core.runtime.cluster import ensure_topics, partitions_of
from shutong_core.runtime.lifecycle import EXIT_REJECTED
from shutong_core.runtime.node import Node
from shutong_core.runtime.transaction import Fenced
from shutong_core.wire.batches import RecordBatch
from shutong_core.wire.findings import TEXT_BYTES_MAX, Finding
from shutong_core.wire.lint import lint_schema
from shutong_core.wire.schemarecords import Registration
from shutong_core.wire.schemas import Schema, SchemaRefused, parse_schema_text
from shutong_core.wire.topics import control_specs

app = new_app("数据模式（Avro）：检查、登记。 Avro schemas: lint, register.")


@app.command(epilog=examples("shutong schema lint schemas/*.avsc", "shutong schema lint a.avsc"))
def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="模式文件 .avsc files.")],
    as_json: AsJson = False,
) -> None:
    """检查模式是否可用，逐条列出问题；有问题时退出码为 2。

    Check whether schemas are admitted. Every broken rule is named with its field; exit code 2 if
    there is any.
    """
    found = {file: _problems(file) for file in files}
    if as_json:
        print_json(
            [
                {
                    "file": str(file),
                    "ok": not problems,
                    "problems": [{"path": p.path, "zh": p.zh, "en": p.en} for p in problems],
                }
                for file, problems in found.items()
            ]
        )
    else:
        for file, problems in found.items():
            _say_problems(file, problems)
    if any(found.values()):
        raise typer.Exit(EXIT_REJECTED)


def _problems(file: Path) -> tuple[Finding, ...]:
    try:
        return lint_schema(read_bounded(file, TEXT_BYTES_MAX))
    except Rejected as error:
        return (Finding("", "文件无法使用", str(error)),)


def _say_problems(file: Path, problems: tuple[Finding, ...]) -> None:
    if not problems:
        say(f"{file}：可用", f"{file}: admitted")
    out = console()
    for each in problems:
        out.print(safe(f"{file}: {each.path or 'schema'}: {each.zh}。 {each.en}."))


@app.command(
    epilog=examples("shutong schema add births.avsc --subject shutong.inbound.births-value")
)
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="模式文件 An .avsc file.")],
    subject: Annotated[
        str,
        typer.Option(
            metavar="SUBJECT",
            help="主体：主题前缀.inbound.数据资源编号-value PREFIX.inbound.DATASET-value.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """登记一个模式，取得其编号。清单引用它之后才能用于发布记录。

    Register a schema and get its id. Records may use it once a list in force names it; publishing
    a list registers its schemas by itself.
    """
    try:
        schema = parse_schema_text(read_bounded(file, TEXT_BYTES_MAX))
    except SchemaRefused as refused:
        _say_problems(file, refused.findings)
        raise typer.Exit(EXIT_REJECTED) from None
    made, new = asyncio.run(_register(open_session(), subject, schema))
    if as_json:
        print_json(
            {
                "id": made.id,
                "guid": made.guid,
                "subject": made.subject,
                "version": made.version,
                "new": new,
            }
        )
        return
    zh, en = ("已登记", "registered") if new else ("早已登记", "was registered already")
    say(
        f"模式 {made.id}（{made.subject} 第 {made.version} 版）{zh}",
        f"schema {made.id}, version {made.version} of {made.subject}, {en}: GUID {made.guid}",
    )


async def _register(node: Node, subject: str, schema: Schema) -> tuple[Registration, bool]:
    node.keyring.signer("control")
    await ensure_topics(node.client, control_specs(node.topics, *node.settings.replication))
    async with following(node) as feed:
        try:
            return await register_schema(
                node.client, node.topics, feed, subject, schema, await _acts(node)
            )
        except Fenced as error:
            raise Retryable(
                "另一个发布者同时在写，本次未写入任何内容，请重新执行。"
                " Another writer came in between; nothing was written: run it again."
            ) from error


async def _acts(node: Node) -> Callable[[Registration], list[RecordBatch]]:
    """What is put on record with a registration: nothing before the first list."""
    topic = node.topics.access
    partitions = (await partitions_of(node.client, [topic])).get(topic, 0)

    def acts(made: Registration) -> list[RecordBatch]:
        detail = f"id {made.id}, version {made.version}"
        act = Act(now_ms(), command_actor(), ActName.SCHEMA_ADD.stored, made.subject, detail=detail)
        return act_batches("cli", topic, partitions, [act], node.codec.encode) if partitions else []

    return acts
