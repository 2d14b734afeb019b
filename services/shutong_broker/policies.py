"""The list in force as this process decides by it, swapped whole between transactions.

Policies of datasets that records came for are made ahead, so that no lane waits for them, but only
for `PREPARE_S_MAX`: a revocation is more urgent. What is left is made afterwards, in slices too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from shutong_broker.policy.build import Policies, PolicyMaker
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.condition import load_parser
from shutong_broker.policy.model import DatasetPolicy
from shutong_broker.policy.plan import DatasetPlan
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.steps import Steps
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.metrics import Metrics
from shutong_core.runtime.slices import in_slices

#: How long a list may wait for its policies; the goal for revocation is a second in all.
PREPARE_S_MAX = 0.5
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """One list version, made ready to decide: a policy per dataset."""

    version: ListVersion
    by_dataset: Mapping[str, DatasetPolicy]
    datasets: frozenset[str]

    @classmethod
    def of(cls, version: ListVersion, by_dataset: Mapping[str, DatasetPolicy]) -> PolicySet:
        """The set of these policies."""
        return cls(version, by_dataset, frozenset(by_dataset))


class PolicyBook:
    """Builds a policy set for each new list; knows whether it may be placed by. Fits `Lease`."""

    def __init__(
        self,
        feed: ListFeed,
        table: RegionTable,
        keys: Callable[[str], bytes],
        metrics: Metrics,
        taken_up: Callable[[int], None] = lambda _: None,
        make: Callable[[DatasetPlan, RegionTable], DatasetPolicy] = CompiledPolicy,
    ) -> None:
        """`taken_up` is told the number of rows that each list taken up changed.

        `make` turns the plan of a dataset into its policy.
        """
        load_parser()
        self._feed = feed
        self._table = table
        self._maker = PolicyMaker(table, keys, make)
        self._metrics = metrics
        self._taken_up = taken_up
        self._policies: PolicySet | None = None
        # Datasets that can be read; None: all that are listed.
        self._readable: frozenset[str] | None = None
        self._made: Policies | None = None
        # Makes what was left of the policies in use when the list was taken up.
        self._rest: asyncio.Task[None] | None = None
        self._refused: str | None = None

    @property
    def policies(self) -> PolicySet | None:
        """What to decide by; None until a list was read."""
        return self._policies

    @property
    def listed(self) -> frozenset[str]:
        """The datasets of the list, whether or not they can be read."""
        return frozenset(self._made or ())

    def read_only(self, datasets: frozenset[str]) -> None:
        """Let lanes read those of the list's datasets that are among these, from now on."""
        self._readable = datasets
        if self._policies is not None and self._made is not None:
            self._policies = self._set(self._policies.version, self._made)

    def _set(self, version: ListVersion, made: Policies) -> PolicySet:
        held = PolicySet.of(version, made)
        if self._readable is None or held.datasets <= self._readable:
            return held
        return replace(held, datasets=held.datasets & self._readable)

    @property
    def version(self) -> ListVersion:
        """The list decided by. Raises Fatal if there is none yet."""
        if self._policies is None:
            raise Fatal("no list is in force yet")
        return self._policies.version

    @property
    def word_age_s(self) -> float:
        """Age of Kafka's word on the newest list held; infinite without one."""
        return self._feed.word_age_s

    def may_place(self, policies: PolicySet) -> bool:
        """Whether Kafka said within the lease that this list is the newest."""
        return self._feed.holds(policies.version.number)

    def problem(self) -> str | None:
        """What readiness says of the list."""
        if self._refused is not None:
            return self._refused
        if self._policies is None:
            return self._feed.problem or "no list is in force yet: `shutong list publish FILE`"
        if not self.may_place(self._policies):
            return "the list lease ran out: Kafka did not confirm the newest list"
        return self._feed.problem

    async def follow(self) -> None:
        """Take up every new list until cancelled."""
        number = 0
        try:
            while True:
                version = await self._feed.wait_change(number)
                number = version.number
                try:
                    await self._take(version)
                except Exception as error:  # the lease of the list before runs out by itself
                    self._refused = f"list {number} cannot be used here: {type(error).__name__}"
                    _log.error("list refused", list_number=number, exc_info=error)
                # Let the lanes run between two lists that come close together.
                await asyncio.sleep(0)
        finally:
            await self._stop_rest()

    async def _take(self, version: ListVersion) -> None:
        try:
            self._check(version)
        except Rejected as error:
            # The lease for the older list runs out within seconds: nothing is placed by it.
            self._refused = f"list {version.number} cannot be used here: {error}"
            _log.error("list refused", list_number=version.number, error=str(error))
            return
        await self._stop_rest()
        made = self._maker.policies(version, self._feed.schemas)
        steps = made.preparing(self._made.in_use if self._made is not None else ())
        await in_slices(_for_at_most(steps, PREPARE_S_MAX))
        held, self._made = self._policies, made
        self._refused = None
        self._policies = self._set(version, made)
        self._rest = asyncio.create_task(in_slices(steps), name="policies in use")
        self._metrics.set("shutong_list_number", version.number)
        self._metrics.count("shutong_list_changes_total", outcome="applied")
        _log.info("list taken up", list_number=version.number, count=len(version.rows))
        self._taken_up(_rows_changed(held.version if held else None, version))

    async def _stop_rest(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None:
            rest.cancel()
            await asyncio.gather(rest, return_exceptions=True)

    def _check(self, version: ListVersion) -> None:
        bus = version.bus
        if bus.division_digest != self._table.digest.hex():
            raise Rejected(
                f"it was made for the division table of {bus.division_table}, this release has"
                f" another one of {self._table.date}"
            )
        before = self._policies.version.bus.lanes if self._policies else bus.lanes
        if bus.lanes != before:
            raise Rejected("the number of lanes is fixed at installation")


def _for_at_most(steps: Steps[None], seconds: float) -> Steps[None]:
    """The first of `steps`; the rest is left in it."""
    end = time.monotonic() + seconds
    for _ in steps:
        yield
        if time.monotonic() >= end:
            return


def _rows_changed(held: ListVersion | None, version: ListVersion) -> int:
    """How many rows of `version` are not those of `held`."""
    before = held.rows if held else {}
    return sum(before.get(row_id) is not row for row_id, row in version.rows.items())
