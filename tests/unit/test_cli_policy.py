"""`shutong policy explain`: what decides a record, in words and as the generated source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shutong_cli import policyview
from shutong_cli.policyview import explain_dataset, explained_json, explained_lines
from shutong_core.domain.version import AnyRow, parse_row
from unit import listing_fixtures as made
from unit.cli_runner import clean_logs, shutong
from unit.policy_world import World

__all__ = ["clean_logs"]
pytestmark = pytest.mark.usefixtures("clean_logs")
LIST = Path(__file__).resolve().parents[2] / "deploy/samples/story/list.yaml"
DATASET = "subsistence-allowance"


def explain(*arguments: str) -> Any:
    done = shutong("policy", "explain", *arguments, "--file", str(LIST), "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def grant(grant_id: str) -> Any:
    (found,) = explain(DATASET, "--grant", grant_id)["grants"]
    return found


def test_every_grant_of_the_dataset_is_told() -> None:
    told = explain(DATASET)
    ids = [each["id"] for each in told["grants"]]
    assert len(ids) == 7
    assert ids == sorted(ids)


def test_a_grant_is_told_with_items_masks_and_what_does_not_flow() -> None:
    told = grant("allowance-statistics")
    assert told["items"]["decision_no"] == "hash"
    assert told["items"]["birth_date"] == "band year"
    assert told["items"]["household_size"] == "band 2, 4"
    assert "name" in told["not_granted"]
    assert "keyed hash" in told["decides"][-1]["en"]


def test_scope_and_condition_are_told_as_they_decide() -> None:
    told = grant("allowance-guangzhou-housing")
    assert told["condition"] == 'category == "URBAN" && household_size >= 2'
    words = " ".join(each["en"] for each in told["decides"])
    assert "registered_town lies in 广州市 440100000000" in words
    assert "null is not" in words


def test_an_expired_grant_is_told_to_place_nothing_now() -> None:
    assert grant("allowance-meizhou-education-2023")["now"]["reason"] == "EXPIRED"
    assert grant("allowance-statistics")["now"]["reason"] is None


def test_the_source_is_the_same_each_time_and_defines_the_decision() -> None:
    first, second = explain(DATASET)["source"], explain(DATASET)["source"]
    assert first == second
    assert "def decide(" in first or "def run(" in first


def test_people_read_both_languages_and_the_source() -> None:
    done = shutong("policy", "explain", DATASET, "--file", str(LIST))
    assert done.exit_code == 0
    for words in ("不投放", "the grant has expired", "裁决程序", "def ", "广州市民政局（示例）"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "subsistence-allowance"),
        ((DATASET, "--grant", "nothing"), "allowance-statistics"),
    ],
)
def test_who_asks_for_what_is_not_there_is_told_what_is(
    arguments: tuple[str, ...], words: str
) -> None:
    done = shutong("policy", "explain", *arguments, "--file", str(LIST))
    assert done.exit_code == 2
    assert words in done.stderr


def told_of(world: World, row: AnyRow | None = None) -> Any:
    version = world.version if row is None else made.version(*_with(world, row))
    return explain_dataset(
        version, world.schemas, made.divisions(), "minimum-living", 1_795_000_000_000
    )


def _with(world: World, row: AnyRow) -> list[AnyRow]:
    return [*(each for each in world.version.rows.values() if each.row_id != row.row_id), row]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"valid_from": "2098-01-01T00:00:00Z", "valid_until": "2099-01-01T00:00:00Z"},
            "NOT_YET_VALID",
        ),
        ({"suspended": {"since": "2026-01-01T00:00:00Z", "reason": "示例"}}, "SUSPENDED"),
        ({"projections": []}, "SCHEMA_NOT_GRANTED"),
        ({"condition": "broken ("}, "CONDITION_ERROR"),
    ],
)
def test_why_a_grant_places_nothing_is_told_by_its_reason(
    fields: dict[str, Any], reason: str
) -> None:
    world = World()
    name = world.version.grants_by_dataset["minimum-living"][0]
    row = parse_row(name.body() | fields)
    (found,) = explained_json(told_of(world, row), name.id)["grants"]
    assert found["now"]["reason"] == reason


def test_a_dataset_on_the_negative_list_is_told_so() -> None:
    world = World()
    told = told_of(world, made.negative(items=()))
    assert {each["now"]["reason"] for each in explained_json(told, None)["grants"]} == {
        "NEGATIVE_LIST"
    }


def test_no_key_is_asked_for_and_its_stand_in_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def canary(key_id: str) -> bytes:
        asked.append(key_id)
        return b"canary-" + key_id.encode()

    monkeypatch.setattr(policyview, "_stand_in", canary)
    shown = "\n".join(explained_lines(told_of(World()), None))
    assert asked
    assert "canary" not in shown
    assert b"canary".hex() not in shown
