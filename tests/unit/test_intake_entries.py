"""Bodies taken apart: what is an entry, what is a fault, and that nothing hostile gets further."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.reasons import Reason
from shutong_producer.entries import (
    Entry,
    Faulty,
    LineCutter,
    WrongDocument,
    entries_of_document,
    entry_of_avro,
    entry_of_line,
)

BYTES_MAX = 1000


def reasons(found: Entry | Faulty) -> list[tuple[Reason, str]]:
    assert isinstance(found, Faulty)
    return [(each.reason, each.path) for each in found.problems]


def line(value: Any) -> Entry | Faulty:
    return entry_of_line(3, json.dumps(value).encode(), BYTES_MAX)


def test_an_entry_is_id_operation_and_data() -> None:
    found = line({"id": "e-1", "operation": "correct", "data": {"a": 1}})
    assert isinstance(found, Entry)
    assert (found.index, found.id, found.operation, found.data) == (3, "e-1", "correct", {"a": 1})


def test_id_and_operation_may_be_left_out() -> None:
    found = line({"data": {}})
    assert isinstance(found, Entry)
    assert (found.id, found.operation) == (None, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], (Reason.BAD_REQUEST, "")),
        ({}, (Reason.BAD_REQUEST, "data")),
        ({"id": "", "data": {}}, (Reason.BAD_EVENT_ID, "id")),
        ({"id": 7, "data": {}}, (Reason.BAD_EVENT_ID, "id")),
        ({"id": "x" * 129, "data": {}}, (Reason.BAD_EVENT_ID, "id")),
        ({"id": "a\r\nb", "data": {}}, (Reason.BAD_EVENT_ID, "id")),
        ({"operation": "drop", "data": {}}, (Reason.UNKNOWN_OPERATION, "operation")),
        ({"operation": ["put"], "data": {}}, (Reason.UNKNOWN_OPERATION, "operation")),
        ({"data": {}, "extra": 1}, (Reason.BAD_REQUEST, "")),
    ],
)
def test_what_is_no_entry_is_told_with_its_place(value: Any, expected: tuple[Reason, str]) -> None:
    assert reasons(line(value)) == [expected]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id":"\xff","data":{}}',  # not UTF-8
        b'{"id":"a","id":"b","data":{}}',  # key twice
        b'{"data":{"a":1,"a":2}}',
        b'{"data":' + b"[" * 400 + b"]" * 400 + b"}",  # nested too deeply
        b'{"data":NaN}',
        b'{"data":{}} {"data":{}}',
        b'{"data":' + b"9" * 900 + b"",
        b"\x00",
    ],
)
def test_json_that_could_mean_two_things_is_refused(raw: bytes) -> None:
    assert reasons(entry_of_line(0, raw, BYTES_MAX)) == [(Reason.BAD_REQUEST, "")]


def test_unknown_members_and_arrays_are_told_with_the_remedy() -> None:
    extra = line({"data": {}, "eventId": 1, "a\nb": 2})
    assert isinstance(extra, Faulty)
    assert "eventId、a?b" in extra.problems[0].zh
    assert "eventId, a?b" in extra.problems[0].en
    array = line([{"data": {}}])
    assert isinstance(array, Faulty)
    assert "one object per line" in array.problems[0].en
    with pytest.raises(WrongDocument, match=r'x-ndjson.*\{"records"') as refused:
        list(entries_of_document(b'[{"data":{}}]', 10))
    assert "每行一个对象" in refused.value.problem.zh
    with pytest.raises(WrongDocument, match="remove more"):
        list(entries_of_document(b'{"records":[],"more":1}', 10))


def test_a_line_above_the_limit_is_not_parsed() -> None:
    raw = b'{"data":"' + b"x" * BYTES_MAX + b'"}'
    assert reasons(entry_of_line(0, raw, BYTES_MAX)) == [(Reason.TOO_LARGE, "")]


def test_a_document_is_one_record_or_a_list_of_them() -> None:
    one = list(entries_of_document(b'{"data":{}}', 10))
    many = list(entries_of_document(b'{"records":[{"data":{}},{"id":"b","data":{}},3]}', 10))
    assert [each.index for each in one] == [0]
    assert [type(each) for each in many] == [Entry, Entry, Faulty]
    assert [each.index for each in many] == [0, 1, 2]


@pytest.mark.parametrize("raw", [b"", b"{", b'{"records":{}}', b'{"records":[],"more":1}'])
def test_a_broken_document_has_no_entries(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(entries_of_document(raw, 10))


def test_a_document_of_too_many_records_is_refused_as_a_whole() -> None:
    with pytest.raises(OverflowError):
        list(entries_of_document(b'{"records":[1,2,3]}', 2))


def test_an_avro_body_takes_id_and_operation_from_headers() -> None:
    found = entry_of_avro(b"\x00", "e-1", "delete")
    assert isinstance(found, Entry)
    assert (found.framed, found.id, found.operation) == (b"\x00", "e-1", "delete")
    assert reasons(entry_of_avro(b"", "\r\n", "x")) == [
        (Reason.BAD_EVENT_ID, "X-Event-Id"),
        (Reason.UNKNOWN_OPERATION, "X-Operation"),
    ]


@given(st.binary(max_size=300))
def test_garbage_is_never_more_than_a_fault(raw: bytes) -> None:
    entry_of_line(0, raw, BYTES_MAX)
    with contextlib.suppress(ValueError, OverflowError):
        list(entries_of_document(raw, 10))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["id", "operation", "data", "x"]), _VALUES))
def test_any_json_is_an_entry_or_a_fault(value: Any) -> None:
    found = entry_of_line(0, json.dumps(value).encode(), 1 << 20)
    assert isinstance(found, Entry | Faulty)


def cut(parts: Iterable[bytes], line_max: int = 100) -> list[tuple[bytes | None, str]]:
    cutter = LineCutter(line_max)
    found = [each for part in parts for each in cutter.feed(part)]
    return found + list(cutter.end())


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.data())
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], data: Any) -> None:
    whole = b"\n".join(lines)
    parts, rest = [], whole
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        parts.append(rest[:size])
        rest = rest[size:]
    wanted = [each.removesuffix(b"\r") for each in lines]
    wanted = [each for each in wanted if each.strip(b" \t\r")]
    assert [each for each, _ in cut(parts)] == wanted


def test_an_overlong_line_is_told_and_the_next_one_read() -> None:
    long = b"x" * 1000
    cutter = LineCutter(100)
    found = []
    for start in range(0, 1000, 50):
        found += cutter.feed(long[start : start + 50])
        assert cutter.held_bytes <= 101
    found += cutter.feed(b"\nnext\n")
    assert found == [
        (None, hashlib.sha256(long).hexdigest()),
        (b"next", hashlib.sha256(b"next").hexdigest()),
    ]
