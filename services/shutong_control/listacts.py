"""The acts that a new list version is: its activation, and what it does to each grant."""

from __future__ import annotations

from collections.abc import Iterator

from shutong_control.publish import Prepared
from shutong_core.audit.access import Act
from shutong_core.audit.acts import ActName
from shutong_core.domain.grants import Grant


def list_acts(prepared: Prepared, actor: str, now_ms: int) -> Iterator[Act]:
    """One act for the list, one for every grant that it adds, changes or takes away."""
    version, previous = prepared.version, prepared.previous
    yield Act(
        now_ms,
        actor,
        ActName.LIST_ACTIVATE.stored,
        f"list/{version.number}",
        detail=f"digest {version.digest.hex()}, {len(prepared.upserts)} rows put,"
        f" {len(prepared.removals)} removed",
    )
    held = previous.rows if previous else {}
    for row in prepared.upserts:
        if isinstance(row, Grant):
            before = held.get(row.row_id)
            name = _done_to(before if isinstance(before, Grant) else None, row)
            reason = f", {row.suspended.reason}" if row.suspended else ""
            detail = f"list {version.number}, row {row.digest().hex()}{reason}"
            yield Act(now_ms, actor, name.stored, f"grant/{row.id}", detail=detail)
    for row_id in prepared.removals:
        if row_id.startswith("grant/"):
            detail = f"list {version.number}"
            yield Act(now_ms, actor, ActName.GRANT_REMOVE.stored, row_id, detail=detail)


def _done_to(before: Grant | None, after: Grant) -> ActName:
    if before is None:
        return ActName.GRANT_ADD
    if (before.suspended is None) != (after.suspended is None):
        return ActName.GRANT_SUSPEND if after.suspended else ActName.GRANT_RESUME
    return ActName.GRANT_CHANGE
