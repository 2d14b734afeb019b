"""`shutong audit use-record file | list`, `audit purge`: records of use, what is past its term."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from shutong_auditor.index.indexer import CHINA
from shutong_auditor.index.retention import purge as purge_index
from shutong_auditor.index.retention import require_past_term
from shutong_auditor.userecords import UseRecords, parse_use
from shutong_cli.onrecord import on_record
from shutong_cli.output import (
    AsJson,
    KeyFile,
    examples,
    new_app,
    print_json,
    print_table,
    say,
)
from shutong_cli.proof_commands import read_bytes
from shutong_cli.publish_command import read_key, require_safe
from shutong_cli.question_commands import index_engine
from shutong_cli.reading import read_in_force
from shutong_cli.session import open_session, open_settings
from shutong_core.audit.acts import ActName
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.node import Node

_FILE_BYTES_MAX = 64 * 1024
_ANSWER_S = 60.0
_WORDS = (
    ("scenario", "使用场景"),
    ("process", "使用过程"),
    ("effect", "应用成效"),
    ("storage", "存储情况"),
    ("destruction", "销毁情况"),
)
Url = Annotated[
    str | None, typer.Option(metavar="URL", help="审计服务，默认本机 Auditor, default here.")
]
use_app = new_app("使用记录（条例第二十九条）。 Records of use (Art. 29).")


def register(app: typer.Typer) -> None:
    """Adds the commands to the group `audit`."""
    app.command(epilog=examples("shutong audit purge 2023-01-01"))(purge)
    app.add_typer(use_app, name="use-record")


@use_app.command(
    "file", epilog=examples("shutong audit use-record file use.json --key-file medical.key")
)
def file_record(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON 文件 A JSON file.")],
    key_file: KeyFile,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """登记一份使用记录：许可、期间、使用场景、使用过程、应用成效、存储情况、销毁情况。

    File a record of use for a grant of your own. FILE is a JSON object with grant, first_day,
    last_day, scenario, process, effect, storage, destruction. No personal data belongs in it.
    """
    try:
        value = json.loads(read_bytes(file, _FILE_BYTES_MAX))
    except (ValueError, RecursionError):
        raise Rejected(f"{file}: 不是 JSON。 It is not JSON.") from None
    parse_use(value)
    answer = _ask("POST", "/v1/use-records", key_file, url, body=value)
    if as_json:
        print_json(answer)
        return
    say(
        f"已登记，编号 {answer['id']}，摘要 {answer['digest']}",
        f"filed as {answer['id']}, SHA-256 {answer['digest']}",
    )


@use_app.command(
    "list", epilog=examples("shutong audit use-record list --key-file medical.key --grant ID")
)
def list_records(
    key_file: KeyFile,
    grant: Annotated[str | None, typer.Option(metavar="ID", help="许可 Grant.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="略过份数 Records to skip.")] = 0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """列出本部门可见的使用记录：自己登记的、针对自己数据的；主管部门和审计按职责。

    List the records of use that you may read: your own, those about your data; authorities and
    auditors by their office.
    """
    query = {"skip": str(skip)} | ({"grant": grant} if grant else {})
    answer = _ask("GET", "/v1/use-records", key_file, url, query=query)
    if as_json:
        print_json(answer)
        return
    print_table(
        ("登记日 filed", "许可 grant", "需求方 requester", "期间 period", "内容 content"),
        [_cells(each) for each in answer["records"]],
    )
    if answer["more"]:
        say("还有更多：用 --skip", "there are more: use --skip")


def purge(
    before: Annotated[
        datetime, typer.Argument(formats=["%Y-%m-%d"], help="此日之前 Days before this one.")
    ],
) -> None:
    """清除保存期限已满的索引和使用记录；未满三年或清单期限的，拒绝。

    Take days out of the index, and records of use, once their term (three years, or longer by the
    list) is over; refused before that. The act is on record first.
    """
    blocks, records = _purge(open_session(), before.date())
    say(
        f"已清除 {blocks} 块、{records} 份使用记录",
        f"{blocks} blocks and {records} records of use are gone",
    )


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    words = "；".join(f"{title}：{record[name]}" for name, title in _WORDS)
    period = f"{record['first_day']} – {record['last_day']}"
    return record["day"], record["grant_id"], record["requester"], period, words


def _ask(
    method: str,
    path: str,
    key_file: Path,
    url: str | None,
    *,
    body: Any = None,
    query: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The auditor service's answer. Raises Rejected as it refuses, Retryable where it is away."""
    if url is None:
        listener = open_settings().auditor.http
        scheme = "https" if listener.tls_certificate else "http"
        url = f"{scheme}://{listener.host}:{listener.port}"
    loopback = require_safe(url)
    headers = {"Authorization": f"Bearer {read_key(key_file)}"}
    try:
        with httpx2.Client(timeout=_ANSWER_S, trust_env=not loopback) as http:
            found = http.request(
                method, url.rstrip("/") + path, headers=headers, json=body, params=query
            )
            answer: Any = found.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise Retryable(f"{url}: {type(error).__name__}") from None
    if not isinstance(answer, dict):
        raise Rejected("无法识别的回答，请核对 --url。 The answer is not understood: check --url.")
    if found.status_code >= 400:
        text = f"{answer.get('reason')}: {answer.get('zh')} {answer.get('detail')}"
        raise (Retryable if found.status_code in (429, 503) else Rejected)(text)
    return answer


def _purge(node: Node, before: date) -> tuple[int, int]:
    version, _ = asyncio.run(read_in_force(node))
    today, term = datetime.now(CHINA).date(), version.bus.audit_term_days
    require_past_term(before, today, term)
    asyncio.run(on_record(node, ActName.AUDIT_PURGE, "index", f"days before {before}"))
    engine = index_engine(node)
    blocks = purge_index(engine, before, today, term)
    return blocks, UseRecords(engine).purge(before, today, term)
