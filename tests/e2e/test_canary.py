"""Nothing that was not granted is seen by anybody, in whatever form and wherever one looks.

Every item, key, event id and header carries a value that nobody else has; then all topics, all
answers, all logs, metrics and files are searched for each of them.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from e2e.canaries import ID_AREA, Mint, leaves, search
from e2e.kafka_reading import Stored, read_all
from e2e.scene import CLEAR, ELSEWHERE, ITEMS, TOWN_TWO, Scene, Sent, decoded
from e2e.whole_bus import SERVICES
from shutong_core.wire.quarantine import open_sealed, read_quarantine_headers

DELIVERED_HEADERS = {"shutong_segment"}
CLOUDEVENTS = {"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"}


@pytest.fixture(scope="module")
def hay(scene: Scene) -> dict[str, bytes]:
    return scene.hay()


@pytest.fixture(scope="module")
def found(scene: Scene, hay: dict[str, bytes]) -> dict[str, set[Any]]:
    return search(hay, scene.mint.made)


@pytest.fixture(scope="module")
def delivered(scene: Scene) -> dict[str, list[tuple[Stored, dict[str, Any]]]]:
    """Grant → decoded records."""
    bus = scene.bus
    return {
        grant: decoded(bus, read_all(bus.bootstrap, [bus.topics.delivery(grant)]))
        for grant in CLEAR
    }


@pytest.mark.parametrize("shift", range(3))
def test_the_search_knows_every_form(shift: int) -> None:
    mint = Mint(1)
    text, number = mint.text("r", "text", lead="石"), mint.number("r", "number")
    real, amount = mint.real("r", "real", 5), mint.amount("r", "amount")
    octets, born = mint.octets("r", "octets"), mint.day("r", "day", 1950)
    person = mint.id_number("r", "person", born)
    values = [text, number, real, amount, born, person]
    whole = json.dumps([str(value) for value in values]).encode() + octets
    pad = b"x" * shift
    for form in (whole, base64.b64encode(pad + whole), (pad + whole).hex().encode()):
        seen = {each.item for each in search({"here": form}, mint.made)["here"]}
        assert seen >= {"text", "number", "real", "amount", "octets", "person"}
    assert not search({"here": b"nothing of it"}, mint.made)["here"]


def test_everything_that_was_sent_is_found_in_inbound(
    scene: Scene, found: dict[str, set[Any]]
) -> None:
    for sent in scene.sent:
        missing = {
            str(each)
            for each in scene.mint.of(sent.name)
            if each not in found[f"topic inbound.{sent.dataset}"]
            # Their Avro form is too short to be unique; they are compared decoded, below.
            and each.item not in {"birth_date", "header ce_time"}
        }
        assert not missing


def test_what_is_granted_arrives_exactly_where_it_is_granted(
    scene: Scene, found: dict[str, set[Any]]
) -> None:
    missing = [
        (str(each), place)
        for each in scene.mint.made
        for place in scene.required(each)
        if each not in found[place]
        and not (each.item == "birth_date" and place.startswith("topic"))
    ]
    assert not missing


def test_what_is_not_granted_appears_nowhere_else(scene: Scene, found: dict[str, set[Any]]) -> None:
    scene.refuse_leaks(found)


def test_all_places_were_searched(hay: dict[str, bytes], found: dict[str, set[Any]]) -> None:
    own = {"quarantine", "audit", "lanes", "access", "receipts", "checkpoints"}
    own |= {"control.lists", "control.schemas"}
    own |= {f"delivery.{grant}" for grant in CLEAR}
    assert {f"topic {name}" for name in own} <= found.keys()
    for name in own - {"checkpoints"}:
        assert hay[f"topic {name}"], f"{name} holds nothing, so searching it shows nothing"
    assert hay["file kafka/logs/server.log"]
    for service in SERVICES:
        assert f"answer {service} - /metrics" in found
        assert hay[f"file logs/{service}.log"]


def test_decoded_records_hold_only_granted_items(
    scene: Scene, delivered: dict[str, list[tuple[Stored, dict[str, Any]]]]
) -> None:
    for grant, records in delivered.items():
        hidden = {
            each.value
            for each in scene.mint.made
            if each.item not in CLEAR[grant] and not each.item.startswith("header")
        }
        for _, datum in records:
            assert datum.keys() == ITEMS[grant]
            assert not hidden & {value for value in leaves(datum) if value.__hash__}


def test_each_grant_gets_its_records_and_no_other(
    scene: Scene, delivered: dict[str, list[tuple[Stored, dict[str, Any]]]]
) -> None:
    marks = {"aid-city": "case_no", "aid-urban": "name", "aid-towns": "name"}
    marks |= {"licence-market": "series", "gauge-open": "gauge_id", "gauge-levels": "level"}
    ours = {each.value for each in scene.mint.made}  # other tests publish too
    for grant, item in marks.items():
        want = sorted(each.data[item] for each in scene.sent if grant in each.placed)
        got = [datum[item] for _, datum in delivered[grant]]
        assert sorted(value for value in got if value in ours) == want


def test_masks_hide_what_they_must(
    scene: Scene, delivered: dict[str, list[tuple[Stored, dict[str, Any]]]]
) -> None:
    hashes: dict[str, set[str]] = {}
    ours = [each for _, each in delivered["aid-masked"] if each["birth_date"] == "1950"]
    assert len(ours) == sum("aid-masked" in each.placed for each in scene.sent)
    for datum in ours:
        assert datum["name"] == "石********"
        assert datum["id_number"] == f"{ID_AREA}********"
        assert datum["amount"] == "[1000,1000000000)"
        assert datum["score"] in {"≥10", "[0,10)"}
        for item in ("case_no", "account_no", "tags", "remark"):
            assert len(base64.urlsafe_b64decode(datum[item] + "==")) == 16
            hashes.setdefault(item, set()).add(datum[item])
    assert {len(each) for each in hashes.values()} == {len(ours)}


def test_a_hidden_key_is_replaced_by_one_that_means_nothing_elsewhere(
    delivered: dict[str, list[tuple[Stored, dict[str, Any]]]],
) -> None:
    keys = {grant: [each.key for each, _ in records] for grant, records in delivered.items()}
    assert all(key == datum["case_no"].encode() for (_, datum), key in zip(
        delivered["aid-city"], keys["aid-city"], strict=True
    ))  # fmt: skip
    hidden = [
        keys[name]
        for name in ("aid-masked", "aid-urban", "aid-towns", "licence-market", "gauge-levels")
    ]
    everything = [key for found in hidden for key in found]
    assert all(key is not None and len(key) == 16 for key in everything)
    assert len(set(everything)) == len(everything), "equal keys of two grants can be joined"


def test_placed_records_carry_only_headers_of_the_bus(
    delivered: dict[str, list[tuple[Stored, dict[str, Any]]]],
) -> None:
    for grant, records in delivered.items():
        allowed = DELIVERED_HEADERS | (CLOUDEVENTS if grant == "licence-market" else set())
        for each, _ in records:
            assert {name for name, _ in each.headers} <= allowed
    operations = {
        dict(each.headers)["ce_type"]  # type: ignore[arg-type]
        for each, _ in delivered["licence-market"]
    }
    assert operations == {b"licence-event.put", b"licence-event.correct", b"licence-event.delete"}


def test_quarantine_is_sealed_and_opens_with_the_keyring(
    scene: Scene, found: dict[str, set[Any]]
) -> None:
    bus, node = scene.bus, scene.bus.up.node
    assert {each.item for each in found["topic quarantine"]} == {"event id"}
    refused = {each.name: each for each in scene.sent if each.refused}
    opened: dict[str, bytes] = {}
    for each in read_all(bus.bootstrap, [bus.topics.quarantine]):
        told = read_quarantine_headers(each.headers)
        record = open_sealed(
            node.codec, node.keyring.secret("quarantine/1"), each.value or b"", told.source
        )
        for name, sent in refused.items():
            if any(one.value == told.event_id for one in scene.mint.of(name)):
                assert told.reason.name == sent.refused
                opened[name] = (record.key or b"") + (record.value or b"")
    assert opened.keys() == refused.keys()
    seen = search(opened, scene.mint.made)
    for name, here in seen.items():
        values = {each.item for each in scene.mint.of(name) if "header" not in each.item}
        assert {each.item for each in here} >= values - {"event id", "birth_date"}


def test_a_town_sees_its_own_people_only(scene: Scene) -> None:
    names = {
        one: {record["data"]["name"] for record in scene.bus.pull_all(one, "aid-towns")}
        for one in ("town-one", "town-two")
    }
    want = {each.data["name"] for each in _in_town(scene, TOWN_TWO)}
    assert names["town-two"] == want
    assert not names["town-one"] & want


def test_no_answer_told_another_publisher_of_a_refusal(scene: Scene) -> None:
    for answer in scene.bus.answers:
        if answer.path == "/v1/refusals" and answer.who not in {"city-civil", "city-water", ""}:
            assert answer.json["refusals"] == []


def _in_town(scene: Scene, town: str) -> list[Sent]:
    assert town != ELSEWHERE
    return [each for each in scene.sent if each.town == town and "aid-towns" in each.placed]
