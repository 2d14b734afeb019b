"""The real rows of the dated division table as published by the nation's statistics office.

One event per town-level row; a county without towns is its own town-level row in the source, so it
is published as one (kind STAND_IN).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shutong_core.domain.regions import Level, RegionTable
from shutong_story.event import Event
from shutong_story.places import NATION, below

_KINDS = ((100, "STREET"), (200, "TOWN"), (400, "TOWNSHIP"), (600, "TOWN_LIKE"))


def division_events(table: RegionTable) -> Iterator[Event]:
    """All town-level rows by code."""
    childless = [c for c in below(table, NATION, Level.COUNTY) if not table.children(c)]
    for code in sorted([*below(table, NATION, Level.TOWN), *childless]):
        yield Event(f"div-{table.date}-{code[:9]}", _row(table, code))


def _row(table: RegionTable, code: str) -> dict[str, Any]:
    around = {table.level(a): a for a in table.ancestors(code)}
    row: dict[str, Any] = {"code": code, "name": _name(table, code), "kind": _kind(code)}
    for level, prefix in (
        (Level.COUNTY, "county"),
        (Level.CITY, "city"),
        (Level.PROVINCE, "province"),
    ):
        if level in around:
            row[f"{prefix}_code"] = around[level]
            row[f"{prefix}_name"] = _name(table, around[level])
    return {**row, "as_of": table.date}


def _name(table: RegionTable, code: str) -> str:
    region = table.get(code)
    return region.name if region else ""


def _kind(code: str) -> str:
    number = int(code[6:9])
    if number == 0:
        return "STAND_IN"
    return next(kind for end, kind in _KINDS if number < end)
