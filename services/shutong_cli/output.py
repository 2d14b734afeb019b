"""What commands say: text for people on a terminal, JSON for programs, faults with exit codes.

Results go to stdout, everything else to stderr. Light to import: every command loads it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

#: Terminal control and bidirectional characters, which text from files must not bring in.
_CONTROL = {
    code: f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if code not in (0x09, 0x0A)
}

#: Options of the commands that a publisher runs against the producer service.
KeyFile = Annotated[
    Path, typer.Option(metavar="FILE", help="存有接口密钥的文件 Holds the API key.")
]
ProducerUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="接入服务，默认本机 Producer service, default here."),
]
#: Coordinates of one input record, as its intake receipt names them.
DatasetId = Annotated[str, typer.Option("--dataset", "-d", metavar="ID", help="数据资源 Dataset.")]
LaneNumber = Annotated[
    int, typer.Option("--lane", "-l", min=0, help="分道 Lane (inbound partition).")
]
InputOffset = Annotated[int, typer.Option("--offset", "-o", min=0, help="输入偏移 Input offset.")]
LoadingGrant = Annotated[
    str, typer.Option(metavar="GRANT", help="该许可补装游标的裁决 Of its loading cursor.")
]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON Print JSON.")]


def new_app(text: str | None = None) -> typer.Typer:
    """A Typer app of a command, or, with its help `text`, of a group of commands."""
    return typer.Typer(
        help=text,
        no_args_is_help=text is not None,
        add_completion=False,
        rich_markup_mode="markdown",
    )


def examples(*lines: str) -> str:
    """An epilog that shows command lines."""
    return "\n\n".join(["例 Examples:", *(f"  {line}" for line in lines)])


def console(*, stderr: bool = False) -> Console:
    """A console on the current stdout or stderr that never takes text for markup."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


def say(zh: str, en: str) -> None:
    """One result for people."""
    console().print(safe(f"{zh}。 {en}."))


def note(zh: str, en: str) -> None:
    """Something to know, on stderr: it must not get into a pipe."""
    console(stderr=True).print(safe(f"{zh}。 {en}."), style="yellow")


def print_json(value: Any) -> None:
    """`value` as JSON on stdout, for programs."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people."""
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(safe(str(cell)) for cell in row))
    wide = console()
    if not wide.is_terminal:
        wide.width = 240  # a file has no width to fit into
    wide.print(table)


def safe(text: str) -> str:
    """`text` without characters that steer a terminal."""
    return text.translate(_CONTROL)


def explain(error: Exception) -> int:
    """Say what went wrong on stderr; returns the exit code."""
    # Late: the error classes' package is light, logs and lifecycle are not, and help needs none.
    from shutong_core.domain.errors import Rejected, Retryable, ShutongError  # noqa: PLC0415
    from shutong_core.runtime.lifecycle import (  # noqa: PLC0415
        EXIT_DEFECT,
        EXIT_FATAL,
        EXIT_REJECTED,
        EXIT_RETRY,
    )

    out = console(stderr=True)
    if isinstance(error, Rejected):
        title, code = "未通过 Refused", EXIT_REJECTED
    elif isinstance(error, Retryable):
        title, code = "暂时无法完成，请稍后重试 Not now, try again", EXIT_RETRY
    elif isinstance(error, ShutongError):
        title, code = "无法继续 Cannot go on", EXIT_FATAL
    else:
        _log_defect(error)
        out.print(
            f"程序缺陷，请报告 Defect, please report: {type(error).__name__}", style="bold red"
        )
        return EXIT_DEFECT
    out.print(title, style="bold red")
    out.print(safe(str(error)))
    return code


def _log_defect(error: Exception) -> None:
    """Type and place of the fault as one line of JSON: its text may quote data."""
    from shutong_core.runtime.logs import render  # noqa: PLC0415

    sys.stderr.write(render("cli", "error", "defect", {"exc_info": error}) + "\n")
