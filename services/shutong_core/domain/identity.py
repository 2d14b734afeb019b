"""Checks of the two national identifiers: the code of an organisation, the number of a person.

Both checks look at form and check character only. Whether the identifier was ever issued is not
asked, and an area prefix that is no longer current (or never was) is accepted: old codes stay in
identity numbers for life.
"""

from __future__ import annotations

import re
from datetime import date
from operator import mul

#: GB 32100: no I, O, S, V, Z, which are easily mistaken for digits.
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_FORM = re.compile(rf"[{_USCC_ALPHABET}]{{2}}[0-9]{{6}}[{_USCC_ALPHABET}]{{10}}")
_USCC_VALUE = {character: value for value, character in enumerate(_USCC_ALPHABET)}
_USCC_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))

_ID_NUMBER_FORM = re.compile(r"[0-9]{17}[0-9X]")
#: GB 11643 (ISO 7064 MOD 11-2).
_ID_NUMBER_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_NUMBER_CHECK = "10X98765432"
#: What the weighted sum over ASCII codes is larger by than the sum over the digits themselves.
_ID_NUMBER_ASCII_EXCESS = ord("0") * sum(_ID_NUMBER_WEIGHTS)
#: Years a birth date may have: wide enough for every living or registered person, so that the
#: check needs no clock.
_BIRTH_YEARS = range(1850, 2100)


def uscc_is_valid(text: str) -> bool:
    """True if `text` is a 统一社会信用代码 with a valid check character (GB 32100), upper case."""
    if _USCC_FORM.fullmatch(text) is None:
        return False
    values = [_USCC_VALUE[character] for character in text[:17]]
    check = (31 - sum(map(mul, values, _USCC_WEIGHTS)) % 31) % 31
    return text[17] == _USCC_ALPHABET[check]


def check_uscc(text: str) -> str:
    """`text` itself if it is a valid 统一社会信用代码; ValueError otherwise (for pydantic)."""
    if not uscc_is_valid(text):
        raise ValueError("not a valid unified social credit code (GB 32100)")
    return text


def id_number_is_valid(text: str) -> bool:
    """True if `text` is a 公民身份号码 by GB 11643: 18 characters, real birth date, check digit.

    A lower-case `x` is refused: two spellings of one person would never match each other.
    """
    return birth_date_of(text) is not None


def birth_date_of(text: str) -> date | None:
    """The birth date in a valid 公民身份号码, else None, which must never be read as "adult"."""
    if _ID_NUMBER_FORM.fullmatch(text) is None:
        return None
    # runs once per record where a quality rule asks for it: no integer is made per digit
    total = sum(map(mul, text.encode(), _ID_NUMBER_WEIGHTS)) - _ID_NUMBER_ASCII_EXCESS
    if text[17] != _ID_NUMBER_CHECK[total % 11]:
        return None
    year = int(text[6:10])
    if year not in _BIRTH_YEARS:
        return None
    try:
        return date(year, int(text[10:12]), int(text[12:14]))
    except ValueError:
        return None
