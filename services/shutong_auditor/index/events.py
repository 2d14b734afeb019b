"""Access events in the index: written as topic `access` has them, asked by day, actor, act, target.

What in the topic is no event is kept as such: that somebody wrote there shows, not what.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, insert, select

from shutong_auditor.index.indexer import day_of
from shutong_auditor.index.schema import EVENTS
from shutong_core.audit.access import event_hash
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.wire.busrecords import AccessEvent, BusCodec

UNREADABLE = "(unreadable)"
LINES_MAX = 10_000
COLUMNS = (
    "at_ms",
    "day",
    "service",
    "actor",
    "action",
    "target",
    "reason",
    "detail",
    "number",
    "offset",
)


@dataclass(frozen=True, slots=True)
class EventQuestion:
    """Which events are meant; None: all. Days as in `questions.Question`."""

    first_day: str | None = None
    last_day: str | None = None
    actor: str | None = None  # organisation, `<organisation>/<system>` or command line
    action: str | None = None
    target: str | None = None
    refused: bool | None = None


class EventWriter:
    """Puts events of topic `access` into the index."""

    def __init__(self, engine: Engine, codec: BusCodec) -> None:
        self._engine = engine
        self._codec = codec

    def next(self, number: int) -> int:
        """Offset of the first event of partition `number` that is not indexed yet."""
        asked = select(func.max(EVENTS.c.offset)).where(EVENTS.c.number == number)
        with self._engine.connect() as connection:
            found = connection.execute(asked).scalar()
        return 0 if found is None else int(found) + 1

    def add(self, number: int, records: Iterable[tuple[int, bytes, int]]) -> int:
        """Index (offset, stored event, time of Kafka) in one transaction; how many were new.

        Raises Rejected if another event stands under an offset that is indexed.
        """
        made = {offset: self._row(number, offset, data, at) for offset, data, at in records}
        if not made:
            return 0
        asked = select(EVENTS.c.offset, EVENTS.c.event_hash).where(
            EVENTS.c.number == number, EVENTS.c.offset.between(min(made), max(made))
        )
        with self._engine.begin() as connection:
            for offset, digest in connection.execute(asked).all():
                row = made.pop(offset, None)
                if row is not None and row["event_hash"] != digest:
                    raise Rejected(
                        f"access {number} offset {offset}: indexed as {digest.hex()[:16]}…, the"
                        f" topic has {row['event_hash'].hex()[:16]}…: there are two histories"
                    )
            if made:
                connection.execute(insert(EVENTS), list(made.values()))
        return len(made)

    def _row(self, number: int, offset: int, data: bytes, at_ms: int) -> dict[str, Any]:
        try:
            event = self._codec.decode_as(AccessEvent, data)
            reason = Reason.of(event.reason).name if event.reason else ""
            day = day_of(event.at_ms)
        except (Rejected, ValueError, OverflowError, OSError):
            event = AccessEvent("", 0, b"", max(0, at_ms), "", "", UNREADABLE, "", 0, "")
            reason, day = "", day_of(event.at_ms)
        return {
            "number": number,
            "offset": offset,
            "event_hash": event_hash(data),
            "day": day,
            "at_ms": event.at_ms,
            "process": _text(event.process),
            "sequence": event.sequence,
            "service": _text(event.service),
            "actor": _text(event.actor),
            "action": _text(event.action),
            "target": _text(event.target),
            "reason": reason,
            "detail": _text(event.detail),
        }


def events(
    engine: Engine, question: EventQuestion, limit: int = 1_000, skip: int = 0
) -> tuple[list[dict[str, Any]], bool]:
    """Events, newest first, and whether there are more beyond the limit. Raises Rejected."""
    if not 1 <= limit <= LINES_MAX or skip < 0:
        raise Rejected(f"行数应为 1 至 {LINES_MAX}。 The limit is 1 to {LINES_MAX} lines.")
    table = EVENTS.c
    asked = select(*(table[name] for name in COLUMNS))
    if question.first_day is not None:
        asked = asked.where(table.day >= question.first_day)
    if question.last_day is not None:
        asked = asked.where(table.day <= question.last_day)
    if question.actor is not None:
        one = table.actor == question.actor
        asked = asked.where(one | table.actor.startswith(f"{question.actor}/", autoescape=True))
    if question.action is not None:
        asked = asked.where(table.action == question.action)
    if question.target is not None:
        asked = asked.where(table.target == question.target)
    if question.refused is not None:
        asked = asked.where((table.reason != "") == question.refused)
    ordered = asked.order_by(table.at_ms.desc(), table.number, table.offset.desc())
    with engine.connect() as connection:
        found = connection.execute(ordered.limit(limit + 1).offset(skip)).mappings().all()
    return [dict(each) for each in found[:limit]], len(found) > limit


def _text(text: str) -> str:
    return text.replace("\x00", "")  # PostgreSQL's texts hold none
