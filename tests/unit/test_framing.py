"""The Confluent wire format: what goes in comes out, anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.reasons import Reason
from shutong_core.wire.framing import frame, frame_prefix, guid_header, schema_guid, unframe

GUID = "12345678-9abc-def0-1234-56789abcdef0"
HEADER = "__value_schema_id"


def test_a_framed_value_is_zero_then_id_big_endian_then_body() -> None:
    assert frame(0x01020304, b"body") == b"\x00\x01\x02\x03\x04body"
    assert frame_prefix(7) == b"\x00\x00\x00\x00\x07"


def test_an_id_beyond_four_bytes_is_a_programming_error() -> None:
    for bad in (-1, 2**32):
        with pytest.raises(ValueError, match="4 bytes"):
            frame(bad, b"")


@given(st.integers(0, 2**32 - 1), st.binary(max_size=64))
def test_unframe_gives_back_what_was_framed(schema_id: int, body: bytes) -> None:
    assert unframe(frame(schema_id, body)) == (schema_id, body)


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01x"])
def test_short_values_and_other_magic_bytes_are_bad_framing(value: bytes) -> None:
    assert unframe(value) is Reason.BAD_FRAMING


def test_an_empty_body_is_framed_all_the_same() -> None:
    assert unframe(b"\x00\x00\x00\x00\x09") == (9, b"")


def test_the_guid_header_wins_and_leaves_the_value_bare() -> None:
    value = b"\x00\x00\x00\x00\x01x"
    assert unframe(value, [guid_header(GUID)]) == (GUID, value)
    assert unframe(b"", [guid_header(GUID)]) == (GUID, b"")


@pytest.mark.parametrize(
    "headers",
    [
        [(HEADER, None)],
        [(HEADER, b"")],
        [(HEADER, b"\x01" + bytes(15))],
        [(HEADER, b"\x01" + bytes(17))],
        [(HEADER, b"\x00" + bytes(16))],
        [guid_header(GUID), guid_header(GUID)],
    ],
)
def test_an_unreadable_guid_header_never_falls_back_to_the_prefix(
    headers: list[tuple[str, bytes | None]],
) -> None:
    assert unframe(b"\x00\x00\x00\x00\x01x", headers) is Reason.BAD_FRAMING


def test_other_headers_are_not_looked_at() -> None:
    assert schema_guid([("x", None), ("ce_id", b"\xff")]) is None


@given(
    st.binary(max_size=40),
    st.lists(st.tuples(st.sampled_from([HEADER, "x"]), st.none() | st.binary(max_size=20))),
)
def test_any_bytes_give_a_value_or_bad_framing(
    value: bytes, headers: list[tuple[str, bytes | None]]
) -> None:
    found = unframe(value, headers)
    assert found is Reason.BAD_FRAMING or (isinstance(found, tuple) and value.endswith(found[1]))
