"""`shutong refusals`: which accepted records the bus refused afterwards, grouped by reason."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

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
from shutong_core.domain.errors import Rejected
from shutong_producer.refusalclient import Refusals, fetch_refusals

#: Ids shown of one reason; --json has all.
IDS_SHOWN = 20
#: Not news to a publisher: the record was taken when it came first.
_REPEAT = "DUPLICATE"
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
app = new_app()


@app.command(
    epilog=examples(
        "shutong refusals --key-file hospital.key",
        "shutong refusals --key-file hospital.key --since 2026-09-01 --json",
        "shutong refusals --key-file hospital.key --reason DUPLICATE",
    )
)
def refusals(
    key_file: KeyFile,
    url: ProducerUrl = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="起始日期（UTC）或上次给出的游标 A day (UTC), or the cursor told last time.",
        ),
    ] = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="只列此原因，可重复 Only this reason; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """列出接收之后又被总线退回的记录，按原因分组；重复提交默认不列。

    List records that the bus refused after they were accepted, by reason, with their ids. Repeats
    are left out unless asked for with `--reason DUPLICATE`. An id that `shutong publish` made ends
    in the row's line.
    """
    # Late: both load the HTTP client, which the overview of commands does not need.
    from shutong_cli.publish_command import own_url, read_key, require_safe  # noqa: PLC0415

    target = url or own_url(open_settings())
    loopback = require_safe(target)
    key = read_key(key_file)
    day = since if since is not None and _DAY.match(since) else None
    found = asyncio.run(
        fetch_refusals(
            target,
            key,
            since=None if day else since,
            day=day,
            reasons=reason or (),
            exclude=() if reason else (_REPEAT,),
            trust_env=not loopback,
            on_fault=lambda fault, patience_s: note(
                f"{target}：{fault}，{patience_s:.0f} 秒内继续重试",
                f"{target}: {fault}, trying again for up to {patience_s:.0f} s",
            ),
        )
    )
    if as_json:
        print_json({"refusals": found.refusals, "next": found.following, "more": found.more})
    else:
        _say(found)


def _say(found: Refusals) -> None:
    groups = _by_reason(found.refusals)
    if not groups:
        say("没有退回的记录", "no refused records")
    out = console()
    for (dataset, reason), members in groups.items():
        first = members[0]
        out.print(safe(f"{dataset} {reason} × {len(members)}：{first['zh']}。 {first['en']}."))
        for each in members[:IDS_SHOWN]:
            where = f"  {each['path']}" if each.get("path") else ""
            out.print(safe(f"  {each.get('id') or '-'}  {each.get('at', '')}{where}"))
        if len(members) > IDS_SHOWN:
            rest = len(members) - IDS_SHOWN
            out.print(f"  另有 {rest} 条，见 --json。 {rest} more, see --json.")
    if found.more:
        note("还有更多，请以下列游标继续", "there are more, go on with the cursor below")
    note(f"下次可从此继续：--since {found.following}", f"go on later: --since {found.following}")


def _by_reason(
    found: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Refusals by dataset and reason, the most frequent first."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in found:
        try:
            groups.setdefault((str(each["dataset"]), str(each["reason"])), []).append(each)
            each["zh"], each["en"]
        except (KeyError, TypeError):
            raise Rejected(
                "无法识别的回答，请核对 --url。 The answer is not understood: check --url."
            ) from None
    return dict(sorted(groups.items(), key=lambda pair: -len(pair[1])))
