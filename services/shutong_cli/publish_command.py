"""`shutong publish FILE`: the rows of a file as records of one dataset, through the producer."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx2
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from shutong_cli.output import (
    AsJson,
    KeyFile,
    ProducerUrl,
    console,
    examples,
    new_app,
    note,
    print_json,
    safe,
    say,
)
from shutong_cli.session import open_settings
from shutong_control.draftfile import read_bounded
from shutong_core.domain.errors import Rejected
from shutong_core.runtime.lifecycle import EXIT_REJECTED
from shutong_core.runtime.servicesettings import is_loopback
from shutong_core.runtime.settings import Settings
from shutong_producer.csvfile import Progress as Progressed
from shutong_producer.csvfile import Published, publish_file
from shutong_producer.fileclient import OnFault

KEY_BYTES_MAX = 4096
ANSWER_S = 60.0
app = new_app()


@app.command(
    epilog=examples(
        "shutong publish births.csv --dataset births --key-file hospital.key",
        "shutong publish births.csv --dataset births --key-file k --url https://bus.example:8801",
        "shutong publish births.ndjson --dataset births --key-file k --json",
    )
)
def publish(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV 或 NDJSON，UTF-8。")],
    dataset: Annotated[str, typer.Option(metavar="ID", help="数据资源编号 Id of the dataset.")],
    key_file: KeyFile,
    url: ProducerUrl = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="以此列为记录编号 Column or item that holds the event id."
        ),
    ] = None,
    operation: Annotated[
        str | None, typer.Option(metavar="OP", help="put、correct 或 delete: for rows without.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """把文件逐行发布为记录；中断或改正后重新执行，只发送尚未接收的行。

    Publish each row of a file as a record. Interrupted or corrected, run it again: only rows that
    were not accepted yet are sent (remove FILE.position to send all of them again). Refused rows
    are listed in FILE.refused.ndjson; exit code 2 if there are any.
    """
    target = url or own_url(open_settings())
    loopback = require_safe(target)
    key = read_key(key_file)

    async def run() -> Published:
        # On this machine no proxy may see the key.
        async with httpx2.AsyncClient(timeout=ANSWER_S, trust_env=not loopback) as http:
            with _bar(file, target) as (advance, on_fault):
                return await publish_file(
                    file,
                    dataset,
                    target,
                    key,
                    id_column=id_column,
                    operation=operation,
                    on_progress=advance,
                    on_fault=on_fault,
                    client=http,
                )

    done = asyncio.run(run())
    if as_json:
        found = asdict(done)
        print_json(found | {"report": str(done.report) if done.report else None})
    else:
        _say_counts(done, file)
        if done.accepted or done.known:
            _say_what_follows(key_file, url)
    if done.refused:
        note(f"退回原因见 {done.report}", f"the reasons are in {done.report}")
        raise typer.Exit(EXIT_REJECTED)


def _say_counts(done: Published, file: Path) -> None:
    if not (done.accepted or done.refused or done.known):
        note(
            f"{file.name} 没有数据行；CSV 首行是表头，数据从第二行起",
            f"{file.name} holds no rows; in CSV the first line names the items, rows follow it",
        )
        return
    known_zh = f"，此前已接收 {done.known} 条未再发送" if done.known else ""
    known_en = f", {done.known} already accepted before and not sent again" if done.known else ""
    say(
        f"已接收 {done.accepted} 条，退回 {done.refused} 条{known_zh}",
        f"{done.accepted} records accepted, {done.refused} refused{known_en}",
    )
    if not done.sent:
        say("该文件此前已发布完，本次没有发送", "this file was published before: nothing was sent")


def _say_what_follows(key_file: Path, url: str | None) -> None:
    """Accepted is not yet delivered: where to see what the bus refuses afterwards."""
    say(
        "接收之后总线仍可能退回记录（区划、管辖、重复等），查看命令如下",
        "after acceptance the bus may still refuse records (region, jurisdiction, duplicates):"
        " see them with",
    )
    command = ["shutong", "refusals", "--key-file", str(key_file)]
    # Alone on its line, so that it can be copied.
    console().print(safe("  " + shlex.join(command + (["--url", url] if url else []))))


@contextmanager
def _bar(file: Path, url: str) -> Iterator[tuple[Callable[[Progressed], None], OnFault]]:
    """A progress bar on stderr, silent where nobody looks; yields what moves it.

    The second is told of faults, which are said wherever stderr goes.
    """
    out = console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[counts]}", markup=False),
        TimeElapsedColumn(),
        console=out,
        disable=not out.is_terminal,
    ) as progress:
        task = progress.add_task(safe(file.name), total=None, counts="")

        def advance(done: Progressed) -> None:
            counts = f"接收 accepted {done.accepted}  退回 refused {done.refused}"
            counts += f"  此前 before {done.known}" if done.known else ""
            progress.update(task, completed=done.read_bytes, total=done.total_bytes, counts=counts)

        def on_fault(fault: str, patience_s: float) -> None:
            text = (
                f"{url}：{fault}，{patience_s:.0f} 秒内继续重试。"
                f" {url}: {fault}, trying again for up to {patience_s:.0f} s."
            )
            progress.console.print(safe(text), style="yellow")

        yield advance, on_fault


def own_url(settings: Settings) -> str:
    """The address of the producer service of these settings."""
    listener = settings.producer.http
    scheme = "https" if listener.tls_certificate else "http"
    return f"{scheme}://{listener.host}:{listener.port}"


def require_safe(url: str) -> bool:
    """True if `url` is on this machine. Raises Rejected if the key would travel readable."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise Rejected(
            f"{url} 不是 http(s) 地址，应如 https://host:8801。"
            f" {url} is no http(s) address: write it like https://host:8801"
        )
    loopback = is_loopback(host)
    if parts.scheme == "http" and not loopback:
        raise Rejected(
            f"{url} 未加密，密钥与记录会以明文传送，请用 https。"
            f" {url} is not encrypted, the key and the records would travel readable: use https"
        )
    return loopback


def read_key(path: Path) -> str:
    """The API key in a file of one line. Raises Rejected."""
    try:
        key = read_bounded(path, KEY_BYTES_MAX).decode("ascii").strip()
    except UnicodeDecodeError:
        key = ""
    if not key or any(not each.isprintable() or each.isspace() for each in key):
        raise Rejected(
            f"{path} 不是密钥文件，应只有一行密钥。"
            f" {path} is no key file: it holds one line, as `shutong key issue --out` writes it."
        )
    if path.stat().st_mode & 0o077:
        note(f"其他用户可读 {path}，请 chmod 600", f"other users may read {path}: chmod 600 it")
    return key
