"""Deadlines in working days of Asia/Shanghai."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.errors import Rejected
from shutong_core.domain.workdays import (
    Deadline,
    WorkingCalendar,
    add_working_days,
    shanghai_date,
)

CALENDAR = WorkingCalendar()


@pytest.mark.parametrize(
    ("start", "n", "end"),
    [
        ("2025-09-29", 10, "2025-10-20"),  # over the National Day holidays, with swap days
        ("2025-09-30", 1, "2025-10-09"),
        ("2026-02-13", 1, "2026-02-14"),  # a Saturday that is worked
        ("2026-02-12", 5, "2026-02-26"),
        ("2025-12-30", 20, "2026-01-28"),  # over the end of the year
    ],
)
def test_the_start_is_not_counted_holidays_are_skipped_swap_days_count(
    start: str, n: int, end: str
) -> None:
    deadline = add_working_days(date.fromisoformat(start), n, CALENDAR)
    assert deadline == Deadline(date.fromisoformat(end), provisional=False)


def test_a_deadline_ends_with_its_day_in_shanghai() -> None:
    assert Deadline(date(2026, 2, 14), provisional=False).ends == datetime(
        2026, 2, 14, 16, tzinfo=UTC
    )


def test_a_timer_starts_on_the_date_it_is_in_shanghai() -> None:
    assert shanghai_date(datetime(2026, 2, 13, 15, 59, 59, tzinfo=UTC)) == date(2026, 2, 13)
    assert shanghai_date(datetime(2026, 2, 13, 16, tzinfo=UTC)) == date(2026, 2, 14)


def test_an_instant_without_offset_has_no_date() -> None:
    with pytest.raises(ValueError, match="offset"):
        shanghai_date(datetime(2026, 2, 13))  # noqa: DTZ001 - the fault under test


def test_a_year_without_announced_calendar_is_counted_provisionally() -> None:
    # 2027-02-05 (Friday) is New Year's Eve of the lunar year, 02-08 the last of its four days
    deadline = add_working_days(date(2027, 2, 4), 1, CALENDAR)
    assert deadline == Deadline(date(2027, 2, 9), provisional=True)


def test_one_provisional_day_on_the_way_makes_the_deadline_provisional() -> None:
    assert not add_working_days(date(2026, 12, 30), 1, CALENDAR).provisional
    assert add_working_days(date(2026, 12, 31), 1, CALENDAR).provisional


def test_a_year_that_is_loaded_is_no_longer_provisional() -> None:
    loaded = WorkingCalendar(
        overrides={date(2027, 2, 5): False, date(2027, 2, 8): False, date(2027, 2, 6): True},
        complete_years=frozenset({2027}),
    )
    assert add_working_days(date(2027, 2, 4), 1, loaded) == Deadline(date(2027, 2, 6), False)
    assert add_working_days(date(2027, 2, 4), 2, loaded) == Deadline(date(2027, 2, 9), False)


def test_an_override_wins_over_the_announced_calendar() -> None:
    typhoon = WorkingCalendar(overrides={date(2025, 9, 24): False})
    assert add_working_days(date(2025, 9, 23), 1, CALENDAR).date == date(2025, 9, 24)
    assert add_working_days(date(2025, 9, 23), 1, typhoon) == Deadline(date(2025, 9, 25), False)


def test_a_year_that_nothing_is_known_of_is_refused() -> None:
    with pytest.raises(Rejected, match="2037"):
        add_working_days(date(2036, 12, 31), 1, CALENDAR)
    with pytest.raises(Rejected, match="2003"):
        CALENDAR.is_working_day(date(2003, 1, 2))


@pytest.mark.parametrize("n", [-1, 0, 1001])
def test_a_number_of_days_out_of_bounds_is_refused(n: int) -> None:
    with pytest.raises(Rejected, match="between"):
        add_working_days(date(2026, 1, 5), n, CALENDAR)


@pytest.mark.parametrize("year", range(2027, 2037))
def test_a_provisional_year_leaves_out_the_thirteen_statutory_days(year: int) -> None:
    days = [date(year, 1, 1) + timedelta(days=n) for n in range(365)]
    free = [day for day in days if not CALENDAR.is_working_day(day) and day.weekday() < 5]
    weekend = sum(day.weekday() >= 5 for day in days)
    assert len(free) <= 13
    assert 250 <= len(days) - weekend - len(free) <= 262


@given(start=st.dates(date(2005, 1, 1), date(2034, 12, 31)), n=st.integers(1, 60))
def test_a_deadline_is_a_working_day_and_one_more_day_ends_later(start: date, n: int) -> None:
    deadline = add_working_days(start, n, CALENDAR)
    assert CALENDAR.is_working_day(deadline.date)
    assert deadline.date > start
    assert add_working_days(start, n + 1, CALENDAR).date > deadline.date
