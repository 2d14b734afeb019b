"""The list as commands show it: rows in a line, differences field by field, reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from shutong_cli.output import console, note, safe, say
from shutong_cli.publishing import PublishReport, RowChanges
from shutong_control.publish import Prepared
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.findings import Problem
from shutong_core.domain.grants import Grant
from shutong_core.domain.organisations import System
from shutong_core.domain.version import AnyRow, ListVersion

#: Official time of the country whose list this is.
_ZONE = ZoneInfo("Asia/Shanghai")
_SHOWN_MAX = 20
_VALUE_CHARACTERS_MAX = 200


def moment(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in Asia/Shanghai."""
    return datetime.fromtimestamp(ms / 1000, _ZONE).isoformat(timespec="seconds")


def row_json(row: AnyRow) -> dict[str, Any]:
    """The row as control.lists carries it."""
    return row.body()


def row_line(row: AnyRow, version: ListVersion) -> tuple[str, str, str]:
    """Id, what it is, details that matter most; organisations by name, with their systems."""
    what, details = _DESCRIBE[row.kind](row, version)
    return row.id, what, details


def _named(version: ListVersion, uscc: str) -> str:
    """An organisation with the systems that act for it."""
    organisation = version.organisation(uscc)
    name = organisation.name if organisation else uscc
    rows = version.rows.values()
    systems = [each.id for each in rows if isinstance(each, System) and each.organisation == uscc]
    return f"{name} [{', '.join(systems)}]" if systems else name


def _system(row: Any, version: ListVersion) -> tuple[str, str]:
    organisation = version.organisation(row.organisation)
    lines = [f"{organisation.name} {row.organisation}" if organisation else row.organisation]
    writes, reads = [], []
    for _, each in sorted(version.rows.items()):
        if isinstance(each, Dataset):
            givers = {each.provider, *(one.organisation for one in each.publishers)}
            writes += [each.id] * (row.organisation in givers)
        elif isinstance(each, Grant) and each.requester == row.organisation:
            reads.append(each.id)
    if writes:
        lines.append(f"可发布 publishes {', '.join(writes)}")
    if reads:
        lines.append(f"可取用 reads {', '.join(reads)}")
    return row.title, "\n".join(lines)


def _dataset(row: Any, version: ListVersion) -> tuple[str, str]:
    versions = ",".join(str(ref.id) for ref in row.schemas)
    others = [each.organisation for each in row.publishers if each.organisation != row.provider]
    lines = [f"{row.share} schema {versions}", f"提供 provider {_named(version, row.provider)}"]
    lines += [f"发布 publisher {_named(version, uscc)}" for uscc in others]
    return row.title, "\n".join(lines)


def _grant(row: Any, version: ListVersion) -> tuple[str, str]:
    state = "中止 suspended" if row.suspended else f"至 until {row.valid_until.date()}"
    asked = row.requester_class
    reader = (
        _named(version, row.requester)
        if asked is None
        else f"按类 every {asked.level} in {asked.within}"
    )
    return f"{row.dataset} → {reader}", f"{row.purpose} {state}"


_DESCRIBE: Mapping[str, Callable[[Any, ListVersion], tuple[str, str]]] = {
    "organisation": lambda row, _: (row.name, f"{row.region} {row.line} {','.join(row.roles)}"),
    "system": _system,
    "dataset": _dataset,
    "grant": _grant,
    "duty": lambda row, version: (
        row.dataset,
        f"{_named(version, row.provider)} {row.update_cycle}",
    ),
    "purpose": lambda row, _: (row.title, ""),
    "negative": lambda row, _: (row.dataset, ",".join(row.items)),
    "bus": lambda row, _: (row.title, f"{row.region} {row.lanes} lanes"),
}


