"""Takes days past their term out of the index; refuses whatever is not past it (条例 Art. 29)."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import Engine, delete, func, select

from shutong_auditor.index.schema import BLOCKS, DAYS, EVENTS, FLOWS, INTAKES, PLACEMENTS
from shutong_core.domain.errors import Rejected

#: 共享记录保存不少于三年.
TERM_DAYS_MIN = 1096
_DAY_MS = 86_400_000
#: China has kept one time since 1991: days begin eight hours before those of UTC.
_CHINA_MS = 8 * 3_600_000


def last_day_past_term(today: date, term_days: int) -> date:
    """The newest day whose records may go. Raises Rejected for a term shorter than the law's."""
    if term_days < TERM_DAYS_MIN:
        raise Rejected(
            f"保存期限 {term_days} 天，短于法定三年（{TERM_DAYS_MIN} 天）。"
            f" A term of {term_days} days is shorter than the three years of law"
            f" ({TERM_DAYS_MIN} days)."
        )
    return today - timedelta(days=term_days)


def require_past_term(before: date, today: date, term_days: int) -> None:
    """Raises Rejected unless all days before `before` are past their term."""
    newest = last_day_past_term(today, term_days)
    if before - timedelta(days=1) > newest:
        raise Rejected(
            f"{before} 之前的记录未满保存期限（{term_days} 天），最多可清除至 {newest}。"
            f" Records before {before} are still within their term of {term_days} days: what is up"
            f" to {newest} may go."
        )


def purge(engine: Engine, before: date, today: date, term_days: int) -> int:
    """Take all days before `before` out; how many blocks went. Raises Rejected.

    The newest block of each lane stays: it is where the index goes on.
    """
    require_past_term(before, today, term_days)
    day = before.isoformat()
    moment = (before - date(1970, 1, 1)).days * _DAY_MS - _CHINA_MS
    newest = (
        select(BLOCKS.c.lane, func.max(BLOCKS.c.sequence).label("sequence"))
        .group_by(BLOCKS.c.lane)
        .subquery()
    )
    kept = select(newest.c.sequence).where(newest.c.lane == BLOCKS.c.lane).scalar_subquery()
    with engine.begin() as connection:
        gone = connection.execute(
            delete(BLOCKS).where(BLOCKS.c.decided_ms < moment, BLOCKS.c.sequence < kept)
        ).rowcount
        for table in (FLOWS, DAYS, INTAKES, PLACEMENTS, EVENTS):
            connection.execute(delete(table).where(table.c.day < day))
    return int(gone)
