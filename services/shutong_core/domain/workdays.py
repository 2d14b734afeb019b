"""Deadlines in working days: count days on which offices work, say when that is not yet known.

The day of the start is not counted (民法典 Art. 201); weekends and holidays are skipped, swap days
(调休) count. All dates are those of Asia/Shanghai; a deadline ends with its day.

The yearly arrangement of holidays is published late in the year before. For a year that nobody has
announced, weekends and the 13 days of 全国年节及纪念日放假办法 (2024) Art. 2 are taken as free and
the deadline is marked provisional: it has to be computed again once the arrangement is loaded.
Moved and make-up days are left out there, so a provisional deadline tends to be early, never
generous.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone

import chinese_calendar

from shutong_core.domain.errors import Rejected

#: Asia/Shanghai has had no daylight saving time since 1991, so no time zone file is needed.
SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")
#: No deadline of law or local rule comes near; bounds the walk.
WORKING_DAYS_MAX = 1000

#: Years whose arrangement `chinesecalendar` 1.11 carries.
_ANNOUNCED_YEARS = range(2004, 2027)
#: Spring Festival (正月初一), 清明, 端午, 中秋 as (month, day) of years without an arrangement.
_FESTIVALS: Mapping[int, tuple[tuple[int, int], ...]] = {
    2027: ((2, 6), (4, 5), (6, 9), (9, 15)),
    2028: ((1, 26), (4, 4), (5, 28), (10, 3)),
    2029: ((2, 13), (4, 4), (6, 16), (9, 22)),
    2030: ((2, 3), (4, 5), (6, 5), (9, 12)),
    2031: ((1, 23), (4, 5), (6, 24), (10, 1)),
    2032: ((2, 11), (4, 4), (6, 12), (9, 19)),
    2033: ((1, 31), (4, 4), (6, 1), (9, 8)),
    2034: ((2, 19), (4, 5), (6, 20), (9, 27)),
    2035: ((2, 8), (4, 5), (6, 10), (9, 16)),
    2036: ((1, 28), (4, 4), (5, 30), (10, 4)),
}


@dataclass(frozen=True, slots=True)
class Deadline:
    """The last day in time; `provisional` if a year was counted that is not announced yet."""

    date: date
    provisional: bool

    @property
    def ends(self) -> datetime:
        """The first instant that is too late (UTC): the end of the day in Asia/Shanghai."""
        after = datetime.combine(self.date + timedelta(days=1), time(), SHANGHAI)
        return after.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class WorkingCalendar:
    """Which days are working days.

    `overrides` says so for single days and wins over everything (local notices, corrections).
    `complete_years` are years of which all holidays and swap days stand in `overrides`; they are
    no longer provisional.
    """

    overrides: Mapping[date, bool] = field(default_factory=dict)
    complete_years: frozenset[int] = frozenset()

    def is_working_day(self, day: date) -> bool:
        """True if offices work on `day`. Raises Rejected for a year that nothing is known of."""
        override = self.overrides.get(day)
        if override is not None:
            return override
        if day.year in self.complete_years:
            return day.weekday() < 5
        if day.year in _ANNOUNCED_YEARS:
            return bool(chinese_calendar.is_workday(day))
        return day.weekday() < 5 and day not in _statutory_holidays(day.year)

    def is_provisional(self, day: date) -> bool:
        """True if `day` was answered without an announced arrangement for its year."""
        return not (
            day.year in _ANNOUNCED_YEARS or day.year in self.complete_years or day in self.overrides
        )


def shanghai_date(instant: datetime) -> date:
    """The date in Asia/Shanghai at an aware `instant`: the start day of a timer.

    Raises ValueError if `instant` has no offset.
    """
    if instant.tzinfo is None:
        raise ValueError("an instant without offset has no date in Asia/Shanghai")
    return instant.astimezone(SHANGHAI).date()


def add_working_days(start: date, n: int, calendar: WorkingCalendar) -> Deadline:
    """The n-th working day after `start` (1 <= n <= 1000), `start` itself not counted.

    Raises Rejected if n is out of bounds, or a year is reached that nothing is known of.
    """
    if not 1 <= n <= WORKING_DAYS_MAX:
        raise Rejected(f"{n} working days: must be between 1 and {WORKING_DAYS_MAX}")
    day, left, provisional = start, n, False
    while left:
        day += timedelta(days=1)
        provisional = provisional or calendar.is_provisional(day)
        left -= calendar.is_working_day(day)
    return Deadline(day, provisional)


def _statutory_holidays(year: int) -> frozenset[date]:
    """The 13 days of 全国年节及纪念日放假办法 (2024) Art. 2, unmoved."""
    if year not in _FESTIVALS:
        raise Rejected(f"no calendar for {year}: load its holidays and swap days as overrides")
    spring, *others = (date(year, month, day) for month, day in _FESTIVALS[year])
    eve_to_third = [spring + timedelta(days=offset) for offset in (-1, 0, 1, 2)]
    fixed = [date(year, *place) for place in ((1, 1), (5, 1), (5, 2), (10, 1), (10, 2), (10, 3))]
    return frozenset([*eve_to_third, *others, *fixed])
