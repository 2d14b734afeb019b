"""Adds what a batch of blocks says to the sums by day, in the transaction of the blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, func
from sqlalchemy.dialects import postgresql, sqlite

from shutong_auditor.index.schema import DAYS, FLOW_COLUMNS, INTAKES

_FLOW_KEY = ("day", "list_number", *(name for name, _ in FLOW_COLUMNS))
_INTAKE_KEY = ("day", "publisher", "dataset", "outcome", "list_number")


def add_flows(connection: Connection, flows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows of `flows` to their days."""
    sums: Counter[tuple[Any, ...]] = Counter()
    for flow in flows:
        sums[tuple(flow[name] for name in _FLOW_KEY)] += flow["count"]
    if not sums:
        return
    put = _insert(connection)(DAYS)
    put = put.on_conflict_do_update(
        index_elements=list(_FLOW_KEY), set_={"count": DAYS.c.count + put.excluded["count"]}
    )
    connection.execute(
        put,
        [
            dict(zip(_FLOW_KEY, key, strict=True)) | {"count": count}
            # In one order, so that two writers never wait for each other.
            for key, count in sorted(sums.items())
        ],
    )


def add_intakes(connection: Connection, intakes: Iterable[Mapping[str, Any]]) -> None:
    """Add what publishers brought in, with the moment of its decision, to its day."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for each in intakes:
        at = each["decided_ms"]
        held = sums.setdefault(tuple(each[name] for name in _INTAKE_KEY), [at, at, 0])
        held[:] = min(held[0], at), max(held[1], at), held[2] + each["count"]
    if not sums:
        return
    put, table = _insert(connection)(INTAKES), INTAKES.c
    least, most = (func.min, func.max) if _is_sqlite(connection) else (func.least, func.greatest)
    put = put.on_conflict_do_update(
        index_elements=list(_INTAKE_KEY),
        set_={
            "first_ms": least(table.first_ms, put.excluded.first_ms),
            "last_ms": most(table.last_ms, put.excluded.last_ms),
            "count": table.count + put.excluded["count"],
        },
    )
    connection.execute(
        put,
        [
            dict(zip(_INTAKE_KEY, key, strict=True))
            | {"first_ms": first, "last_ms": last, "count": count}
            for key, (first, last, count) in sorted(sums.items())
        ],
    )


def _is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _insert(connection: Connection) -> Any:
    return sqlite.insert if _is_sqlite(connection) else postgresql.insert
