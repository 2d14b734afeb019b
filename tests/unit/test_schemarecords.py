"""Registrations: stable ids, equal texts share them, garbage is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.errors import Rejected
from shutong_core.wire.schemarecords import (
    Registration,
    Registry,
    decode_registration,
    encode_registration,
)
from shutong_core.wire.schemas import Schema, parse_schema_text


def schema(*items: str) -> Schema:
    meta = {"title": "项", "grade": "general_1"}
    fields = [{"name": item, "type": "string", "shutong": meta} for item in items]
    return parse_schema_text(
        json.dumps({"type": "record", "name": "R", "namespace": "cn.example", "fields": fields})
    )


def test_a_registration_survives_its_record() -> None:
    registration = Registration(3, "a-value", 1, schema("x"))
    assert decode_registration(*encode_registration(registration)) == registration


def test_equal_texts_share_one_id_under_two_subjects() -> None:
    registry = Registry()
    first, new = registry.allot("a-value", schema("x"))
    assert (first.id, first.version, new) == (1, 1, True)
    second, new = registry.allot("b-value", schema("x"))
    assert (second.id, second.version, new) == (1, 1, True)
    again, new = registry.allot("a-value", schema("x"))
    assert (again, new) == (first, False)
    assert registry.allot("a-value", schema("x", "y"))[0].id == 2
    assert [each.subject for each in registry.uses(1)] == ["a-value", "b-value"]
    assert registry.by_guid(schema("x").guid) == (1, schema("x"))


def test_an_id_never_stands_for_another_text() -> None:
    registry = Registry.of([Registration(1, "a-value", 1, schema("x"))])
    with pytest.raises(Rejected):
        registry.add(Registration(1, "a-value", 2, schema("y")))
    with pytest.raises(Rejected):
        registry.add(Registration(2, "b-value", 1, schema("x")))
    with pytest.raises(Rejected):
        registry.add(Registration(2, "a-value", 3, schema("y")))


def test_a_record_whose_digest_or_key_lies_is_refused() -> None:
    key, value = encode_registration(Registration(3, "a-value", 1, schema("x")))
    with pytest.raises(Rejected):
        decode_registration(b"4", value)
    with pytest.raises(Rejected):
        decode_registration(key, value.replace(b'"version":1', b'"version":2').replace(b"3", b"4"))


@given(st.binary(max_size=200), st.one_of(st.none(), st.binary(max_size=300)))
def test_garbage_is_refused(key: bytes, value: bytes | None) -> None:
    with pytest.raises(Rejected):
        decode_registration(key, value)


def test_registrations_of_one_text_share_one_schema() -> None:
    held = Registry()
    first, _ = held.allot("a-value", schema("x"))
    second, _ = held.copy().allot("b-value", schema("x"))
    read = decode_registration(*encode_registration(second), held.by_digest)
    assert read == second
    assert read.schema is held.schemas[first.id]
    assert decode_registration(*encode_registration(second)).schema is not read.schema
