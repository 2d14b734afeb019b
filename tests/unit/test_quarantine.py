"""Quarantine: only the key's holder reads a refused record, and only where it was put."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import bus_schemas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.wire.busrecords import LaneHead, QuarantineHeader
from shutong_core.wire.quarantine import (
    WHOLE_BYTES_MAX,
    QuarantineHeaders,
    Source,
    open_sealed,
    quarantine_headers,
    read_quarantine_headers,
    refused_record,
    seal,
)

CODEC = bus_schemas.codec()
SECRET = bytes(range(32))
SOURCE = Source("births", 3, 42)
RECORD = refused_record(b"key", b"value", [("ce_id", b"1"), ("ce_id", None)])
TOLD = QuarantineHeaders("11441424000000001X/a", "id", Reason.BAD_ID_NUMBER, "id_number", SOURCE)


def test_a_sealed_record_opens_where_it_was_put() -> None:
    sealed = seal(CODEC, SECRET, RECORD, SOURCE)
    assert open_sealed(CODEC, SECRET, sealed, SOURCE) == RECORD
    assert b"value" not in sealed


def test_the_nonce_comes_first_and_is_new_each_time() -> None:
    assert seal(CODEC, SECRET, RECORD, SOURCE, lambda n: b"n" * n)[:12] == b"n" * 12
    assert seal(CODEC, SECRET, RECORD, SOURCE) != seal(CODEC, SECRET, RECORD, SOURCE)


@pytest.mark.parametrize(
    "source", [Source("birth", 3, 42), Source("births", 2, 42), Source("births", 3, 43)]
)
def test_a_sealed_record_does_not_open_at_another_place(source: Source) -> None:
    with pytest.raises(Rejected, match="does not open"):
        open_sealed(CODEC, SECRET, seal(CODEC, SECRET, RECORD, SOURCE), source)


def test_a_sealed_record_does_not_open_with_another_key() -> None:
    with pytest.raises(Rejected, match="does not open"):
        open_sealed(CODEC, bytes(32), seal(CODEC, SECRET, RECORD, SOURCE), SOURCE)


def test_any_altered_bit_is_noticed() -> None:
    sealed = seal(CODEC, SECRET, RECORD, SOURCE)
    for at in range(len(sealed)):
        altered = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(Rejected):
            open_sealed(CODEC, SECRET, altered, SOURCE)


@given(st.binary(max_size=80))
def test_any_other_bytes_are_rejected(sealed: bytes) -> None:
    with pytest.raises(Rejected):
        open_sealed(CODEC, SECRET, sealed, SOURCE)


def test_another_record_of_the_bus_is_rejected_inside_too() -> None:
    sealed = seal(CODEC, SECRET, LaneHead(1, bytes(32), 0), SOURCE)  # type: ignore[arg-type]
    with pytest.raises(Rejected, match="expected QuarantineRecord"):
        open_sealed(CODEC, SECRET, sealed, SOURCE)


def test_what_came_in_is_kept_whole() -> None:
    record = refused_record(None, b"", [("名", b"\xff"), ("x", None), ("\ud800", b"")])
    assert record.whole
    assert (record.key, record.value, record.size) == (None, b"", 3 + 1 + 1 + 6)
    assert record.headers == (
        QuarantineHeader("名", b"\xff"),
        QuarantineHeader("x", None),
        QuarantineHeader("\\ud800", b""),
    )


def test_the_digest_tells_null_from_empty() -> None:
    null = b"\xff\xff\xff\xff"
    assert refused_record(None, b"v", []).digest == hashlib.sha256(null + b"\0\0\0\x01v").digest()
    assert refused_record(b"", None, []).digest == hashlib.sha256(bytes(4) + null).digest()


def test_a_record_too_large_is_kept_as_size_and_digest_only() -> None:
    large = refused_record(b"k", bytes(WHOLE_BYTES_MAX), [("x", b"y")])
    assert not large.whole
    assert (large.key, large.value, large.headers) == (None, None, ())
    assert large.size == WHOLE_BYTES_MAX + 3
    assert large.digest == refused_record(b"k", bytes(WHOLE_BYTES_MAX), []).digest
    assert len(seal(CODEC, SECRET, large, SOURCE)) < 200


def test_the_largest_whole_record_still_fits_its_topic() -> None:
    largest = refused_record(None, bytes(WHOLE_BYTES_MAX), [])
    assert largest.whole
    assert len(seal(CODEC, SECRET, largest, SOURCE)) < 2 * 1024 * 1024 - 32 * 1024


@given(
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=20),
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=10)), max_size=4),
)
def test_any_record_can_be_sealed_and_opened(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    record = refused_record(key, value, headers)
    assert open_sealed(CODEC, SECRET, seal(CODEC, SECRET, record, SOURCE), SOURCE) == record


@pytest.mark.parametrize("told", [TOLD, replace(TOLD, publisher="", event_id=None, path="")])
def test_headers_say_why_without_opening(told: QuarantineHeaders) -> None:
    assert read_quarantine_headers(quarantine_headers(told)) == told


def test_headers_are_plain_text() -> None:
    assert dict(quarantine_headers(TOLD)) == {
        "publisher": b"11441424000000001X/a",
        "dataset": b"births",
        "ce_id": b"id",
        "reason": b"BAD_ID_NUMBER",
        "path": b"id_number",
        "lane": b"3",
        "offset": b"42",
    }


NAMES = ["publisher", "dataset", "ce_id", "reason", "path", "lane", "offset"]


@given(st.dictionaries(st.sampled_from(NAMES), st.none() | st.binary(max_size=5)))
def test_any_headers_are_read_or_rejected(changes: dict[str, bytes | None]) -> None:
    headers = dict(quarantine_headers(TOLD)) | changes
    try:
        found = read_quarantine_headers(list(headers.items()))
    except Rejected:
        return
    assert isinstance(found.reason, Reason)
    assert found.source.offset >= 0


def test_a_header_twice_or_missing_is_rejected() -> None:
    headers = quarantine_headers(TOLD)
    for bad in ([*headers, headers[0]], headers[1:]):
        with pytest.raises(Rejected):
            read_quarantine_headers(bad)
