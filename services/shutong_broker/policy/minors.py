"""Whether a record is about a person under 14 when it is decided (个人信息保护法 Art. 28).

Their data is sensitive whatever the item, so a doubtful birth date counts as under 14.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from shutong_core.domain.identity import birth_date_of

ADULT_FROM_YEARS = 14
#: What a birth date may be taken from as a moment, and what one day of it counts.
DAYS = {"timestamp-millis": 86_400_000, "timestamp-micros": 86_400_000_000}
#: The law's days are days in China, which keeps one time all year.
SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day_in_china(now_ms: int) -> date:
    """The calendar day in China at `now_ms` (milliseconds since the epoch, UTC)."""
    return (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(SHANGHAI).date()


def any_under_14(values: Iterable[Any], today: date) -> bool:
    """True if any of `values` tells a person under 14 on `today`, or cannot be read.

    A value is a date, a moment with offset, an identity number or the text `YYYY-MM-DD`; null
    tells nothing. A birthday counts as the last day of the old age: one is 14 from the day
    after it (the reckoning of the Supreme People's Court for ages under the criminal law).
    """
    return any(value is not None and _is_under_14(value, today) for value in values)


def _is_under_14(value: Any, today: date) -> bool:
    born = _birth(value)
    if born is None:
        return True
    turns = (born.year + ADULT_FROM_YEARS, born.month, born.day)
    return (today.year, today.month, today.day) <= turns


def _birth(value: Any) -> date | None:
    if isinstance(value, datetime):
        return value.astimezone(SHANGHAI).date() if value.tzinfo is not None else None
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        return None
    if len(value) == len("YYYY-MM-DD") and value.isascii() and value[4] == value[7] == "-":
        try:
            return date.fromisoformat(value)
        except ValueError:
            return None
    return birth_date_of(value)
