"""The compiled policy's own promises: what it remembers, what it writes, what it leaves alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from shutong_broker.policy import emit
from shutong_broker.policy.build import build_policy
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.model import LaneFacts, Withheld, WithheldGrants
from shutong_broker.policy.plan import DatasetPlan
from shutong_broker.policy.regionmemo import REMEMBERED_MAX, RegionFlags
from shutong_core.domain.reasons import Reason
from unit.policy_world import World, keys, now_ms, table


def compiled(given: dict[str, Any] | None = None) -> tuple[World, CompiledPolicy]:
    world = World(given, CompiledPolicy)
    assert isinstance(world.policy, CompiledPolicy)
    return world, world.policy


def test_the_text_is_the_same_for_the_same_list_and_is_compiled_once() -> None:
    first, second = compiled()[1].explain_source(), compiled()[1].explain_source()
    assert first == second
    emit._compiled.cache_clear()
    compiled()[1].explain_source()
    compiled()[1].explain_source()
    assert emit._compiled.cache_info().misses == 1


def test_nothing_a_user_wrote_stands_in_the_text() -> None:
    condition = 'name == "__import__(1)" || remarks in ["exec", "示例"]'
    world, policy = compiled({"grants": {"exec-me": {"condition": condition}}})
    policy.explain_source()
    (version,) = policy._by_prefix.values()
    assert version.generated is not None
    for word in ("__import__", "exec", "示例", "decision_no", "RURAL", "受理地"):
        assert word not in version.generated.source
    assert "item 0: decision_no" in policy.explain_source()
    assert world.decide().withheld == (Withheld("exec-me", Reason.CONDITION_NOT_MET),)


def test_a_sound_record_needs_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    world, policy = compiled()
    monkeypatch.setattr(PolicyInterpreter, "decide", lambda *_: 1 // 0)
    assert [each.grant for each in world.decide().placements] == list(policy.grants)
    assert not policy.declined


def test_an_exception_in_generated_code_never_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    world, policy = compiled({"grants": {"g": {"condition": "members > 100"}}})
    world.decide()
    (version,) = policy._by_prefix.values()
    assert version.generated is not None
    broken = replace(version.generated, run=lambda *_: 1 // 0)
    monkeypatch.setattr(version, "generated", broken)
    assert world.decide().placements == ()
    assert policy.declined == 1


def test_a_map_is_read_in_one_order_of_its_keys_only() -> None:
    kind = {"type": "map", "values": "string"}
    world, policy = compiled({"schema": {"score": {"type": kind}}})
    good = world.record({"record": {"score": {"b": "y", "": "z", "a": "x"}}})
    assert good.value is not None
    assert policy.decide(good, LaneFacts(), now_ms()).refusal is None
    assert policy.declined == 0
    first, second, third = b"\x00\x02z", b"\x02a\x02x", b"\x02b\x02y"
    for entries in (first + third + second, second + first + third, first + second + second):
        value = good.value.replace(first + second + third, entries)
        assert value != good.value
        decision = policy.decide(good._replace(value=value), LaneFacts(), now_ms())
        assert (decision.refusal, decision.path) == (Reason.NOT_CANONICAL, "score")


def test_a_plan_that_cannot_be_generated_is_interpreted_and_says_so() -> None:
    world, _ = compiled()

    def make(plan: DatasetPlan, regions: Any) -> CompiledPolicy:
        return CompiledPolicy(replace(plan, token_key=b"k" * 65), regions)

    policy = build_policy(world.version, world.schemas, table(), keys, make)["minimum-living"]
    assert isinstance(policy, CompiledPolicy)
    assert "decided by the interpreter: ValueError" in policy.explain_source()
    assert policy.decide(world.record(), LaneFacts(), now_ms()).refusal is Reason.RULE_ERROR


def test_time_passing_changes_the_verdicts_at_the_millisecond() -> None:
    bounds = {"valid_from": "2026-11-20T10:00:00+08:00", "valid_until": "2026-11-20T10:00:01+08:00"}
    world, policy = compiled({"grants": {"g": bounds}})
    start = now_ms("2026-11-20T10:00:00+08:00")
    reasons = [
        [each.reason for each in policy.decide(world.record(), LaneFacts(), moment).withheld]
        for moment in (start - 1, start, start + 999, start + 1000, start)
    ]
    assert reasons == [[Reason.NOT_YET_VALID], [], [], [Reason.EXPIRED], []]


def test_records_of_one_region_share_what_is_told_of_the_other_grants() -> None:
    past = {"valid_until": "2026-01-01T00:00:00+08:00", "valid_from": "2025-01-01T00:00:00+08:00"}
    far = {"scope": {"role": "受理地", "regions": ["440100000000"]}}
    world, _ = compiled({"grants": {"a": past, "b": far, "c": {}}})
    first, second = world.decide(), world.decide({"record": {"name": "示例"}})
    assert first.withheld.shared is second.withheld.shared
    assert first.withheld.shared == (Withheld("a", Reason.EXPIRED),)
    assert first.withheld == second.withheld
    assert list(first.withheld) == [
        Withheld("a", Reason.EXPIRED),
        Withheld("b", Reason.REGION_OUT_OF_SCOPE),
    ]


def test_grants_that_cannot_match_are_not_gone_through() -> None:
    far = {"scope": {"role": "受理地", "regions": ["440100000000"]}}
    world, _ = compiled({"grants": {f"g{n}": far for n in range(50)} | {"h": {}}})
    decision = world.decide()
    assert decision.withheld._all is None  # not written out until somebody reads it
    assert Counter(each.reason for each in decision.withheld) == {Reason.REGION_OUT_OF_SCOPE: 50}


def test_a_listed_sequence_tells_apart_what_is_out_of_scope() -> None:
    members = (Withheld("a", Reason.REGION_OUT_OF_SCOPE), Withheld("b", Reason.EXPIRED))
    listed = WithheldGrants.listed(members)
    assert listed == members
    assert listed.own == (members[1],)
    assert (len(listed), listed[1], listed[:1]) == (2, members[1], members[:1])


def test_regions_that_are_in_no_table_are_not_remembered() -> None:
    flags = RegionFlags(table(), frozenset({"441400000000"}))
    assert [flags[raw] for raw in (b"441424", b"440106", b"x", None)] == [True, False, None, None]
    assert set(flags) == {b"441424", b"440106"}
    assert len(flags) < REMEMBERED_MAX
