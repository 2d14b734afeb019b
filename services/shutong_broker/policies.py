"""The list in force as this process decides by it, swapped whole between transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from shutong_broker.policy.build import build_policy
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.model import DatasetPolicy
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.metrics import Metrics

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
    ) -> None:
        self._feed = feed
        self._table = table
        self._keys = keys
        self._metrics = metrics
        self._policies: PolicySet | None = None
        self._refused: str | None = None

    @property
    def policies(self) -> PolicySet | None:
        """What to decide by; None until a list was read."""
        return self._policies

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
        while True:
            version = await self._feed.wait_change(number)
            number = version.number
            try:
                self._take(version)
            except Exception as error:  # the lease of the list before runs out by itself
                self._refused = f"list {number} cannot be used here: {type(error).__name__}"
                _log.error("list refused", list_number=number, exc_info=error)
            # Let the lanes run between two lists that come close together.
            await asyncio.sleep(0)

    def _take(self, version: ListVersion) -> None:
        try:
            self._check(version)
        except Rejected as error:
            # The lease for the older list runs out within seconds: nothing is placed by it.
            self._refused = f"list {version.number} cannot be used here: {error}"
            _log.error("list refused", list_number=version.number, error=str(error))
            return
        self._refused = None
        self._policies = PolicySet.of(
            version,
            build_policy(version, self._feed.schemas, self._table, self._keys, CompiledPolicy),
        )
        self._metrics.set("shutong_list_number", version.number)
        self._metrics.count("shutong_list_changes_total", outcome="applied")
        _log.info("list taken up", list_number=version.number, count=len(version.rows))

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
