"""What the list decides, as data: each file of tests/scenarios/decide is one case.

`given` bends rows of the default list, `when` bends the default record, `then` says what comes
out; see `policy_world`. A grant that `then` does not name must not appear in the decision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.model import Decision, LaneFacts
from shutong_broker.policy.plan import DatasetPlan
from shutong_core.domain.reasons import Reason
from unit.policy_world import MEIZHOU_GRANT, NOW, World, now_ms

FOLDER = Path(__file__).parents[1] / "scenarios" / "decide"
SCENARIOS = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
PARTS = {"why", "twin", "given", "when", "then"}
OUTCOMES = {
    "refusal",
    "path",
    "publisher",
    "event_id",
    "operation",
    "tokens",
    "body_hex",
    "placed",
    "absent",
    "withheld",
    "keys",
    "hidden_keys",
    "headers",
    "header_values",
}
#: Reasons that `decide` gives; the others belong to requests.
DECIDED = {reason for reason in Reason if reason.number < 150}


def load(name: str) -> dict[str, Any]:
    scenario = yaml.safe_load(SCENARIOS[name].read_text())
    assert set(scenario) <= PARTS
    assert {"why", "then"} <= set(scenario)
    assert set(scenario["then"]) <= OUTCOMES
    return scenario


@pytest.mark.parametrize("make", [PolicyInterpreter, CompiledPolicy])
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, make: type[PolicyInterpreter] | type[CompiledPolicy]) -> None:
    scenario = load(name)
    then = scenario["then"]
    world = World(scenario.get("given"), make)
    decision = world.decide(scenario.get("when"))
    assert decision.refusal is (Reason[then["refusal"]] if "refusal" in then else None)
    assert decision.path == then.get("path", "")
    check_facts(decision, then)
    assert {each.grant: each.reason.name for each in decision.withheld} == then.get("withheld", {})
    check_placements(world, decision, then)


def check_facts(decision: Decision, then: dict[str, Any]) -> None:
    for name in ("publisher", "event_id", "operation"):
        if name in then:
            assert getattr(decision, name) == then[name]
    if "tokens" in then:
        assert [len(token) for token in decision.tokens] == [16] * then["tokens"]
    if "body_hex" in then:
        assert decision.body.hex() == then["body_hex"]


def check_placements(world: World, decision: Decision, then: dict[str, Any]) -> None:
    placed = {each.grant: each for each in decision.placements}
    assert set(placed) == set(then.get("placed", {}))
    for grant, expected in then.get("placed", {}).items():
        got = world.delivered(placed[grant].value)
        for item, value in expected.items():
            if isinstance(value, str) and value.startswith("*") and value[1:].isdigit():
                assert len(got[item]) == int(value[1:])
            else:
                assert got[item] == value
        granted = world.version.grant(grant)
        assert granted is not None
        assert set(got) <= set(granted.items)
    for grant, items in then.get("absent", {}).items():
        assert not set(items) & set(world.delivered(placed[grant].value))
    for grant, key in then.get("keys", {}).items():
        assert placed[grant].key == key.encode()
    for grant in then.get("hidden_keys", []):
        assert len(placed[grant].key) == 16
        assert placed[grant].key != world.record().key
    for grant, headers in then.get("headers", {}).items():
        assert list(placed[grant].headers) == headers
    for grant, values in then.get("header_values", {}).items():
        assert {n: v.decode() for n, v in placed[grant].headers if n in values} == values


def test_every_reason_has_a_scenario_with_a_twin_that_is_placed() -> None:
    shown: set[Reason] = set()
    for name in SCENARIOS:
        scenario = load(name)
        then = scenario["then"]
        told = {*then.get("withheld", {}).values(), *filter(None, [then.get("refusal")])}
        if told and "twin" in scenario:
            assert load(scenario["twin"])["then"].get("placed"), f"twin of {name} is not placed"
            shown |= {Reason[reason] for reason in told}
        assert "twin" in scenario or then.get("placed"), f"{name} has no twin"
    assert shown == DECIDED


def test_a_grant_is_placed_or_withheld_never_both_never_neither() -> None:
    grants: dict[str, Any] = {f"g{n}": {"condition": f"members > {n}"} for n in range(6)}
    decision = World({"grants": grants}).decide()
    told = [each.grant for each in (*decision.placements, *decision.withheld)]
    assert sorted(told) == sorted(grants)


def test_grants_with_one_projection_share_the_bytes_and_others_do_not() -> None:
    masked = {"items": {"decision_no": "clear", "name": {"mask": "keep", "first": 1}}}
    other = {"items": {"decision_no": "clear", "name": {"mask": "keep", "first": 2}}}
    world = World({"grants": {"a": masked, "b": masked, "c": other}})
    values = {each.grant: each.value for each in world.decide().placements}
    assert values["a"] is values["b"]
    assert values["a"][:5] == values["c"][:5]
    assert values["a"] != values["c"]


def test_hashed_items_of_two_grants_cannot_be_joined() -> None:
    hashed = {"items": {"decision_no": {"mask": "hash"}}, "cloudevents": True}
    placements = World({"grants": {"a": hashed, "b": hashed}}).decide().placements
    for part in ("key", "value"):
        assert len({getattr(each, part) for each in placements}) == 2
    assert len({dict(each.headers)["ce_id"] for each in placements}) == 2


def test_two_spellings_of_one_decision_replay_to_the_same() -> None:
    assert World().decide() == World().decide()


def test_identity_is_what_the_decision_says() -> None:
    world = World()
    decision = world.decide()
    assert world.policy.identity(world.record()) == (decision.publisher, decision.event_id)


@pytest.mark.parametrize(
    "headers",
    [
        {"ce_id": None},
        {"ce_id": "a\x00"},
        {"shutong_publisher": "nobody"},
        {"ce_time": "yesterday"},
    ],
)
def test_there_is_no_identity_without_publisher_and_event_id(headers: dict[str, Any]) -> None:
    world = World()
    assert world.policy.identity(world.record({"headers": headers})) is None


def test_an_exception_in_a_check_refuses_and_in_a_grant_withholds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    broken = "shutong_broker.policy.interpret."
    for name, refusal in (("decode", Reason.RULE_ERROR), ("encode", None)):
        with monkeypatch.context() as patch:
            patch.setattr(broken + name, lambda *_: 1 // 0)
            decision = world.decide()
        assert decision.refusal is refusal
        assert decision.placements == ()
    assert [each.reason for each in decision.withheld] == [Reason.CONDITION_ERROR]


def test_a_projection_that_is_not_the_registered_one_covers_nothing() -> None:
    of_the_dataset = {"schema_id": 1, "delivered_id": 1, "guid": "any"}
    world = World({"grants": {"a": {"projections": [of_the_dataset]}, "b": {}}})
    decision = world.decide()
    assert {each.grant: each.reason for each in decision.withheld} == {
        "a": Reason.SCHEMA_NOT_GRANTED
    }
    assert [each.grant for each in decision.placements] == ["b"]


def test_plans_are_made_only_for_datasets_that_are_asked_for() -> None:
    from shutong_broker.policy.build import build_policy
    from unit.policy_world import table

    world = World()
    asked: list[str] = []
    made: list[DatasetPlan] = []

    def keys(key_id: str) -> bytes:
        asked.append(key_id)
        return b"k" * 32

    def make(plan: DatasetPlan, _: Any) -> Any:
        made.append(plan)
        return plan

    policies = build_policy(world.version, world.schemas, table(), keys, make)
    assert list(policies) == ["minimum-living"]
    assert not asked
    assert policies["minimum-living"] is policies["minimum-living"]
    assert asked == ["tokens/1", "event-ids/1"]
    assert [plan.grants for plan in made] == [(MEIZHOU_GRANT,)]
    with pytest.raises(KeyError):
        policies["another"]


def test_decide_never_raises_on_a_time_beyond_the_calendar() -> None:
    world = World()
    decision = world.policy.decide(world.record(), LaneFacts(), 10**18)
    assert decision.refusal is Reason.RULE_ERROR
    assert world.policy.decide(world.record(), LaneFacts(), now_ms(NOW)).refusal is None
