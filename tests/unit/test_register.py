"""A schema given by hand: only under a dataset's subject, only if it fits what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shutong_control.register import allot_schema
from shutong_core.domain.errors import Rejected
from shutong_core.wire.schemarecords import Registry
from shutong_core.wire.schemas import Schema, parse_schema_text
from shutong_core.wire.topics import Topics

SAMPLE = Path(__file__).resolve().parents[2] / "deploy/samples/story/schemas"
TOPICS = Topics("bus")
SUBJECT = "bus.inbound.divisions-2023-value"


def schema(**changes: Any) -> Schema:
    found = json.loads((SAMPLE / "divisions-2023.avsc").read_text(encoding="utf-8"))
    for index, change in changes.items():
        found["fields"][int(index.removeprefix("field"))] |= change
    return parse_schema_text(json.dumps(found))


def test_a_schema_gets_the_next_id_and_version_once() -> None:
    registry = Registry()
    first, new = allot_schema(registry, TOPICS, SUBJECT, schema())
    assert (first.id, first.version, new) == (1, 1, True)
    assert allot_schema(registry, TOPICS, SUBJECT, schema()) == (first, False)
    second, _ = allot_schema(registry, TOPICS, SUBJECT, schema(field0={"doc": "changed"}))
    assert (second.id, second.version) == (2, 2)


def test_equal_text_under_another_subject_shares_the_id() -> None:
    registry = Registry()
    first, _ = allot_schema(registry, TOPICS, SUBJECT, schema())
    other, new = allot_schema(registry, TOPICS, "bus.inbound.other-value", schema())
    assert (other.id, other.version, new) == (first.id, 1, True)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "divisions-2023",
        "bus.inbound.divisions-2023",
        "bus.inbound.Upper-value",
        "bus.inbound.-value",
        "bus.inbound.a/b-value",
        "bus.inbound.a\n-value",
        "bus.delivery.some-grant-value",
        "bus.control.lists-value",
        "other.inbound.divisions-2023-value",
        "bus.inbound." + "a" * 300 + "-value",
    ],
)
def test_only_subjects_of_datasets_are_taken(subject: str) -> None:
    registry = Registry()
    with pytest.raises(Rejected, match="subject"):
        allot_schema(registry, TOPICS, subject, schema())
    assert registry.subjects == ()


def test_an_incompatible_version_is_refused_with_the_field() -> None:
    registry = Registry()
    allot_schema(registry, TOPICS, SUBJECT, schema())
    renamed = schema(field1={"name": "title"})
    with pytest.raises(Rejected, match="title"):
        allot_schema(registry, TOPICS, SUBJECT, renamed)
    assert len(registry.versions(SUBJECT)) == 1
