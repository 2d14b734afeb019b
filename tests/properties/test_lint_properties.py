"""Linting hostile schemas: an answer for everything, and what is admitted works."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from properties.avro_strategies import data, schema_objects
from shutong_core.domain.errors import Rejected
from shutong_core.wire import codec
from shutong_core.wire.lint import lint_schema
from shutong_core.wire.schemas import parse_schema_text

KEYS = ("type", "name", "namespace", "fields", "items", "values", "symbols", "size", "default")
KEYS += ("logicalType", "precision", "scale", "aliases", "order", "shutong", "__named_schemas")
WORDS = st.sampled_from(
    ["", "null", "int", "string", "record", "enum", "Row", "cn.test.Row", "T1", "a b", "名", "a.b"]
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | WORDS, inner, max_size=4)
    ),
    max_leaves=8,
)


def _spots(raw: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    if isinstance(raw, dict):
        return [spot for key, v in raw.items() for spot in [(raw, key), *_spots(v)]]
    if isinstance(raw, list):
        return [spot for n, v in enumerate(raw) for spot in [(raw, n), *_spots(v)]]
    return []


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_a_changed_schema_is_refused_or_works(source: st.DataObject) -> None:
    raw = json.loads(json.dumps(source.draw(schema_objects())))
    for _ in range(source.draw(st.integers(1, 2))):
        place, key = source.draw(st.sampled_from(_spots(raw)))
        if isinstance(place, dict) and source.draw(st.booleans()):
            key = source.draw(st.sampled_from(KEYS))
        place[key] = source.draw(JUNK)
    text = json.dumps(raw)
    try:
        schema = parse_schema_text(text)
    except Rejected:
        assert lint_schema(text)
        return
    datum = source.draw(data(schema.record))
    assert codec.decode(schema, codec.encode(schema, datum)) == datum


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | JUNK.map(json.dumps))
def test_anything_else_has_findings(text: bytes | str) -> None:
    assert lint_schema(text)
