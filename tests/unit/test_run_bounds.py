"""Nothing says more than a block or a transaction holds: runs are cut, lists are refused."""

from __future__ import annotations

from typing import Any

import pytest

from properties.test_plans_equal import ENGINES, LANE, planner
from shutong_broker import deciding
from shutong_broker.plan import Plan, Polled
from shutong_broker.policies import PolicySet
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.state import LaneState
from shutong_broker.window import RepeatWindow
from shutong_core.audit.block import BODY_BYTES_MAX, parse_body
from shutong_core.domain.errors import Rejected
from shutong_core.domain.version import parse_row
from unit import listing_fixtures as listing
from unit.policy_world import CHILD, World, now_ms

RECORDS = 520
COLUMNS = [make for make in ENGINES if make is not PolicyInterpreter]


def planned(world: World, number: int) -> Plan:
    """The plan of records of adults and of children by turns."""
    adult, child = (
        world.record({"partition": LANE, "record": record}) for record in ({}, {"id_number": CHILD})
    )
    records = [
        (child if row % 2 else adult)._replace(
            offset=row, headers=(adult.headers[0], ("ce_id", b"%d" % row))
        )
        for row in range(number)
    ]
    policies = PolicySet.of(world.version, {world.policy.dataset: world.policy})
    polled = [Polled("minimum-living", records)]
    return planner().plan(LANE, polled, policies, LaneState(), RepeatWindow(), None, now_ms())


@pytest.mark.parametrize("make", COLUMNS)
def test_a_block_is_never_too_large_however_many_grants_children_are_withheld_from(
    make: Any,
) -> None:
    plan = planned(World({"grants": {f"g{n:03}": {} for n in range(900)}}, make), RECORDS)
    assert len(plan.body) <= BODY_BYTES_MAX
    rows = sum(w.end - w.first for w in parse_body(plan.body).inputs[0].withheld)
    assert rows == plan.datasets["minimum-living"].decided // 2 * 900


@pytest.mark.parametrize("make", COLUMNS)
def test_what_is_placed_by_one_run_is_bounded(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"grants": {"a": {"minors": True}, "b": {"minors": True}}}, make)
    monkeypatch.setattr(deciding, "RUN_OUTPUT_BYTES", 2048)
    taken: list[int] = []
    take = deciding.Deciding._take

    def spied(self: Any, run: Any, columns: Any) -> None:
        taken.append(columns.output_bytes())
        take(self, run, columns)

    monkeypatch.setattr(deciding.Deciding, "_take", spied)
    plan = planned(world, RECORDS)
    assert plan.datasets["minimum-living"].decided == RECORDS
    assert max(taken) <= 2048


def test_a_dataset_has_no_more_subjects_than_a_row_of_the_audit_has_tokens() -> None:
    body = listing.dataset().body()
    assert parse_row(body | {"subjects": [f"person_{n}" for n in range(255)]})
    with pytest.raises(Rejected, match="subjects"):
        parse_row(body | {"subjects": [f"person_{n}" for n in range(256)]})
