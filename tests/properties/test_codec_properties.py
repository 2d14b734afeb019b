"""The codec for all admitted schemas: one value, one byte string, and every other is refused."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from fastavro import schemaless_reader, schemaless_writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from properties.avro_strategies import data, mutated, schema_and_datum, schemas
from shutong_core.domain.reasons import Reason
from shutong_core.wire import codec, compat, jsonmap, strictjson
from shutong_core.wire.schemas import Schema, parse_schema_text

SLOW = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@SLOW
@given(schema_and_datum())
def test_what_is_encoded_decodes_to_the_same(case: tuple[Schema, dict[str, Any]]) -> None:
    schema, datum = case
    body = codec.encode(schema, datum)
    assert codec.decode(schema, body) == datum
    codec.check(schema, body)


@SLOW
@given(schema_and_datum())
def test_fastavro_reads_what_we_write(case: tuple[Schema, dict[str, Any]]) -> None:
    schema, datum = case
    body = codec.encode(schema, datum)
    assert schemaless_reader(BytesIO(body), schema.prepared) == datum


@SLOW
@given(schema_and_datum())
def test_fastavro_writes_the_same_bytes_or_a_longer_decimal(
    case: tuple[Schema, dict[str, Any]],
) -> None:
    schema, datum = case
    theirs = BytesIO()
    ours = codec.encode(schema, datum)
    # fastavro writes a map's keys as they come; decoded they come in the canonical order.
    ordered = codec.decode(schema, ours)
    schemaless_writer(theirs, schema.prepared, ordered, strict=True, disable_tuple_notation=True)
    if '"decimal"' in schema.text:
        # fastavro gives -128 two bytes; one is enough.
        assert len(theirs.getvalue()) >= len(ours)
    else:
        assert theirs.getvalue() == ours


@SLOW
@given(st.dictionaries(st.text(), st.booleans(), max_size=6), st.randoms())
def test_a_map_has_one_encoding_whatever_the_order_of_its_keys(
    entries: dict[str, bool], chance: Any
) -> None:
    kind = {"type": "map", "values": "boolean"}
    shutong = {"title": "项", "grade": "general_1"}
    fields = [{"name": "x", "type": kind, "shutong": shutong}]
    schema = parse_schema_text(json.dumps({"type": "record", "name": "R", "fields": fields}))
    body = codec.encode(schema, {"x": entries})
    mixed = list(entries.items())
    chance.shuffle(mixed)
    assert codec.encode(schema, {"x": dict(mixed)}) == body
    if mixed != sorted(entries.items(), key=lambda pair: pair[0].encode()):
        theirs = BytesIO()
        schemaless_writer(theirs, schema.prepared, {"x": dict(mixed)})
        with pytest.raises(codec.Undecodable) as refused:
            codec.decode(schema, theirs.getvalue())
        assert refused.value.reason is Reason.NOT_CANONICAL


@settings(SLOW, max_examples=400)
@given(st.data())
def test_changed_bytes_are_refused_or_are_another_canonical_record(source: st.DataObject) -> None:
    schema = source.draw(schemas())
    body = codec.encode(schema, source.draw(data(schema.record)))
    changed = source.draw(mutated(body))
    try:
        datum = codec.decode(schema, changed)
    except codec.Undecodable:
        return
    assert codec.encode(schema, datum) == changed


@SLOW
@given(st.data())
def test_arbitrary_bytes_never_raise_anything_else(source: st.DataObject) -> None:
    schema = source.draw(schemas())
    body = source.draw(st.binary(max_size=200))
    try:
        datum = codec.decode(schema, body)
    except codec.Undecodable:
        return
    assert codec.encode(schema, datum) == body


@SLOW
@given(schema_and_datum())
def test_json_leads_back_to_the_same_record(case: tuple[Schema, dict[str, Any]]) -> None:
    schema, datum = case
    text = jsonmap.dumps(jsonmap.to_json(schema, datum))
    assert jsonmap.from_json(schema, strictjson.loads(text)) == datum


@SLOW
@given(schemas())
def test_the_canonical_text_is_a_fixed_point(schema: Schema) -> None:
    again = parse_schema_text(schema.text)
    assert again == schema
    assert again.text == schema.text


@SLOW
@given(schemas())
def test_every_schema_reads_its_own_data(schema: Schema) -> None:
    assert compat.unreadable(schema, schema) == ()
