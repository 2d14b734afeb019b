"""What people ask the index: sums by any of its columns, the matrix of levels, days of a grant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, func, or_, select

from shutong_auditor.index.schema import BLOCKS, DAYS, FLOWS, INTAKES, PLACEMENTS
from shutong_auditor.tally import PLACED
from shutong_core.domain.errors import Rejected

LINES_MAX = 10_000
#: Only blocks have these; all else is asked of the sums by day.
_OF_BLOCKS = frozenset({"lane", "sequence"})
#: What sums may be split by.
SPLITS = (
    "day",
    "month",
    "list_number",
    "dataset",
    "grant_id",
    "publisher",
    "provider",
    "requester",
    "giver",
    "receiver",
    "direction",
    "verdict",
    "lane",
    "sequence",
)


@dataclass(frozen=True, slots=True)
class Question:
    """Which flows are meant; None: all. Days are `YYYY-MM-DD` in China's time, both included."""

    first_day: str | None = None
    last_day: str | None = None
    organisation: str | None = None  # giving, writing or receiving
    provider: str | None = None
    requester: str | None = None
    dataset: str | None = None
    grant: str | None = None
    list_number: int | None = None
    verdict: str | None = None
    direction: str | None = None
    giver: int | None = None
    receiver: int | None = None
    publisher: str | None = None
    supplier: str | None = None  # giving or writing


@dataclass(frozen=True, slots=True)
class Answer:
    """Lines of sums; `more`: there are others beyond the limit."""

    columns: tuple[str, ...]
    lines: tuple[tuple[Any, ...], ...]
    more: bool


def sums(
    engine: Engine, question: Question, by: Sequence[str], limit: int = 1_000, skip: int = 0
) -> Answer:
    """How many records, split by the columns `by`, in their order. Raises Rejected."""
    unknown = [each for each in by if each not in SPLITS]
    if unknown or len(set(by)) != len(by):
        raise Rejected(
            f"不能按 {', '.join(unknown) or '同一列两次'} 汇总。 Sums cannot be split by"
            f" {', '.join(unknown) or 'one column twice'}; there are {', '.join(SPLITS)}."
        )
    if not 1 <= limit <= LINES_MAX or skip < 0:
        raise Rejected(f"行数应为 1 至 {LINES_MAX}。 The limit is 1 to {LINES_MAX} lines.")
    table = DAYS if _OF_BLOCKS.isdisjoint(by) else FLOWS
    columns = [_split(table, each) for each in by]
    total = func.sum(table.c.count)
    asked = select(*columns, total).where(*_where(table, question))
    if columns:
        asked = asked.group_by(*columns).order_by(*columns)
    with engine.connect() as connection:
        found = connection.execute(asked.limit(limit + 1).offset(skip)).all()
    lines = tuple((*each[:-1], int(each[-1] or 0)) for each in found)
    return Answer((*by, "count"), lines[:limit], len(lines) > limit)


def matrix(engine: Engine, question: Question) -> Answer:
    """Placed records by month, level of the giver, of the receiver, direction (LAW 53)."""
    placed = Question(**{**_fields(question), "verdict": PLACED})
    return sums(engine, placed, ("month", "giver", "receiver", "direction"), LINES_MAX)


@dataclass(frozen=True, slots=True)
class Span:
    """Records `first_k` … `last_k` of (grant, lane) that a day's blocks placed, their number."""

    grant: str
    lane: int
    first_k: int
    last_k: int
    count: int

    @property
    def whole(self) -> bool:
        """Whether the numbers leave no gap."""
        return self.count == self.last_k - self.first_k + 1


def spans(engine: Engine, day: str) -> list[Span]:
    """What the audit says was placed on a day, by grant and lane."""
    table = PLACEMENTS.c
    count = func.sum(table.last_k - table.first_k + 1)
    asked = (
        select(table.grant_id, table.lane, func.min(table.first_k), func.max(table.last_k), count)
        .where(table.day == day)
        .group_by(table.grant_id, table.lane)
        .order_by(table.grant_id, table.lane)
    )
    with engine.connect() as connection:
        return [Span(*each[:4], int(each[4])) for each in connection.execute(asked)]


def supplied(
    engine: Engine, publisher: str, first_day: str, last_day: str
) -> list[tuple[str, str, int, int, int]]:
    """(dataset, outcome, records, first decision, last decision in ms) of what it brought in."""
    table = INTAKES.c
    asked = (
        select(
            table.dataset,
            table.outcome,
            func.sum(table.count),
            func.min(table.first_ms),
            func.max(table.last_ms),
        )
        .where(table.publisher == publisher, table.day >= first_day, table.day <= last_day)
        .group_by(table.dataset, table.outcome)
        .order_by(table.dataset, table.outcome)
    )
    with engine.connect() as connection:
        return [
            (each[0], each[1], int(each[2]), int(each[3]), int(each[4]))
            for each in connection.execute(asked)
        ]


def last_blocks(engine: Engine) -> dict[int, int]:
    """Newest block indexed, by lane."""
    asked = select(BLOCKS.c.lane, func.max(BLOCKS.c.sequence)).group_by(BLOCKS.c.lane)
    with engine.connect() as connection:
        return {int(lane): int(sequence) for lane, sequence in connection.execute(asked)}


def placed_up_to(engine: Engine, grant: str, lane: int) -> int:
    """Records of (grant, lane) placed so far, as the index knows."""
    table = PLACEMENTS.c
    asked = select(func.max(table.last_k)).where(table.grant_id == grant, table.lane == lane)
    with engine.connect() as connection:
        return int(connection.execute(asked).scalar() or 0)


def chain_at(engine: Engine, grant: str, lane: int, k: int) -> bytes | None:
    """The delivery chain after record `k` of (grant, lane); None if no block ends there."""
    table = PLACEMENTS.c
    asked = select(table.chain_after).where(
        table.grant_id == grant, table.lane == lane, table.last_k == k
    )
    with engine.connect() as connection:
        found = connection.execute(asked).scalar()
        return None if found is None else bytes(found)


def _fields(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in Question.__dataclass_fields__}


def _split(table: Table, name: str) -> ColumnElement[Any]:
    if name == "month":
        return func.substr(table.c.day, 1, 7).label("month")
    return table.c[name]


def _where(of: Table, question: Question) -> list[ColumnElement[bool]]:
    table = of.c
    exact = {
        table.publisher: question.publisher,
        table.provider: question.provider,
        table.requester: question.requester,
        table.dataset: question.dataset,
        table.grant_id: question.grant,
        table.list_number: question.list_number,
        table.verdict: question.verdict,
        table.direction: question.direction,
        table.giver: question.giver,
        table.receiver: question.receiver,
    }
    found = [column == value for column, value in exact.items() if value is not None]
    if question.first_day is not None:
        found.append(table.day >= question.first_day)
    if question.last_day is not None:
        found.append(table.day <= question.last_day)
    if question.organisation is not None:
        sides = (table.provider, table.publisher, table.requester)
        found.append(or_(*(side == question.organisation for side in sides)))
    if question.supplier is not None:
        gave = (table.provider, table.publisher)
        found.append(or_(*(side == question.supplier for side in gave)))
    return found
