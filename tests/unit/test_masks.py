"""Masks: exact outputs, and that each stands only on types it fits."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_broker.policy.masks import STARS, band_labels, keep, keyed_hash, masker
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Band, Drop, Hash, Keep, Mask
from shutong_core.domain.schemaview import FieldType

INT = FieldType("n", "int")
DOUBLE = FieldType("n", "double")
DECIMAL = FieldType("n", "bytes", "decimal")
DAY = FieldType("n", "int", "date")
TEXT = FieldType("n", "string")


def masked(mask: Mask, field: FieldType, value: Any) -> str:
    return masker(mask, field, b"secret", lambda item: str(item).encode())(value)


@pytest.mark.parametrize(
    ("first", "last", "text", "expected"),
    [
        (1, 0, "示例丙丁", "示********"),
        (0, 1, "示例丙丁", "********丁"),
        (6, 4, "11010519491231002X", "110105********002X"),
        (1, 1, "示例", "********"),
        (2, 1, "示例", "********"),
        (1, 0, "", "********"),
        (0, 0, "示例丙丁", "********"),
        (1, 1, "a😀c", "a********c"),
    ],
)
def test_keep_leaves_first_and_last_code_points(
    first: int, last: int, text: str, expected: str
) -> None:
    assert masked(Keep(mask="keep", first=first, last=last), TEXT, text) == expected


@given(st.text(), st.integers(0, 32), st.integers(0, 32))
def test_keep_always_hides_something_and_never_tells_how_much(
    text: str, first: int, last: int
) -> None:
    out = keep(text, first, last)
    assert STARS in out
    assert len(out) in {8, 8 + first + last}


def test_hash_is_hmac_sha_256_of_the_avro_encoding_in_base64url() -> None:
    digest = hmac.new(b"secret", b"\x02a", hashlib.sha256).digest()[:16]
    expected = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert keyed_hash(b"secret", b"\x02a") == expected
    assert len(expected) == 22
    assert keyed_hash(b"other", b"\x02a") != expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((18.0, 60.0), ("<18", "[18,60)", "≥60")),
        ((0.5,), ("<0.5", "≥0.5")),
        ((-1.25, 0.0, 1e6), ("<-1.25", "[-1.25,0)", "[0,1000000)", "≥1000000")),
        ((1e-7,), ("<0.0000001", "≥0.0000001")),
        ((-0.0,), ("<0", "≥0")),
    ],
)
def test_bands_are_labelled_as_short_as_they_can_be(
    bounds: tuple[float, ...], expected: tuple[str, ...]
) -> None:
    assert band_labels(bounds) == expected


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (INT, 17, "<18"),
        (INT, 18, "[18,60)"),
        (INT, 59, "[18,60)"),
        (INT, 60, "≥60"),
        (DOUBLE, 17.999999, "<18"),
        (DOUBLE, 18.0, "[18,60)"),
        (DECIMAL, Decimal("59.99"), "[18,60)"),
        (DECIMAL, Decimal("60.00"), "≥60"),
    ],
)
def test_a_band_holds_its_lower_bound_and_not_its_upper(
    field: FieldType, value: Any, expected: str
) -> None:
    assert masked(Band(mask="band", bounds=(18.0, 60.0)), field, value) == expected


def test_a_decimal_bound_is_the_number_written_not_its_float() -> None:
    assert masked(Band(mask="band", bounds=(0.1,)), DECIMAL, Decimal("0.1")) == "≥0.1"
    assert masked(Band(mask="band", bounds=(0.3,)), DECIMAL, Decimal("0.3")) == "≥0.3"


def test_dates_band_by_year_or_month() -> None:
    assert masked(Band(mask="band", by="year"), DAY, date(1987, 5, 4)) == "1987"
    assert masked(Band(mask="band", by="month"), DAY, date(1987, 5, 4)) == "1987-05"
    assert masked(Band(mask="band", by="month"), DAY, date(1, 2, 3)) == "0001-02"


@pytest.mark.parametrize(
    ("mask", "field"),
    [
        (Keep(mask="keep", first=1), INT),
        (Keep(mask="keep", first=1), FieldType("n", "string", "uuid")),
        (Keep(mask="keep", first=1), FieldType("n", "enum")),
        (Band(mask="band", bounds=(1.0,)), TEXT),
        (Band(mask="band", bounds=(1.0,)), DAY),
        (Band(mask="band", bounds=(1.0,)), FieldType("n", "long", "timestamp-millis")),
        (Band(mask="band", by="year"), INT),
        (Band(mask="band", by="year"), FieldType("n", "long", "timestamp-millis")),
        (Band(mask="band", bounds=(float("inf"),)), DOUBLE),
        (Drop(mask="drop"), TEXT),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_when_made(mask: Mask, field: FieldType) -> None:
    with pytest.raises(Rejected):
        masker(mask, field, b"", lambda _: b"")


@pytest.mark.parametrize("field", [INT, DOUBLE, DECIMAL, DAY, TEXT, FieldType("n", "array")])
def test_hash_stands_on_any_type(field: FieldType) -> None:
    assert masked(Hash(mask="hash"), field, "x") == keyed_hash(b"secret", b"x")
