"""`shutong policy …`: what decides the records of a dataset, and the program that does it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from shutong_cli.output import AsJson, console, examples, new_app, print_json, safe
from shutong_cli.policyview import explain_dataset, explained_json, explained_lines
from shutong_cli.publishing import list_check, now_ms
from shutong_cli.reading import read_in_force
from shutong_cli.session import open_session
from shutong_control.draftfile import read_draft
from shutong_control.publish import prepare
from shutong_core.domain.errors import Rejected
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.node import Node
from shutong_core.wire.schemarecords import Registry
from shutong_core.wire.schemas import Schema

app = new_app("裁决规则：说明什么决定一条记录。 The policy: what decides a record.")


@app.callback()
def policy() -> None:
    """裁决规则：说明什么决定一条记录。 The policy: what decides a record."""


@app.command(
    epilog=examples(
        "shutong policy explain death-certificate",
        "shutong policy explain death-certificate --grant death-meizhou-insurance --json",
        "shutong policy explain death-certificate --file list.yaml",
    )
)
def explain(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="数据资源 Id of a dataset.")],
    grant: Annotated[
        str | None, typer.Option(metavar="ID", help="只说明此许可 Only this grant.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="LIST", help="清单文件，不需要 Kafka A list file, without Kafka."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """说明生效的清单如何裁决一个数据资源，并列出裁决程序。

    Show how the list in force (or, with --file, the list in a file) decides the records of a
    dataset: each grant with its items, masks, scope, condition and validity, then the generated
    source as the broker runs it. Keys are never read and never shown.
    """
    node = open_session()
    version, schemas = _from_file(node, file) if file else _in_force(node)
    told = explain_dataset(version, schemas, node.table, dataset, now_ms())
    if as_json:
        print_json(explained_json(told, grant))
        return
    out = console()
    for line in explained_lines(told, grant):
        out.print(safe(line))


def _in_force(node: Node) -> tuple[ListVersion, Mapping[int, Schema]]:
    version, registry = asyncio.run(read_in_force(node))
    return version, registry.schemas


def _from_file(node: Node, file: Path) -> tuple[ListVersion, Mapping[int, Schema]]:
    check = list_check(node.table, lambda: None)
    prepared = prepare(read_draft(file), Registry(), None, node.topics, check, now_ms())
    if prepared is None:
        raise Rejected(f"{file}：清单为空。 The list is empty.")
    return prepared.version, prepared.registry.schemas
