"""Taking up a list of 10,000 grants goes in steps, none of which is long.

Length is counted in calls, of Python and C functions alike, not in seconds: the same everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from shutong_broker.policy.build import PolicyMaker
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.condition import load_parser
from shutong_core.domain.changes import encode_change, make_change
from shutong_core.domain.grants import Grant
from shutong_core.domain.version import AnyRow, ListVersion
from shutong_core.runtime.listview import ListView
from unit import listing_fixtures as made
from unit.policy_world import World, keys, table

#: Calls in one step; a millisecond has some ten thousand.
CALLS_MAX = 20_000
DATASETS, GRANTS = 1000, 10_000


class Key:
    """Signs nothing and believes everything."""

    key_id = "control"

    def sign(self, _data: bytes) -> bytes:
        return b"\0" * 64

    def verify(self, *_: Any) -> bool:
        return True


def calls(steps: Iterator[None]) -> list[int]:
    """How many calls each step made."""
    counted: list[int] = []
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    try:
        while True:
            count = 0
            sys.setprofile(profile)
            try:
                next(steps)
            except StopIteration:
                return [*counted, count]
            finally:
                sys.setprofile(before)
            counted.append(count)
    finally:
        sys.setprofile(before)


def grants(edition: int) -> list[AnyRow]:
    """10,000 grants, made without being checked one by one."""
    whole = made.grant().__dict__ | {"quota": edition, "projections": ()}
    return [
        Grant.model_construct(
            **whole | {"id": f"g-{number:05d}", "dataset": f"d-{number % DATASETS:04d}"}
        )
        for number in range(GRANTS)
    ]


@pytest.fixture(scope="module")
def lists() -> list[tuple[ListVersion, list[bytes]]]:
    """Three versions: the first, one in which every grant changed, one in which one did."""
    found: list[tuple[ListVersion, list[bytes]]] = []
    held: ListVersion | None = None
    for rows in (grants(1), grants(2), grants(3)[:1]):
        held, parts = make_change(held, rows, (), 0)
        found.append((held, [encode_change(part, Key()) for part in parts]))
    return found


def test_no_step_of_a_large_change_is_long(lists: list[tuple[ListVersion, list[bytes]]]) -> None:
    view = ListView(Key().verify)
    for version, records in lists:
        for record in records:
            assert max(calls(view.adding_change(record))) <= CALLS_MAX
        assert view.settle()
        assert view.newest == (version.number, version.digest)


def test_a_small_change_of_a_large_list_costs_little(
    lists: list[tuple[ListVersion, list[bytes]]],
) -> None:
    view = ListView(Key().verify)
    for _, records in lists[:2]:
        for record in records:
            view.add_change(record)
        assert view.settle()
    whole = sum(sum(calls(view.adding_change(record))) for record in lists[2][1])
    # Four for each row, to hash the list and to see what changed; nothing is read or indexed anew.
    assert whole <= 8 * GRANTS


def test_no_step_of_making_policies_ahead_is_long() -> None:
    load_parser()
    world = World({"grants": {f"g-{n:03d}": {"condition": f"amount > {n}"} for n in range(200)}})
    maker = PolicyMaker(table(), keys, CompiledPolicy)
    policies = maker.policies(world.version, world.schemas)
    steps = calls(policies.preparing(["minimum-living"]))
    assert len(steps) > 200
    # The last one writes and compiles the function for all grants.
    assert max(steps[:-2]) <= CALLS_MAX
