"""`shutong audit subject`: the desk of the authority answers a person who proved who they are."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from getpass import getpass
from typing import Annotated

import typer

from shutong_auditor.index.indexer import CHINA
from shutong_auditor.subject import Lawful, Line, subject_report
from shutong_broker.policy.interpret import subject_token
from shutong_broker.policy.planning import TOKEN_KEY_ID
from shutong_cli.onrecord import on_record
from shutong_cli.output import AsJson, console, examples, print_json, print_table
from shutong_cli.reading import read_in_force, require_keyring
from shutong_cli.session import open_session
from shutong_core.audit.acts import ActName
from shutong_core.domain.errors import Rejected
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.node import Node

_NUMBER_CHARS_MAX = 100
_WORDS_MAX = 200
_LONG_NUMBER = re.compile(r"[0-9]{15}")
_DAY_MS = 86_400_000


def register(app: typer.Typer) -> None:
    """Adds the command to the group `audit`."""
    app.command(
        epilog=examples('shutong audit subject --case 2026-118 --basis "个人信息保护法第45条"')
    )(subject)


def subject(
    case: Annotated[str, typer.Option(metavar="NO", help="受理编号 Number of the case.")],
    basis: Annotated[str, typer.Option(metavar="TEXT", help="办理依据 Basis of the request.")],
    first_day: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="自某日，默认一年前 First day.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """个人查询：与本人有关的记录给了谁、何用途、何依据、何时。

    A person's report: to whom records about them went, for what purpose, on what basis, when. The
    identity number is asked for, never taken from the command line, never stored; the act is put on
    record under the case number first.
    """
    for text, zh, en in ((case, "受理编号", "case number"), (basis, "依据", "basis")):
        if not text.strip() or len(text) > _WORDS_MAX:
            raise Rejected(f"需要{zh}（不超过 {_WORDS_MAX} 字）。 A {en} is needed.")
        if _LONG_NUMBER.search(text):
            # It would stay on record for years.
            raise Rejected(f"{zh}中不得写证件号码。 The {en} must not hold an identity number.")
    node = open_session()
    require_keyring(node)
    now_ms = int(time.time() * 1000)
    span = (_start_ms(first_day, now_ms), now_ms)
    lines, version = asyncio.run(_report(node, case, basis, _number(), span))
    if as_json:
        print_json({"case": case, "records": [asdict(each) for each in lines]})
        return
    print_table(
        ("时间 when", "来源 from", "数据资源 dataset", "去向 to", "用途 purpose", "依据 basis"),
        [_cells(each, version) for each in lines],
    )
    console().print(
        f"共 {len(lines)} 条；依法不予告知或尚在延期内的不在其中。"
        f" {len(lines)} records; what the law conceals or delays is not among them."
    )


async def _report(
    node: Node, case: str, basis: str, number: str, span_ms: tuple[int, int]
) -> tuple[list[Line], ListVersion]:
    version, _ = await read_in_force(node)
    # Only with a list is there anything to tell; on record before anything is read.
    await on_record(node, ActName.SUBJECT_REPORT, f"case/{case}", basis)
    settings = node.settings.auditor
    lawful = Lawful(
        frozenset(settings.concealed_purposes),
        span_ms[1] - settings.report_delay_days * _DAY_MS,
    )
    token = subject_token(node.keyring.secret(TOKEN_KEY_ID), number)
    verify = node.keyring.verifier("control")
    lines = await subject_report(node.client, node.topics, verify, token, span_ms, lawful)
    return lines, version


def _number() -> str:
    text = getpass("证件号码 identity number: ") if sys.stdin.isatty() else sys.stdin.readline()
    text = text.strip()
    if not 0 < len(text) <= _NUMBER_CHARS_MAX:
        raise Rejected("需要证件号码。 An identity number is needed.")
    return text


def _start_ms(day: str | None, now_ms: int) -> int:
    if day is None:
        return now_ms - 365 * _DAY_MS
    try:
        start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=CHINA)
    except ValueError:
        raise Rejected(f"{day} 不是日期。 {day} is no day: YYYY-MM-DD.") from None
    return int((start - timedelta(hours=1)).timestamp() * 1000)


def _cells(line: Line, version: ListVersion) -> tuple[str, ...]:
    at = datetime.fromtimestamp(line.decided_ms / 1000, CHINA).strftime("%Y-%m-%d %H:%M:%S")
    return (
        at,
        _name(version, line.publisher),
        line.dataset,
        _name(version, line.requester),
        line.purpose,
        line.basis,
    )


def _name(version: ListVersion, uscc: str) -> str:
    found = version.organisation(uscc)
    return found.name if found else uscc
