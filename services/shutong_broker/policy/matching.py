"""From a record's regions to the grants that may get it: dataset → region → grants.

Grants are looked up by the regions around the record's own, never gone through one by one, so
cost does not grow with grants that cannot match. What depends on the time of decision alone
(validity, suspension, the day's age limit) is settled once per `Moment`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from shutong_broker.policy.minors import ADULT_FROM_YEARS, day_in_china
from shutong_broker.policy.plan import GrantPlan
from shutong_broker.policy.regionmemo import REMEMBERED_MAX, region_of
from shutong_broker.policy.withholding import Withheld, WithheldGrants
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable

#: Combinations of unknown regions and broken conditions whose withheld grants are kept written out.
_TOLD_MAX = 256
_DAY_MS = 86_400_000
_CHINA_MS = 8 * 3_600_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()


class Candidate(NamedTuple):
    """One grant as the generated decision goes through it.

    `condition` is called with the record's values and `literals`, `project` with the values and
    `pieces`; `number` is the same for grants that share a projection. `minor` is what is told of
    a person under 14, None if the grant covers them. `hide` makes the delivered key, None where
    it is the record's own; `events` makes the cloudevents headers.
    """

    grant: str
    condition: Callable[[Any, Any], bool] | None
    literals: tuple[Any, ...]
    not_met: Withheld
    minor: Withheld | None
    number: int
    project: Callable[[Any, Any], bytes]
    pieces: tuple[Any, ...]
    hide: Callable[[bytes], bytes] | None
    events: Callable[..., tuple[tuple[str, bytes], ...]] | None


class Match:
    """The candidates of records with certain regions, and who is withheld whatever else they say.

    `all_placed` is the value of `withheld` where every candidate is placed.
    """

    __slots__ = ("all_placed", "candidates", "everyone", "reached", "shared")

    def __init__(
        self,
        everyone: Sequence[str],
        candidates: tuple[Candidate, ...],
        shared: tuple[Withheld, ...],
    ) -> None:
        self.everyone = everyone
        self.candidates = candidates
        self.reached = frozenset(candidate.grant for candidate in candidates)
        self.shared = shared
        self.all_placed = WithheldGrants(shared, (), self)


class Matcher:
    """The grants over one schema version, indexed by region.

    `candidates` is by grant id, for those that can be placed at all; `roles` are the region items
    that they look at, in a fixed order.
    """

    def __init__(
        self,
        everyone: Sequence[str],
        plans: Sequence[GrantPlan],
        candidates: Mapping[str, Candidate],
        roles: Sequence[str],
        table: RegionTable,
    ) -> None:
        self.everyone = everyone
        self.plans = plans
        self.candidates = candidates
        self.roles = roles
        self.table = table
        self.index: list[dict[str, list[int]]] = [{} for _ in roles]
        self._edges = sorted(
            {each.from_ms for each in plans}
            | {each.until_ms for each in plans}
            | {each.suspended_ms for each in plans if each.suspended_ms is not None}
        )
        for number, each in enumerate(plans):
            if each.region_item in roles and each.grant.id in candidates:
                by_region = self.index[roles.index(each.region_item)]
                for code in each.scope:
                    by_region.setdefault(code, []).append(number)

    def moment(self, now_ms: int) -> Moment:
        """What holds at `now_ms`. Raises OverflowError beyond the calendar."""
        return Moment(self, now_ms)

    def span(self, now_ms: int) -> tuple[int, int]:
        """The longest time around `now_ms`, end excluded, in which nothing begins or ends."""
        day = (now_ms + _CHINA_MS) // _DAY_MS
        begin, end = day * _DAY_MS - _CHINA_MS, (day + 1) * _DAY_MS - _CHINA_MS
        for edge in self._edges:
            if begin < edge <= now_ms:
                begin = edge
            elif now_ms < edge < end:
                end = edge
        return begin, end

    def fixed_reason(self, plan: GrantPlan, now_ms: int) -> Reason | None:
        """Why no record gets to this grant now; None if it depends on the record."""
        reason = plan.out_of_time(now_ms)
        if reason is not None:
            return reason
        if plan.blocked:
            return Reason.NEGATIVE_LIST
        if plan.projection is None:
            return Reason.SCHEMA_NOT_GRANTED
        return None if plan.region_item in self.roles else Reason.GRANT_REGION_UNKNOWN


class Moment(dict[Any, Match]):
    """The matches of one span of time, by the raw values of the records' regions.

    The key is the one region item's raw value, or their tuple if grants look at several, or None
    if at none. `adult_before` is the first birth date, as an Avro date, of a person under 14.
    """

    def __init__(self, matcher: Matcher, now_ms: int) -> None:
        super().__init__()
        self.from_ms, self.until_ms = matcher.span(now_ms)
        self.today = day_in_china(now_ms)
        self.adult_before = _first_birth_under_14(self.today)
        self._matcher = matcher
        reasons = [matcher.fixed_reason(plan, now_ms) for plan in matcher.plans]
        self._fixed = {
            number: Withheld(matcher.plans[number].grant.id, reason)
            for number, reason in enumerate(reasons)
            if reason is not None
        }
        self._fixed_told = tuple(self._fixed.values())
        self._interned: dict[tuple[tuple[int, ...], tuple[int, ...]], Match] = {}
        self._told: dict[tuple[int, ...], tuple[Withheld, ...]] = {(): self._fixed_told}

    def __missing__(self, raws: Any) -> Match:
        roles = self._matcher.roles
        of_roles = raws if len(roles) > 1 else (raws,)[: len(roles)]
        codes = [region_of(self._matcher.table, raw) for raw in of_roles]
        match = self._match(codes)
        if all(code or raw is None for code, raw in zip(codes, of_roles, strict=True)):
            if len(self) >= REMEMBERED_MAX:
                self.clear()
                self._interned.clear()
            self[raws] = match
        return match

    def _match(self, codes: Sequence[str | None]) -> Match:
        matcher = self._matcher
        found: set[int] = set()
        unknown = []
        for role, code in enumerate(codes):
            if code is None:
                unknown.append(role)
            else:
                for around in matcher.table.ancestors(code):
                    found.update(matcher.index[role].get(around, ()))
        key = (tuple(unknown), tuple(sorted(found.difference(self._fixed))))
        match = self._interned.get(key)
        if match is None:
            match = self._interned[key] = self._made(*key)
        return match

    def _made(self, unknown: tuple[int, ...], numbers: tuple[int, ...]) -> Match:
        plans, candidates = self._matcher.plans, self._matcher.candidates
        broken = tuple(number for number in numbers if plans[number].condition_broken)
        ids = [plans[number].grant.id for number in numbers if number not in broken]
        return Match(
            self._matcher.everyone,
            tuple(candidates[grant] for grant in ids),
            self._shared(unknown, broken),
        )

    def _shared(self, unknown: tuple[int, ...], broken: tuple[int, ...]) -> tuple[Withheld, ...]:
        """Who is withheld for a fixed reason, an unknown region or a broken condition."""
        known = self._told.get((*unknown, -1, *broken)) if unknown or broken else self._fixed_told
        if known is not None:
            return known
        told = dict(self._fixed)
        plans = self._matcher.plans
        items = {self._matcher.roles[role] for role in unknown}
        for number, plan in enumerate(plans):
            if number not in told and plan.region_item in items:
                told[number] = Withheld(plan.grant.id, Reason.GRANT_REGION_UNKNOWN)
        for number in broken:
            told[number] = Withheld(plans[number].grant.id, Reason.CONDITION_ERROR)
        made = tuple(told[number] for number in sorted(told))
        if len(self._told) < _TOLD_MAX:
            self._told[*unknown, -1, *broken] = made
        return made


def _first_birth_under_14(today: date) -> int:
    """Days after 1970 of the earliest birth date that counts as under 14 on `today`."""
    year = today.year - ADULT_FROM_YEARS
    if year < 1:
        return date.min.toordinal() - _EPOCH_DAY
    try:
        return date(year, today.month, today.day).toordinal() - _EPOCH_DAY
    except ValueError:  # 29 February of a common year
        return date(year, 3, 1).toordinal() - _EPOCH_DAY