def problems_json(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems of a list file for programs."""
    return [
        {
            "file": each.file,
            "line": each.line,
            "column": each.column,
            "row": each.finding.row_id,
            "field": each.finding.field_path,
            "code": each.finding.code,
            "zh": each.finding.zh,
            "en": each.finding.en,
            "remedy_zh": each.finding.remedy_zh,
            "remedy_en": each.finding.remedy_en,
        }
        for each in problems
    ]


def report_json(report: PublishReport) -> dict[str, Any]:
    """A publish report for programs."""
    changes = report.changes or RowChanges((), (), ())
    return {
        "number": report.version.number,
        "digest": report.version.digest.hex(),
        "effective": moment(report.version.effective_ms),
        "dry_run": report.dry_run,
        "nothing_changed": report.changes is None,
        "added": list(changes.added),
        "changed": list(changes.changed),
        "removed": list(changes.removed),
        "schemas": [
            {"id": each.id, "subject": each.subject, "version": each.version}
            for each in report.registrations
        ],
        "topics_made": list(report.topics_made),
        "topics_different": [
            {
                "topic": each.topic,
                "setting": each.setting,
                "wanted": each.wanted,
                "found": each.found,
            }
            for each in report.topics_different
        ],
        "keyring_made": str(report.keyring_made) if report.keyring_made else None,
    }


def say_report(report: PublishReport) -> None:
    """A publish report for people."""
    if report.keyring_made:
        note(
            f"首次运行，已建立密钥环 {report.keyring_made}：请立即备份，丢失后无法恢复",
            f"first run: the keyring {report.keyring_made} was made. Back it up now: without it"
            " no list can follow this one",
        )
    say(*report.sentence())
    out = console()
    out.print(f"  SHA-256 {report.version.digest.hex()}")
    changes = report.changes
    if changes is not None and report.version.number > 1:
        _say_some("+", changes.added)
        _say_some("~", changes.changed)
        _say_some("-", changes.removed)
    if report.registrations:
        ids = [each.id for each in report.registrations]
        out.print(f"  新模式 new schemas: {len(ids)} (id {min(ids)}–{max(ids)})")
    if report.topics_made:
        word = "将建主题 topics to be made" if report.dry_run else "新主题 new topics"
        out.print(f"  {word}: {len(report.topics_made)}")
    for each in report.topics_different:
        note(
            f"主题 {each.topic} 的 {each.setting} 应为 {each.wanted}，实为 {each.found}，未改动",
            f"topic {each.topic} has {each.setting}={each.found}, the list asks for"
            f" {each.wanted}; it was left as it is",
        )


def _say_some(sign: str, row_ids: tuple[str, ...]) -> None:
    out = console()
    for row_id in row_ids[:_SHOWN_MAX]:
        out.print(safe(f"  {sign} {row_id}"))
    if len(row_ids) > _SHOWN_MAX:
        out.print(f"  {sign} … {len(row_ids) - _SHOWN_MAX} 项未列 more")


def differences(prepared: Prepared) -> Iterator[str]:
    """Lines that say what a draft would change: `+` rows, `~` fields, `-` rows."""
    found = differences_json(prepared)
    for row_id in found["added"]:
        yield f"+ {row_id}"
    for row_id, fields in found["changed"].items():
        yield f"~ {row_id}"
        for path, (old, new) in fields.items():
            yield f"    {path}: {_shown(old)} → {_shown(new)}"
    for row_id in found["removed"]:
        yield f"- {row_id}"


def differences_json(prepared: Prepared | None) -> dict[str, Any]:
    """What a draft would change, for programs: changed fields as path → [before, after]."""
    if prepared is None:
        return {"added": [], "changed": {}, "removed": []}
    changes = RowChanges.of(prepared)
    held = prepared.previous.rows if prepared.previous else {}
    return {
        "added": list(changes.added),
        "changed": {
            row_id: _fields(held[row_id].body(), prepared.version.rows[row_id].body())
            for row_id in changes.changed
        },
        "removed": list(changes.removed),
    }


def _fields(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Paths whose values differ; a list counts as one value."""
    before, after = dict(_leaves("", old)), dict(_leaves("", new))
    paths = [*before, *(path for path in after if path not in before)]
    return {
        path: (before.get(path), after.get(path))
        for path in paths
        if before.get(path) != after.get(path)
    }


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f"{path}.{name}" if path else name, inner)
    else:
        yield path, value


def _shown(value: Any) -> str:
    text = "—" if value is None else str(value)
    if len(text) <= _VALUE_CHARACTERS_MAX:
        return text
    return text[:_VALUE_CHARACTERS_MAX] + "…"
