"""A past decision made again: what the audit has of it agrees, and any difference is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from audit_samples import facts, filled
from shutong_broker.policy.model import Decision
from shutong_cli.replay import REPEATS, Audited, replay
from shutong_core.audit.block import (
    NO_BLOCK,
    BlockBuilder,
    RowOperation,
    parse_block,
    row_digest,
)
from shutong_core.audit.chain import genesis
from shutong_core.audit.rowtree import Fate, RowVerdict, parse_row, prove_row
from shutong_core.domain.reasons import IMPLIED, Reason
from unit.policy_world import MEIZHOU_GRANT, NOW, RECORD, World, now_ms
from unit.test_interpret import SCENARIOS, load


def audited(world: World, when: dict[str, Any]) -> Audited:
    """The decision as a lane's block holds it, read back from the block."""
    record, decision = world.record(when), world.decide(when)
    moment = now_ms(when.get("now", NOW))
    builder = BlockBuilder(filled("salt", 16))
    part = builder.add_input(record.dataset, record.offset)
    row = part.add_row(
        record.offset,
        decision.publisher,
        row_digest(builder.salt, decision.body),
        decision.tokens,
        None,
        RowOperation.UNKNOWN if decision.refusal else decision.operation.number,
        decision.refusal,
    )
    _verdicts(part, row, decision)
    part.end(record.offset + 1)
    block = builder.build(dataclasses.replace(facts(2, 1, NO_BLOCK), decided_ms=moment))
    header, body = parse_block(block.header, block.body)
    kept = next(islice(body.rows(body.inputs[0]), 1))
    told = parse_row(prove_row(body, 0, 0).row)
    return Audited(kept, told.verdicts, body.salt, header.decided_ms, header.lane, 1)


def _verdicts(part: Any, row: int, decision: Decision) -> None:
    for placement in decision.placements:
        part.allow(row, placement.grant)
        size = len(placement.key) + len(placement.value)
        part.place(placement.grant, 1, size, genesis("c", placement.grant, 2))
    for each in decision.withheld:
        if each.reason not in IMPLIED:
            part.withhold(row, each.grant, each.reason)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_decision_replays_to_what_the_audit_has(name: str) -> None:
    scenario = load(name)
    world, when = World(scenario.get("given")), scenario.get("when") or {}
    verdict = replay(world.policy, world.record(when), audited(world, when))
    assert verdict.ok, verdict.text("en")
    assert verdict.checked


def test_it_says_which_of_region_and_condition_withheld_a_record() -> None:
    world = World({"grants": {MEIZHOU_GRANT: {"condition": 'remarks != "x"'}}})
    when = {"record": {"remarks": None}}
    kept = audited(world, when)
    assert kept.verdicts == ()
    verdict = replay(world.policy, world.record(when), kept)
    assert [each.en for each in verdict.checked] == [
        f"grant {MEIZHOU_GRANT}: not placed, {Reason.CONDITION_NOT_MET.en}"
    ]


def test_a_repeat_is_taken_from_the_audit_and_said_to_be() -> None:
    world = World()
    for repeat in REPEATS:
        when = {"repeat": repeat.name}
        verdict = replay(world.policy, world.record(when), audited(world, when))
        assert verdict.ok
        assert "repeat" in verdict.text("en")


def test_a_deferred_verdict_is_left_to_its_loading_cursor() -> None:
    world = World()
    kept = audited(world, {})
    deferred = dataclasses.replace(kept, verdicts=(RowVerdict(MEIZHOU_GRANT, Fate.DEFERRED),))
    verdict = replay(world.policy, world.record(), deferred)
    assert verdict.ok
    assert any(MEIZHOU_GRANT in each.en for each in verdict.not_checked)


def test_of_a_loading_cursor_only_its_grant_is_compared() -> None:
    world = World({"grants": {MEIZHOU_GRANT: {}, "second": {}}})
    kept = audited(world, {})
    one = tuple(each for each in kept.verdicts if each.grant == "second")
    loaded = dataclasses.replace(kept, verdicts=one, loading="second")
    assert replay(world.policy, world.record(), loaded).ok
    assert not replay(world.policy, world.record(), dataclasses.replace(loaded, loading="")).ok


def test_a_dataset_that_the_list_does_not_have_is_refused_again() -> None:
    world = World()
    kept = audited(world, {})
    value = world.record().value or b""
    refused = dataclasses.replace(
        kept.row,
        refusal=Reason.DATASET_NOT_IN_FORCE,
        digest=row_digest(kept.salt, value),
    )
    kept = dataclasses.replace(kept, row=refused, verdicts=())
    assert replay(None, world.record(), kept).ok
    assert {each.code for each in replay(world.policy, world.record(), kept).findings} >= {
        "refusal"
    }


def _row(**changes: Any) -> Callable[[Audited], Audited]:
    return lambda kept: dataclasses.replace(kept, row=dataclasses.replace(kept.row, **changes))


def _told(*verdicts: RowVerdict) -> Callable[[Audited], Audited]:
    return lambda kept: dataclasses.replace(kept, verdicts=verdicts)


CHANGES: dict[str, tuple[Callable[[Audited], Audited], str]] = {
    "digest of another record": (_row(digest=bytes(32)), "digest"),
    "another publisher": (_row(publisher="11440000006940140P/other"), "publisher"),
    "another operation": (_row(operation=RowOperation.DELETE), "operation"),
    "tokens left out": (_row(tokens=()), "tokens"),
    "a refusal": (_row(refusal=Reason.BAD_ID_NUMBER), "refusal"),
    "withheld by region or condition": (_told(), "verdict"),
    "withheld for a reason": (
        _told(RowVerdict(MEIZHOU_GRANT, Fate.WITHHELD, reason=Reason.EXPIRED)),
        "verdict",
    ),
    "placed for a grant that the list does not have": (
        _told(RowVerdict(MEIZHOU_GRANT, Fate.PLACED, k=1), RowVerdict("x", Fate.PLACED, k=1)),
        "verdict",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_the_audit_has_otherwise_is_named_with_its_place(name: str) -> None:
    change, code = CHANGES[name]
    world = World({"dataset": {"subjects": ["id_number"]}})
    verdict = replay(world.policy, world.record(), change(audited(world, {})))
    assert [each.code for each in verdict.findings] == [code]
    found = verdict.findings[0]
    assert (found.lane, found.block, found.offset) == (2, 1, 41)


def test_no_item_of_the_record_is_told() -> None:
    world = World()
    record = world.record()
    said = replay(world.policy, record, _row(digest=bytes(32))(audited(world, {})))
    for language in ("zh", "en"):
        texts = [str(each) for each in RECORD.values() if len(str(each)) > 5]
        assert len(texts) > 3
        assert [each for each in texts if each in said.text(language)] == []
