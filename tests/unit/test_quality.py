"""Quality rules and the rule for minors: what passes, what fails, and with which item."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from shutong_broker.policy.minors import any_under_14, day_in_china
from shutong_core.domain.catalogue import (
    IdNumberRule,
    QualityRule,
    RequiredRule,
    SumRule,
    UsccRule,
)
from shutong_core.domain.errors import Rejected
from shutong_core.domain.quality import RULES, compile_rule
from shutong_core.domain.reasons import Reason
from shutong_core.domain.schemaview import FieldType, PlainSchemaView

VIEW = PlainSchemaView(
    {},
    {
        field.name: field
        for field in (
            FieldType("id", "string", nullable=True),
            FieldType("id2", "string", nullable=True),
            FieldType("note", "string", nullable=True),
            FieldType("photo", "bytes", nullable=True),
            FieldType("tags", "array", nullable=True),
            FieldType("flag", "boolean", nullable=True),
            FieldType("n", "int", nullable=True),
            FieldType("big", "long", nullable=True),
            FieldType("x", "double", nullable=True),
            FieldType("day", "int", "date", nullable=True),
            FieldType("fee", "bytes", "decimal", nullable=True),
            FieldType("part", "fixed", "decimal", nullable=True),
        )
    },
)


def at_fault(rule: QualityRule, **datum: Any) -> str | None:
    return compile_rule(rule, VIEW).check(datum)


@pytest.mark.parametrize("empty", [None, "", b"", [], {}])
def test_required_fails_on_null_and_on_what_has_nothing_in_it(empty: Any) -> None:
    rule = RequiredRule(rule="required", items=("note", "id"))
    assert at_fault(rule, note="x", id=empty) == "id"
    assert at_fault(rule, note=empty, id=empty) == "note"


@pytest.mark.parametrize("value", [" ", "0", 0, 0.0, False, b"\x00", [None]])
def test_required_passes_on_any_value(value: Any) -> None:
    assert at_fault(RequiredRule(rule="required", items=("n",)), n=value) is None


@pytest.mark.parametrize(
    ("value", "sound"),
    [
        ("11010519491231002X", True),
        (None, True),
        ("110105194912310021", False),
        ("11010519491231002x", False),
        ("", False),
        ("440000202001010014", True),
    ],
)
def test_identity_numbers_are_checked_where_they_are_given(value: str | None, sound: bool) -> None:
    rule = IdNumberRule(rule="id_number", items=("id", "id2"))
    assert at_fault(rule, id=None, id2=value) == (None if sound else "id2")


def test_credit_codes_are_checked_where_they_are_given() -> None:
    rule = UsccRule(rule="uscc", items=("id",))
    assert at_fault(rule, id="91110000600037341L") is None
    assert at_fault(rule, id=None) is None
    assert at_fault(rule, id="91110000600037341X") == "id"


@pytest.mark.parametrize(
    ("total", "parts", "sound"),
    [
        ("0.30", ("0.10", "0.20"), True),
        ("0.3", ("0.10", "0.20"), True),
        ("0.31", ("0.10", "0.20"), False),
        ("-1.00", ("-2.50", "1.50"), True),
        (
            "99999999999999999999999999999999999999",
            ("99999999999999999999999999999999999998", "1"),
            True,
        ),
        (
            "99999999999999999999999999999999999999",
            ("99999999999999999999999999999999999999", "1"),
            False,
        ),
    ],
)
def test_sums_are_exact_beyond_the_digits_of_a_decimal_context(
    total: str, parts: tuple[str, str], sound: bool
) -> None:
    rule = SumRule(rule="sum", total="fee", parts=("part", "big"))
    first, second = map(Decimal, parts)
    assert (at_fault(rule, fee=Decimal(total), part=first, big=second) is None) is sound


def test_a_sum_of_integers_and_decimals_may_be_mixed() -> None:
    rule = SumRule(rule="sum", total="fee", parts=("n", "part"))
    assert at_fault(rule, fee=Decimal("3.50"), n=3, part=Decimal("0.5")) is None


@pytest.mark.parametrize("null", ["fee", "n", "part"])
def test_a_null_in_a_sum_fails_it(null: str) -> None:
    rule = SumRule(rule="sum", total="fee", parts=("n", "part"))
    datum: dict[str, Any] = {"fee": Decimal(3), "n": 1, "part": Decimal(2)} | {null: None}
    assert at_fault(rule, **datum) == "fee"


@pytest.mark.parametrize(
    "rule",
    [
        RequiredRule(rule="required", items=("nope",)),
        IdNumberRule(rule="id_number", items=("n",)),
        UsccRule(rule="uscc", items=("photo",)),
        SumRule(rule="sum", total="fee", parts=("x",)),
        SumRule(rule="sum", total="day", parts=("n",)),
        SumRule(rule="sum", total="note", parts=()),
    ],
)
def test_a_rule_that_does_not_fit_the_schema_is_refused_when_made(rule: QualityRule) -> None:
    with pytest.raises(Rejected):
        compile_rule(rule, VIEW)


def test_each_rule_refuses_with_its_own_reason() -> None:
    assert [reason for reason, _ in RULES.values()] == [
        Reason.REQUIRED_MISSING,
        Reason.BAD_ID_NUMBER,
        Reason.BAD_USCC,
        Reason.ITEMS_DISAGREE,
    ]


TODAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("value", "under"),
    [
        (None, False),
        (date(2012, 11, 19), False),
        (date(2012, 11, 20), True),
        (date(2012, 11, 21), True),
        (date(2030, 1, 1), True),
        (date(1, 1, 1), False),
        ("11010519491231002X", False),
        ("440000202001010014", True),
        ("2012-11-19", False),
        ("2012-11-20", True),
        ("", True),
        ("unknown", True),
        ("2012-13-01", True),
        ("20121119", True),
        ("110105491231002", True),
        (datetime(2012, 11, 19, 15, 59, 59, tzinfo=UTC), False),
        (datetime(2012, 11, 19, 16, 0, 0, tzinfo=UTC), True),
        (datetime(1990, 1, 1), True),  # noqa: DTZ001 - no offset tells no day
        (19491231, True),
    ],
)
def test_who_is_under_14_on_a_day(value: Any, under: bool) -> None:
    assert any_under_14([value], TODAY) is under


def test_one_child_among_adults_is_enough_and_nobody_is_no_child() -> None:
    assert any_under_14([None, date(1980, 1, 1), date(2020, 1, 1)], TODAY)
    assert not any_under_14([], TODAY)


def test_a_birthday_on_29_february_ends_with_february() -> None:
    assert any_under_14([date(2008, 2, 29)], date(2022, 2, 28))
    assert not any_under_14([date(2008, 2, 29)], date(2022, 3, 1))


def test_the_day_changes_at_midnight_in_china() -> None:
    noon_utc = 1_795_089_600_000  # 2026-11-19T12:00:00Z
    assert day_in_china(noon_utc) == date(2026, 11, 19)
    assert day_in_china(noon_utc + 4 * 3_600_000 - 1) == date(2026, 11, 19)
    assert day_in_china(noon_utc + 4 * 3_600_000) == date(2026, 11, 20)
