"""The cursor: one text for one position, nothing else is read."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.reasons import Reason
from shutong_core.wire.cursor import CURSOR_CHARS_MAX, decode_cursor, encode_cursor

POSITIONS = st.dictionaries(st.integers(0, 63), st.integers(0, 2**63 - 1), min_size=1)


def text_of(body: str) -> str:
    return base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()


def test_a_cursor_is_the_next_offsets_in_partition_order() -> None:
    assert encode_cursor({1: 7, 0: 5}) == text_of("v1;p0:5,p1:7")


@given(POSITIONS)
def test_a_position_reads_back(offsets: dict[int, int]) -> None:
    assert decode_cursor(encode_cursor(offsets)) == offsets


def test_the_longest_cursor_is_within_the_bound() -> None:
    longest = dict.fromkeys(range(64), 2**63 - 1)
    assert len(encode_cursor(longest)) <= CURSOR_CHARS_MAX
    assert decode_cursor(encode_cursor(longest)) == longest


@pytest.mark.parametrize(
    "offsets", [{}, {-1: 0}, {64: 0}, {0: -1}, {0: 2**63}, dict.fromkeys(range(65), 0)]
)
def test_positions_out_of_range_are_programming_errors(offsets: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="partition"):
        encode_cursor(offsets)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "v1;",
        "v2;p0:5",
        "v1;p0:05",
        "v1;p00:5",
        "v1;p0:-1",
        "v1;p1:5,p0:5",
        "v1;p0:5,p0:6",
        "v1;p0:5,",
        "v1;p0:5\n",
        "v1;p64:5",
        "v1;p0:9223372036854775808",
        "v1;p0:٥",
    ],
)
def test_a_body_that_is_not_canonical_is_a_bad_cursor(body: str) -> None:
    assert decode_cursor(text_of(body)) is Reason.BAD_CURSOR


def test_other_spellings_of_base64_are_bad_cursors() -> None:
    good = encode_cursor({0: 5})
    assert len(good) % 4 != 0
    for bad in (
        good + "=",
        good + "==",
        good[:-1] + chr(ord(good[-1]) + 1),
        " " + good,
        "A" * 2201,
    ):
        assert decode_cursor(bad) is Reason.BAD_CURSOR


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: text_of(raw.hex())))
def test_any_text_is_a_position_or_a_bad_cursor(text: str) -> None:
    found = decode_cursor(text)
    assert found is Reason.BAD_CURSOR or encode_cursor(dict(found)) == text  # type: ignore[arg-type]
