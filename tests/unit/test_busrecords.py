"""The bus's own records: single-object encoding, one form only."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import bus_schemas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.errors import Rejected
from shutong_core.wire.busrecords import (
    HEAD_KEY,
    RECORD_BYTES_MAX,
    AccessEvent,
    BusCodec,
    BusRecord,
    DatasetPosition,
    GrantPosition,
    LaneHead,
    LoadingPosition,
    QuarantineHeader,
    QuarantineRecord,
    dataset_key,
    grant_key,
    loading_key,
)

CODEC = bus_schemas.codec()
NUMBERS = st.integers(0, 2**63 - 1)
HASHES = st.binary(min_size=32, max_size=32)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
MAYBE_BYTES = st.none() | st.binary(max_size=20)
RECORDS: st.SearchStrategy[BusRecord] = st.one_of(
    st.builds(LaneHead, NUMBERS, HASHES, NUMBERS),
    st.builds(DatasetPosition, NUMBERS),
    st.builds(GrantPosition, NUMBERS, HASHES),
    st.builds(LoadingPosition, NUMBERS),
    st.builds(
        AccessEvent,
        TEXTS,
        NUMBERS,
        HASHES,
        NUMBERS,
        TEXTS,
        TEXTS,
        TEXTS,
        TEXTS,
        st.integers(0, 255),
        TEXTS,
    ),
    st.builds(
        QuarantineRecord,
        st.booleans(),
        NUMBERS,
        HASHES,
        MAYBE_BYTES,
        MAYBE_BYTES,
        st.lists(st.builds(QuarantineHeader, TEXTS, MAYBE_BYTES), max_size=3).map(tuple),
    ),
)
HEAD = LaneHead(3, bytes(range(32)), 300)


def crc_64_avro(data: bytes) -> bytes:
    """Rabin fingerprint as the Avro specification's Java sample computes it, little-endian."""
    empty = 0xC15D213AA4D7A795

    def entry(value: int) -> int:
        for _ in range(8):
            value = value >> 1 ^ (empty & -(value & 1))
        return value

    found = empty
    for byte in data:
        found = found >> 8 ^ entry((found ^ byte) & 0xFF)
    return found.to_bytes(8, "little")


def test_the_fingerprint_of_the_tests_is_the_specifications() -> None:
    assert crc_64_avro(b'"int"') == 0x7275D51A3F395C8F.to_bytes(8, "little")


def test_a_record_is_marker_then_fingerprint_then_avro() -> None:
    canonical = (
        b'{"name":"cn.shutong.bus.LaneHead","type":"record","fields":['
        b'{"name":"sequence","type":"long"},'
        b'{"name":"header_hash","type":{"name":"cn.shutong.bus.Hash","type":"fixed","size":32}},'
        b'{"name":"audit_offset","type":"long"}]}'
    )
    assert CODEC.encode(HEAD) == (
        b"\xc3\x01" + crc_64_avro(canonical) + b"\x06" + bytes(range(32)) + b"\xd8\x04"
    )


@given(RECORDS)
def test_every_record_reads_back(record: BusRecord) -> None:
    assert CODEC.decode(CODEC.encode(record)) == record


def test_a_record_of_another_type_is_rejected_where_one_is_expected() -> None:
    data = CODEC.encode(HEAD)
    assert CODEC.decode_as(LaneHead, data) == HEAD
    with pytest.raises(Rejected, match="expected GrantPosition, found LaneHead"):
        CODEC.decode_as(GrantPosition, data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:9],
        lambda data: data[:10],
        lambda data: data[:-1],
        lambda data: data + b"\x00",
        lambda data: b"\xc3\x02" + data[2:],
        lambda data: data[:2] + bytes(8) + data[10:],
        lambda data: data[:10] + b"\x86\x00" + data[11:],  # 3 as a long varint
        lambda data: data[:10] + b"\x05" + data[11:],  # -3
    ],
)
def test_anything_else_is_rejected(spoil: Any) -> None:
    with pytest.raises(Rejected):
        CODEC.decode(spoil(CODEC.encode(HEAD)))


@pytest.mark.parametrize(
    "record",
    [
        replace(HEAD, sequence=-1),
        replace(HEAD, sequence=2**63),
        replace(HEAD, sequence=1.0),
        replace(HEAD, header_hash=bytes(31)),
        GrantPosition(1, None),  # type: ignore[arg-type]
        QuarantineRecord(True, 0, bytes(32), b"\x00" * RECORD_BYTES_MAX, None, ()),
    ],
)
def test_what_does_not_fit_is_not_written(record: BusRecord) -> None:
    with pytest.raises(Rejected):
        CODEC.encode(record)


@given(RECORDS, st.binary(max_size=60))
def test_any_bytes_give_a_record_or_rejected(record: BusRecord, garbage: bytes) -> None:
    data = CODEC.encode(record)[:10] + garbage
    for attempt in (garbage, data):
        try:
            found = CODEC.decode(attempt)
        except Rejected:
            continue
        assert CODEC.encode(found) == attempt


def test_a_codec_needs_every_schema_once() -> None:
    with pytest.raises(Rejected, match="no schema for"):
        BusCodec(bus_schemas.TEXTS[1:])
    with pytest.raises(Rejected, match="two schemas"):
        BusCodec((*bus_schemas.TEXTS, bus_schemas.TEXTS[0]))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "Other"}'])
def test_a_schema_that_is_no_bus_record_is_rejected(text: str) -> None:
    with pytest.raises(Rejected, match="cannot be read"):
        BusCodec([text])


def test_a_schema_with_other_fields_than_its_type_is_rejected() -> None:
    changed = json.loads(next(text for text in bus_schemas.TEXTS if '"LaneHead"' in text))
    changed["fields"].pop()
    with pytest.raises(Rejected, match="LaneHead does not have"):
        BusCodec([json.dumps(changed)])


def test_keys_of_topic_lanes() -> None:
    assert [HEAD_KEY, dataset_key("a"), grant_key("a"), loading_key("a")] == [
        b"head",
        b"p/a",
        b"g/a",
        b"l/a",
    ]
