"""Signed changes of the list: what is taken, what is refused, what stays held."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shutong_core.domain.changes import (
    NO_PREVIOUS,
    PART_BYTES_MAX,
    Assembler,
    Change,
    apply,
    decode_change,
    difference,
    encode_change,
    make_change,
    make_snapshot,
)
from shutong_core.domain.errors import Rejected
from shutong_core.domain.version import ListVersion
from unit import listing_fixtures as made


class Key:
    def __init__(self, key_id: str = "control-1") -> None:
        self.key_id = key_id
        self._key = Ed25519PrivateKey.generate()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    def verify(self, key_id: str, data: bytes, signature: bytes) -> bool:
        try:
            self._key.public_key().verify(signature, data)
        except InvalidSignature:
            return False
        return key_id == self.key_id


KEY = Key()
ROWS = tuple(made.minimal_rows().values())


def published(previous: ListVersion | None, *rows: Any, gone: tuple[str, ...] = ()) -> list[bytes]:
    _, parts = make_change(previous, rows, gone, made.EFFECTIVE_MS)
    return [encode_change(part, KEY) for part in parts]


def first() -> ListVersion:
    return apply(None, published(None, *ROWS), KEY.verify)


def many(count: int) -> list[Any]:
    long = "长" * 450
    return [made.purpose(f"purpose-{index:05d}", title=long) for index in range(count)]


def test_a_signed_change_leads_to_the_list_it_names() -> None:
    version = first()
    assert version.number == 1
    assert version.digest == made.minimal().digest
    second = apply(version, published(version, made.purpose("research")), KEY.verify)
    assert second.number == 2
    assert "purpose/research" in second.rows


def test_a_row_is_taken_away_by_a_removal() -> None:
    version = first()
    after = apply(version, published(version, gone=("system/meizhou-civil",)), KEY.verify)
    assert after.system("meizhou-civil") is None


def test_the_difference_of_two_lists_is_what_changed() -> None:
    version = first()
    wanted = [row for row in ROWS if row.id != "meizhou-civil"]
    wanted[wanted.index(made.purpose())] = made.purpose(title="另一名称")
    upserts, removals = difference(version, wanted)
    assert [row.row_id for row in upserts] == ["purpose/social-relief"]
    assert removals == ("system/meizhou-civil",)
    assert difference(version, ROWS) == ((), ())


def test_a_large_change_goes_in_parts_that_each_fit_one_record() -> None:
    records = published(None, *many(1000))
    assert len(records) > 1
    assert all(len(record) <= PART_BYTES_MAX for record in records)
    assembler = Assembler(KEY.verify)
    for record in records[:-1]:
        assert assembler.add(record) is None
        assert assembler.version is None
    version = assembler.add(records[-1])
    assert version is not None
    assert len(version.rows) == 1000


def test_a_change_that_lacks_its_last_part_is_no_list() -> None:
    with pytest.raises(Rejected, match="not complete"):
        apply(None, published(None, *many(1000))[:-1], KEY.verify)


def test_no_record_is_no_list() -> None:
    with pytest.raises(Rejected, match="no list"):
        apply(None, [], KEY.verify)


def test_a_change_signed_by_another_key_is_refused() -> None:
    with pytest.raises(Rejected, match="trusted key"):
        apply(None, published(None, *ROWS), Key().verify)


def test_a_change_under_another_key_id_is_refused() -> None:
    record = json.loads(published(None, *ROWS)[0])
    record["key"] = "control-2"
    with pytest.raises(Rejected, match="control-2"):
        decode_change(rfc8785.dumps(record), KEY.verify)


def test_an_altered_row_breaks_the_signature() -> None:
    record = json.loads(published(None, *ROWS)[0])
    record["body"]["upserts"][0]["title"] = "改过"
    with pytest.raises(Rejected, match="trusted key"):
        decode_change(rfc8785.dumps(record), KEY.verify)


def test_an_older_change_is_refused_and_the_list_held_stays() -> None:
    records = published(None, *ROWS)
    assembler = Assembler(KEY.verify)
    assembler.add(records[0])
    held = assembler.version
    with pytest.raises(Rejected, match="does not follow"):
        assembler.add(records[0])
    assert assembler.version is held


def test_a_change_made_for_another_list_is_refused() -> None:
    other = apply(None, published(None, *ROWS, made.purpose("other")), KEY.verify)
    with pytest.raises(Rejected, match="another list"):
        apply(first(), published(other, made.purpose("research")), KEY.verify)


def test_a_change_that_skips_a_version_is_refused() -> None:
    version = first()
    change = replace(make_change(version, (), (), made.EFFECTIVE_MS)[1][0], n=3)
    with pytest.raises(Rejected, match="does not follow list 1"):
        apply(version, [encode_change(change, KEY)], KEY.verify)


def test_a_change_that_does_not_lead_to_its_hash_is_refused_and_nothing_waits() -> None:
    change = Change(1, 0, 1, NO_PREVIOUS, (made.bus(),), (), "0" * 64, 1)
    assembler = Assembler(KEY.verify)
    with pytest.raises(Rejected, match="does not lead"):
        assembler.add(encode_change(change, KEY))
    assert assembler.version is None
    assert assembler.waiting == 0


def test_a_change_takes_effect_no_earlier_than_the_list_before() -> None:
    version = first()
    change = replace(make_change(version, (made.purpose("x"),), (), 0)[1][0])
    assert change.effective_ms == version.effective_ms
    early = replace(change, effective_ms=version.effective_ms - 1)
    with pytest.raises(Rejected, match="takes effect before"):
        apply(version, [encode_change(early, KEY)], KEY.verify)


def test_parts_in_another_order_are_refused_and_the_right_ones_still_complete() -> None:
    records = published(None, *many(2000))
    assert len(records) >= 3
    assembler = Assembler(KEY.verify)
    assembler.add(records[0])
    with pytest.raises(Rejected, match="does not follow part 0"):
        assembler.add(records[2])
    with pytest.raises(Rejected):
        assembler.add(b"{}")
    results = [assembler.add(record) for record in records[1:]]
    assert results[-1] is not None


def test_a_part_of_another_change_of_the_same_number_is_refused() -> None:
    ours, theirs = published(None, *many(1000)), published(None, *many(999))
    assembler = Assembler(KEY.verify)
    assembler.add(ours[0])
    with pytest.raises(Rejected, match="does not follow part 0"):
        assembler.add(theirs[1])


def test_a_change_that_touches_a_row_twice_is_refused() -> None:
    change = Change(1, 0, 1, NO_PREVIOUS, (made.bus(), made.bus(lanes=7)), (), "0" * 64, 1)
    with pytest.raises(Rejected, match="twice"):
        apply(None, [encode_change(change, KEY)], KEY.verify)


def test_a_removal_of_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(Rejected, match="not in the list"):
        make_change(first(), (), ("grant/nothing",), 1)


def test_a_reader_that_holds_nothing_may_start_from_a_snapshot() -> None:
    version = first()
    version = apply(version, published(version, made.purpose("research")), KEY.verify)
    snapshot = [encode_change(part, KEY) for part in make_snapshot(version)]
    started = apply(None, snapshot, KEY.verify)
    assert (started.number, started.digest) == (2, version.digest)
    assert apply(version, snapshot, KEY.verify) is version


def test_a_snapshot_of_another_list_is_refused() -> None:
    other = apply(None, published(None, *ROWS, made.purpose("other")), KEY.verify)
    snapshot = [encode_change(part, KEY) for part in make_snapshot(other)]
    with pytest.raises(Rejected, match="not of the list held"):
        apply(first(), snapshot, KEY.verify)


def test_a_row_too_large_for_a_record_is_refused() -> None:
    regions = tuple(f"{index:012d}" for index in range(60_000))
    scope = made.Scope(role="受理地", regions=regions)
    with pytest.raises(Rejected, match="larger than"):
        make_change(None, (made.grant(scope=scope),), (), 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"a":NaN}',
        b"[" * 100_000,
        b"9" * 5000,
        b'"\\ud800"',
        b"x" * (PART_BYTES_MAX + 1),
        b'{"body":{},"key":"k","signature":"AA=="}',
        b'{"body": {},"key":"k","signature":""}',
    ],
    ids=lambda data: repr(data[:30]),
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(Rejected):
        decode_change(data, KEY.verify)


def signed(body: dict[str, Any]) -> bytes:
    signature = base64.b64encode(KEY.sign(rfc8785.dumps(body))).decode()
    return rfc8785.dumps({"body": body, "key": KEY.key_id, "signature": signature})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "another-type"),
        ("n", 0),
        ("parts", 0),
        ("part", -1),
        ("previous", "zz"),
        ("upserts", [{"kind": "nothing", "id": "x"}]),
        ("upserts", [{"kind": "purpose", "id": "x", "title": "x", "more": 1}]),
        ("upserts", [{"kind": "purpose", "id": "x", "title": " padded "}]),
        ("removals", [1]),
        ("effective_ms", 1.5),
        ("unknown", 1),
    ],
)
def test_a_signed_body_in_another_form_is_refused(field: str, value: Any) -> None:
    body = Change(1, 0, 1, NO_PREVIOUS, (), (), "0" * 64, 1).body()
    decode_change(signed(body), KEY.verify)
    with pytest.raises(Rejected):
        decode_change(signed(body | {field: value}), KEY.verify)


def test_signature_bytes_have_one_text() -> None:
    record = json.loads(published(None, *ROWS)[0])
    text = record["signature"]
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = last[(last.index(text[-3]) & ~15) | (last.index(text[-3]) + 1) % 16]
    record["signature"] = text[:-3] + other + "=="
    with pytest.raises(Rejected):
        decode_change(rfc8785.dumps(record), KEY.verify)


def test_a_change_says_whether_it_only_adds_and_a_reader_knows_since_which_list() -> None:
    assembler = Assembler(KEY.verify)
    since, version = [], None
    for rows in (ROWS, (made.purpose("a"),), (made.duty(),), (made.negative(),), many(1)):
        for record in published(version, *rows):
            version = assembler.add(record)
        since.append(assembler.adds_since)
    assert since == [1, 1, 1, 4, 4]


@pytest.mark.parametrize("row", [made.negative(), made.purpose(title="另一名称")])
def test_a_change_that_falsely_says_that_it_only_adds_is_refused(row: Any) -> None:
    version = first()
    _, (part,) = make_change(version, (row,), (), made.EFFECTIVE_MS)
    assert not part.adds
    with pytest.raises(Rejected, match="does more"):
        apply(version, [encode_change(replace(part, adds=True), KEY)], KEY.verify)


def test_neither_a_first_list_nor_a_snapshot_can_say_that_it_only_adds() -> None:
    version, (part,) = make_change(None, ROWS, (), made.EFFECTIVE_MS)
    with pytest.raises(Rejected, match="does more"):
        apply(None, [encode_change(replace(part, adds=True), KEY)], KEY.verify)
    (snapshot,) = make_snapshot(version)
    with pytest.raises(Rejected, match="says that it adds"):
        apply(None, [encode_change(replace(snapshot, adds=True), KEY)], KEY.verify)


def test_parts_that_disagree_on_whether_they_only_add_are_no_change() -> None:
    version = first()
    _, parts = make_change(version, many(1200), (), made.EFFECTIVE_MS)
    records = [encode_change(replace(part, adds=part.part == 0), KEY) for part in parts]
    with pytest.raises(Rejected, match="does not follow part 0"):
        apply(version, records, KEY.verify)


@pytest.mark.parametrize("adds", [True, False])
def test_the_parts_still_missing_are_told_only_of_a_change_that_only_adds(adds: bool) -> None:
    version = first()
    others = () if adds else (made.negative(),)
    records = published(version, *many(1200), *others)
    assert len(records) > 2
    assembler = Assembler(KEY.verify, version)
    missing = []
    for record in records:
        assembler.add(record)
        missing.append(assembler.additions_missing)
    assert missing == (list(range(len(records)))[::-1] if adds else [0] * len(records))
