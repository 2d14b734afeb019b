"""Checks of 统一社会信用代码 and 公民身份号码."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.identity import (
    birth_date_of,
    check_uscc,
    id_number_is_valid,
    uscc_is_valid,
)

USCC = "91110000600037341L"
ID_NUMBER = "11010519491231002X"
USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def with_check(first_17: str) -> str:
    """An identity number, its check digit reckoned as ISO 7064 MOD 11-2 writes it."""
    rest = 0
    for digit in first_17:
        rest = (rest + int(digit)) * 2 % 11
    return first_17 + "0123456789X"[(12 - rest) % 11]


def test_the_published_code_of_an_organisation_is_valid() -> None:
    assert uscc_is_valid(USCC)
    assert check_uscc(USCC) == USCC


@pytest.mark.parametrize(
    "text",
    [
        "",
        USCC[:-1],
        USCC + "0",
        USCC.lower(),
        " " + USCC[1:],
        USCC + "\n",
        "I" + USCC[1:],  # I is not in the alphabet
        "91A10000600037341L",  # the region part is digits
        "９１１１００００６０００３７３４１L",  # full-width digits
    ],
)
def test_what_has_not_the_form_of_an_organisation_code_is_refused(text: str) -> None:
    assert not uscc_is_valid(text)
    with pytest.raises(ValueError, match="GB 32100"):
        check_uscc(text)


@given(place=st.integers(0, 17), other=st.sampled_from(USCC_ALPHABET))
def test_one_wrong_character_in_an_organisation_code_is_found(place: int, other: str) -> None:
    changed = USCC[:place] + other + USCC[place + 1 :]
    assert uscc_is_valid(changed) == (changed == USCC)


def test_the_published_identity_number_is_valid_and_tells_the_birth_date() -> None:
    assert id_number_is_valid(ID_NUMBER)
    assert birth_date_of(ID_NUMBER) == date(1949, 12, 31)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "11010519491231002x",  # one person, one spelling
        "110105491231002",  # the 15 digits in use before 1999
        ID_NUMBER + "\n",
        "１１０１０５１９４９１２３１００２X",
        with_check("11010519490230002"),  # 30 February
        with_check("11010519491331002"),
        with_check("11010518491231002"),
        with_check("11010521001231002"),
        with_check("11010500000000000"),
    ],
)
def test_what_cannot_be_an_identity_number_is_refused(text: str) -> None:
    assert not id_number_is_valid(text)
    assert birth_date_of(text) is None


@given(place=st.integers(0, 17), other=st.sampled_from("0123456789X"))
def test_one_wrong_character_in_an_identity_number_is_found(place: int, other: str) -> None:
    changed = ID_NUMBER[:place] + other + ID_NUMBER[place + 1 :]
    assert id_number_is_valid(changed) == (changed == ID_NUMBER)


@given(
    prefix=st.integers(0, 999_999),
    born=st.dates(date(1850, 1, 1), date(2099, 12, 31)),
    serial=st.integers(0, 999),
)
def test_any_area_prefix_is_accepted_because_old_codes_stay_in_numbers(
    prefix: int, born: date, serial: int
) -> None:
    number = with_check(f"{prefix:06d}{born:%Y%m%d}{serial:03d}")
    assert birth_date_of(number) == born


@given(st.text(max_size=24))
def test_no_text_makes_the_checks_fail(text: str) -> None:
    assert id_number_is_valid(text) in {True, False}
    assert uscc_is_valid(text) in {True, False}
