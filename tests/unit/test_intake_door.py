"""Entries become Kafka records, or all their faults are told; nothing unsound gets through."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.reasons import Reason
from shutong_core.wire.codec import decode
from shutong_core.wire.framing import unframe
from shutong_core.wire.headers import InboundHeaders, read_headers
from shutong_core.wire.keys import partition_of
from shutong_core.wire.projection import project_schema
from shutong_producer.door import Door, NoSchema, Prepared
from shutong_producer.entries import Entry, Faulty
from unit.intake_world import DATASET, PUBLISHER, avro, data, door, world
from unit.policy_world import LANES, schema

DOOR = door()


def prepare(it: Door = DOOR, **entry: Any) -> Prepared | Faulty:
    return it.prepare(Entry(0, "0" * 64, **entry))


def faults(found: Prepared | Faulty) -> list[tuple[Reason, str]]:
    assert isinstance(found, Faulty)
    return [(each.reason, each.path) for each in found.problems]


def taken(found: Prepared | Faulty) -> Prepared:
    assert isinstance(found, Prepared), found
    return found


def test_a_sound_record_is_framed_keyed_and_named_after_its_publisher() -> None:
    found = taken(prepare(id="e-1", data=data()))
    key, value = found.record.key, found.record.value
    assert key == b"MZ-2026-0001"
    assert found.partition == partition_of(key, LANES)
    assert value is not None
    framed = unframe(value)
    assert not isinstance(framed, Reason)
    schema_id, body = framed
    assert schema_id == 1
    assert decode(schema(), body)["name"] == "示例丙丁"
    assert found.digest == hashlib.sha256(body).hexdigest()
    headers = read_headers(found.record.headers)
    assert isinstance(headers, InboundHeaders)
    assert (headers.publisher, headers.event_id, headers.ce_type) == (PUBLISHER, "e-1", None)


def test_a_missing_id_is_made_and_told() -> None:
    found = taken(prepare(data=data()))
    assert (found.id, found.id_made) == ("made-1", True)


def test_json_and_avro_of_one_record_are_the_same_bytes() -> None:
    as_json, as_avro = taken(prepare(id="e", data=data())), taken(prepare(id="e", framed=avro()))
    assert as_json.record == as_avro.record
    assert as_json.digest == as_avro.digest


def test_every_fault_of_a_record_is_told_at_once() -> None:
    wrong = data(members="three", decided_on="2026-13-01", bank_account="x")
    del wrong["name"]
    assert faults(prepare(data=wrong)) == [
        (Reason.REQUIRED_MISSING, "name"),
        (Reason.BAD_VALUE, "members"),
        (Reason.BAD_VALUE, "decided_on"),
        (Reason.UNKNOWN_ITEM, "bank_account"),
    ]


def test_quality_rules_are_told_with_their_items() -> None:
    wrong = data(agency="", id_number="110105194912310021", members=9)
    assert faults(prepare(data=wrong)) == [
        (Reason.REQUIRED_MISSING, "agency"),
        (Reason.BAD_ID_NUMBER, "id_number"),
        (Reason.ITEMS_DISAGREE, "members"),
    ]
    assert faults(prepare(framed=avro(members=9))) == [(Reason.ITEMS_DISAGREE, "members")]


@pytest.mark.parametrize(
    ("framed", "reason"),
    [
        (b"", Reason.BAD_FRAMING),
        (b"\xff" * 40, Reason.BAD_FRAMING),
        (b"\x00\x7f\xff\xff\xff" + b"\x02" * 30, Reason.UNKNOWN_SCHEMA),
        (avro(schema_id=2), Reason.UNKNOWN_SCHEMA),  # registered, but not this dataset's
        (avro()[:5] + b"\x98\x00" + avro()[6:], Reason.NOT_CANONICAL),  # a long varint
        (avro() + b"\x00", Reason.MALFORMED),
        (avro()[:-3], Reason.MALFORMED),
    ],
)
def test_avro_must_be_framed_known_and_canonical(framed: bytes, reason: Reason) -> None:
    assert faults(prepare(framed=framed))[0][0] is reason


def test_any_listed_schema_version_may_be_sent_as_avro_and_json_uses_the_newest() -> None:
    it = world()
    row = it.version.dataset(DATASET)
    assert row is not None
    older, newer = it.other, it.schema
    refs = [
        row.schemas[0].model_copy(
            update={"version": n, "id": i, "guid": s.guid, "digest": s.digest.hex()}
        )
        for n, i, s in ((2, 1, newer), (1, 2, older))
    ]
    changed = row.model_copy(update={"schemas": tuple(refs)})
    made = Door(it.version, changed, it.schemas, PUBLISHER, 900 * 1024)
    assert made.latest == (refs[0], newer)
    assert isinstance(prepare(made, data=data(remarks="x")), Prepared)


def test_a_schema_that_is_not_the_one_the_list_means_is_no_schema() -> None:
    it = world()
    row = it.version.dataset(DATASET)
    assert row is not None
    delivered = project_schema(it.schema, {"decision_no": "clear"}, DATASET)
    with pytest.raises(NoSchema):
        Door(it.version, row, {1: delivered}, PUBLISHER, 900 * 1024)


def test_a_record_above_the_limit_is_refused() -> None:
    small = door(bytes_max=2000)
    assert faults(prepare(small, data=data(remarks="x" * 2000))) == [(Reason.TOO_LARGE, "")]
    framed = avro(remarks="x" * 2000)
    assert faults(prepare(small, framed=framed)) == [(Reason.TOO_LARGE, "")]


def test_a_key_that_makes_the_record_too_large_for_its_topic_is_refused() -> None:
    found = prepare(data=data(decision_no="x" * 600 * 1024))
    assert faults(found) == [(Reason.TOO_LARGE, "")]


def test_a_dataset_without_operations_takes_only_put() -> None:
    assert isinstance(prepare(operation="put", data=data()), Prepared)
    assert faults(prepare(operation="delete", data=data())) == [
        (Reason.UNKNOWN_OPERATION, "operation")
    ]


def test_an_operation_told_by_ce_type_becomes_the_header() -> None:
    it = door(operation="ce_type")
    headers = read_headers(taken(prepare(it, operation="delete", data=data())).record.headers)
    assert isinstance(headers, InboundHeaders)
    assert headers.ce_type == "minimum-living.delete"


def test_an_operation_item_holds_the_operation() -> None:
    it = door(operation={"item": "deed"})
    assert isinstance(prepare(it, data=data(deed="correct")), Prepared)
    assert isinstance(prepare(it, operation="correct", data=data(deed="correct")), Prepared)
    assert faults(prepare(it, operation="delete", data=data(deed="correct"))) == [
        (Reason.UNKNOWN_OPERATION, "operation")
    ]
    assert faults(prepare(it, data=data(deed="drop"))) == [(Reason.UNKNOWN_OPERATION, "deed")]


@given(st.binary(max_size=200))
def test_garbage_as_avro_is_refused_with_a_reason(raw: bytes) -> None:
    assert isinstance(prepare(framed=raw), Faulty)
    assert isinstance(prepare(framed=b"\x00\x00\x00\x00\x01" + raw), Faulty)


@given(
    st.dictionaries(
        st.sampled_from([*data(), "x"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.integers()),
    )
)
def test_any_json_object_is_a_record_or_refused_with_places(changed: dict[str, Any]) -> None:
    found = prepare(data={**data(), **changed})
    if isinstance(found, Faulty):
        assert all(each.zh and each.en for each in found.problems)


@given(st.text(min_size=8, max_size=30))
def test_a_refusal_never_repeats_a_value(secret: str) -> None:
    found = prepare(data=data(decided_on=f"#{secret}", amount=f"#{secret}", category=f"#{secret}"))
    assert isinstance(found, Faulty)
    told = "".join(f"{each.path}{each.zh}{each.en}" for each in found.problems)
    assert f"#{secret}" not in told
