"""The broker takes up a new list: policies in use first, but never at the price of a revocation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from shutong_broker import policies as module
from shutong_broker.policies import PolicyBook
from shutong_broker.policy.build import Policies, PolicyMaker
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_core.domain.version import ListVersion, next_version
from shutong_core.runtime.metrics import Metrics
from shutong_core.wire.schemas import Schema
from unit import listing_fixtures as made
from unit.policy_world import World, keys, table

DATASET = "minimum-living"


class Feed:
    """Gives the versions that a test puts in."""

    def __init__(self, schemas: Mapping[int, Schema]) -> None:
        self.schemas = schemas
        self.problem = None
        self.word_age_s = 0.0
        self._version: ListVersion | None = None
        self._changed = asyncio.Condition()

    async def put(self, version: ListVersion) -> None:
        async with self._changed:
            self._version = version
            self._changed.notify_all()

    async def wait_change(self, after: int) -> ListVersion:
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._version is not None and self._version.number > after
            )
        assert self._version is not None
        return self._version

    def holds(self, _number: int) -> bool:
        return True


class Bench:
    """A policy book that follows a feed."""

    def __init__(self) -> None:
        self.world = World({"grants": {"g-1": {}, "g-2": {"condition": "amount > 5"}}})
        self.version = self.world.version
        self.feed = Feed(self.world.schemas)
        self.rows: list[int] = []
        feed: Any = self.feed
        self.book = PolicyBook(feed, made.divisions(), keys, Metrics("broker"), self.rows.append)

    async def take(self, version: ListVersion) -> Policies:
        self.version = version
        await self.feed.put(version)
        async with asyncio.timeout(10):
            while self.book.policies is None or self.book.policies.version is not version:
                await asyncio.sleep(0)
        by_dataset = self.book.policies.by_dataset
        assert isinstance(by_dataset, Policies)
        return by_dataset

    def after(self, *rows: Any) -> ListVersion:
        return next_version(self.version, rows, (), made.EFFECTIVE_MS)

    def grant(self, grant_id: str, **fields: Any) -> Any:
        row = self.version.grant(grant_id)
        assert row is not None
        return row.model_copy(update=fields)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    following = asyncio.create_task(bench.book.follow())
    yield bench
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
def made_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Datasets whose policies were made, in order."""
    found: list[str] = []
    make = CompiledPolicy.__init__

    def counted(policy: CompiledPolicy, plan: Any, *others: Any, **more: Any) -> None:
        make(policy, plan, *others, **more)
        found.append(plan.dataset.id)

    monkeypatch.setattr(CompiledPolicy, "__init__", counted)
    return found


async def test_a_policy_that_was_asked_for_is_ready_when_the_next_list_decides(
    made_anew: list[str], bench: Bench
) -> None:
    first = await bench.take(bench.version)
    assert made_anew == []
    held = first[DATASET]
    after = await bench.take(bench.after(bench.grant("g-1", quota=5)))
    assert made_anew == [DATASET, DATASET]
    assert after.in_use == (DATASET,)
    assert after[DATASET] is not held
    assert bench.rows == [len(bench.version.rows), 1]


async def test_a_change_elsewhere_leaves_a_policy_as_it_is(
    made_anew: list[str], bench: Bench
) -> None:
    held = (await bench.take(bench.version))[DATASET]
    other = made.dataset("other", schemas=())
    after = await bench.take(bench.after(made.purpose("another"), other))
    assert after[DATASET] is held
    assert made_anew == [DATASET]
    assert set(after) == {DATASET, "other"}


@pytest.mark.parametrize(
    "change",
    [
        lambda bench: bench.version.dataset(DATASET).model_copy(update={"title": "另一名称"}),
        lambda bench: bench.grant("g-2", condition=None),
        lambda bench: made.grant("g-3", dataset=DATASET),
        lambda bench: made.negative(dataset=DATASET),
        lambda bench: made.system("another"),
        lambda bench: made.organisation(region=made.GUANGDONG),
    ],
    ids=["dataset", "grant", "new grant", "negative", "system", "provider's region"],
)
async def test_whatever_a_policy_depends_on_makes_it_anew(bench: Bench, change: Any) -> None:
    held = (await bench.take(bench.version))[DATASET]
    after = await bench.take(bench.after(change(bench)))
    assert after[DATASET] is not held


async def test_a_list_does_not_wait_for_policies_longer_than_allowed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (await bench.take(bench.version))[DATASET]
    monkeypatch.setattr(module, "PREPARE_S_MAX", 0.0)
    after = await bench.take(bench.after(bench.grant("g-1", quota=5)))
    # It decides already; what is left is made in the background.
    async with asyncio.timeout(10):
        while not after.in_use:
            await asyncio.sleep(0)
    assert after.in_use == (DATASET,)


async def test_a_policy_that_cannot_be_made_stops_no_list(bench: Bench) -> None:
    (await bench.take(bench.version))[DATASET]

    def broken(_key_id: str) -> bytes:
        raise RuntimeError("no keyring")

    bench.book._maker._keys = broken
    after = await bench.take(bench.after(bench.grant("g-1", quota=5)))
    with pytest.raises(RuntimeError):
        after[DATASET]
    assert bench.book.problem() is None


def test_policies_are_in_use_in_the_order_in_which_they_were_last_asked_for() -> None:
    world = World()
    rows = [*world.version.rows.values(), made.dataset("a"), made.dataset("b")]
    version = next_version(None, rows, (), 0)
    maker = PolicyMaker(table(), keys, CompiledPolicy)
    first = maker.policies(version, world.schemas)
    for name in ("a", DATASET, "b", DATASET):
        first[name]
    assert first.in_use == (DATASET, "b", "a")
    second = maker.policies(version, world.schemas)
    for _ in second.preparing(first.in_use):
        pass
    assert second.in_use == first.in_use
