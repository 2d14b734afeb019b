"""`shutong list …`: check, publish, show and compare the responsibility list."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from shutong_cli.history import read_history
from shutong_cli.listview import (
    differences,
    differences_json,
    moment,
    problems_json,
    report_json,
    row_json,
    row_line,
    say_report,
)
from shutong_cli.output import (
    AsJson,
    console,
    examples,
    new_app,
    print_json,
    print_table,
    safe,
    say,
)
from shutong_cli.publishing import foresee, list_check, now_ms, publish_list_file
from shutong_cli.reading import read_in_force
from shutong_cli.session import open_session
from shutong_control.draftfile import read_draft
from shutong_control.publish import prepare
from shutong_core.domain.errors import Rejected
from shutong_core.domain.findings import ListRefused
from shutong_core.domain.version import ROW_TYPES
from shutong_core.runtime.lifecycle import EXIT_REJECTED
from shutong_core.wire.schemarecords import Registry

app = new_app("责任清单：检查、发布、查看、比较。 The responsibility list: check, publish, show.")
ListFile = Annotated[Path, typer.Argument(metavar="FILE", help="清单文件 List file (YAML).")]


@app.command(epilog=examples("shutong list check list.yaml", "shutong list check list.yaml --json"))
def check(file: ListFile, as_json: AsJson = False) -> None:
    """检查清单文件，不需要 Kafka。

    Check a list file and its schemas without Kafka, as the first list. Every problem is named
    with its line; exit code 2 if there is any.
    """
    node = open_session()
    try:
        draft = read_draft(file)
        check_rows = list_check(node.table, lambda: None)
        prepare(draft, Registry(), None, node.topics, check_rows, now_ms())
    except ListRefused as refused:
        if not as_json:
            raise
        print_json({"ok": False, "problems": problems_json(refused.problems)})
        raise typer.Exit(EXIT_REJECTED) from None
    if as_json:
        print_json({"ok": True, "problems": []})
    else:
        count = len(draft.file.rows)
        say(f"{file}：{count} 行，未发现问题", f"{file}: {count} rows, no problem found")


@app.command(epilog=examples("shutong list publish list.yaml", "shutong list publish list.yaml -n"))
def publish(
    file: ListFile,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "-n", help="只说明将改变什么 Change nothing, only say what."),
    ] = False,
    overrule: Annotated[
        bool,
        typer.Option(
            "--overrule",
            help="取代未受信任密钥伪造的清单 Replace a list forged under a key not trusted here.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """发布清单：检查、登记模式、建主题、签名写入，等到 Kafka 确认生效。

    Put a list in force: check it, register its schemas, make its topics, sign it, write it, wait
    until Kafka confirms it. A file that says what is in force already changes nothing. The first
    publishing makes the keyring: back it up.
    """
    report = asyncio.run(publish_list_file(open_session(), file, dry_run, overrule=overrule))
    if as_json:
        print_json(report_json(report))
    else:
        say_report(report)


@app.command(epilog=examples("shutong list diff list.yaml", "shutong list diff list.yaml --json"))
def diff(file: ListFile, as_json: AsJson = False) -> None:
    """比较清单文件与生效的清单，逐字段。

    Compare a list file with the list in force, field by field. Changes nothing.
    """
    node = open_session()
    prepared, version = asyncio.run(foresee(node, read_draft(file)))
    if as_json:
        print_json(differences_json(prepared))
    elif prepared is None:
        say(f"与清单 {version.number} 相同", f"the same as list {version.number}")
    else:
        out = console()
        for line in differences(prepared):
            out.print(safe(line))


@app.command(
    epilog=examples(
        "shutong list show", "shutong list show grant", "shutong list show grant --json"
    )
)
def show(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help=f"行类 One of: {', '.join(ROW_TYPES)}.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """显示生效的清单；给出行类则列出该类各行。

    Show the list in force: how many rows of each kind, or the rows of one kind.
    """
    if kind is not None and kind not in ROW_TYPES:
        raise Rejected(
            f"没有行类 {kind}。 There is no kind {kind}: choose one of {', '.join(ROW_TYPES)}."
        )
    version, _ = asyncio.run(read_in_force(open_session()))
    rows = [row for _, row in sorted(version.rows.items()) if kind in (None, row.kind)]
    if as_json:
        head = {"number": version.number, "digest": version.digest.hex()}
        print_json(
            head | {"effective": moment(version.effective_ms), "rows": [row_json(r) for r in rows]}
        )
        return
    say(
        f"清单 {version.number}，{moment(version.effective_ms)} 生效",
        f"list {version.number}, hash {version.digest.hex()}",
    )
    if kind is None:
        counts = [(name, len(version.of(model))) for name, model in ROW_TYPES.items()]
        print_table(("行类 kind", "行数 rows"), counts)
    else:
        print_table(
            ("编号 id", "内容 what", "详情 details"), (row_line(row, version) for row in rows)
        )


@app.command(epilog=examples("shutong list history", "shutong list history --json"))
def history(as_json: AsJson = False) -> None:
    """列出每一版清单：编号、哈希、生效时间、改动行数。

    List every version that was published: number, hash, moment, how many rows it changed.
    """
    steps = asyncio.run(read_history(open_session()))
    found: list[dict[str, Any]] = [
        {
            "number": step.number,
            "digest": step.digest.hex(),
            "effective": moment(step.effective_ms),
            "rows": step.rows,
            "changed": step.changed,
        }
        for step in steps
    ]
    if as_json:
        print_json(found)
        return
    heads = ("清单 number", "哈希 hash", "生效 effective", "行数 rows", "改动 changed")
    print_table(heads, (tuple(each.values()) for each in found))
