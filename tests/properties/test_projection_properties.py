"""Projections of any schema: what is delivered can be written, and clear bytes stay the same."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from properties.avro_strategies import data, schemas
from shutong_core.domain.grants import Drop, Hash
from shutong_core.wire import codec
from shutong_core.wire.encode import encode_shape
from shutong_core.wire.projection import project_schema
from shutong_core.wire.schemas import parse_schema_text

HOWS = ["clear", "clear", Hash(mask="hash"), Drop(mask="drop"), None]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_a_projection_is_admitted_and_keeps_clear_bytes(source: st.DataObject) -> None:
    schema = source.draw(schemas())
    chosen = {name: source.draw(st.sampled_from(HOWS)) for name in schema.fields}
    items: dict[str, Any] = {name: how for name, how in chosen.items() if how is not None}
    kept = {name: how for name, how in items.items() if not isinstance(how, Drop)}
    if not kept:
        return
    delivered = project_schema(schema, items, "dataset")
    assert list(delivered.fields) == list(delivered.delivered) == list(kept)
    assert parse_schema_text(delivered.text) == delivered

    datum = source.draw(data(schema.record))
    shown = {
        name: datum[name] if how == "clear" else None if datum[name] is None else "masked"
        for name, how in kept.items()
    }
    body = codec.encode(delivered, shown)
    assert codec.decode(delivered, body) == shown
    shapes = {field.name: field.shape for field in schema.record.fields}
    target = {field.name: field.shape for field in delivered.record.fields}
    for name, how in kept.items():
        if how == "clear":
            assert encode_shape(shapes[name], datum[name]) == encode_shape(
                target[name], datum[name]
            )
