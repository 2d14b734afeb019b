"""What audit blocks add up to: per dataset, per grant, per flow between levels.

Reads the audit alone, so its figures are what the audit proves, not what a service counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import NamedTuple

from shutong_core.audit.bitmaps import of_range, of_rows, to_bits
from shutong_core.audit.body import Body, GrantColumn, InputSection, Withholding
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.direction import direction
from shutong_core.domain.grants import Grant
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import Level, RegionTable
from shutong_core.domain.version import ListVersion

PLACED = "placed"
#: Withheld for region or condition: the audit keeps no list of those (docs/formats/audit.md).
OUTSIDE = "outside"
#: Ways remembered: a class of requesters takes milliseconds to be found in the table.
_WAYS_MAX = 100_000


class Flow(NamedTuple):
    """One way that records can take; levels 0 nation … 4 town, direction as people read it."""

    dataset: str
    grant: str
    provider: str  # the giving side's USCC
    giver: Level
    receiver: Level
    direction: str | None  # None: differs among the territories of a class grant
    verdict: str  # PLACED, OUTSIDE or the name of a Reason
    publisher: str = ""  # USCC of who wrote; `provider` but for return flow


class _Way(NamedTuple):
    """What of a flow follows from the list alone."""

    provider: str
    giver: Level
    receiver: Level
    direction: str | None


@dataclass(slots=True)
class DatasetTally:
    """Rows of one dataset."""

    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Tally:
    """Sums over all blocks that were added."""

    datasets: dict[str, DatasetTally] = field(default_factory=dict)
    flows: Counter[Flow] = field(default_factory=Counter)

    def grant(self, grant_id: str) -> Counter[str]:
        """Verdicts of one grant: PLACED, OUTSIDE, names of reasons."""
        found: Counter[str] = Counter()
        for flow, count in self.flows.items():
            if flow.grant == grant_id:
                found[flow.verdict] += count
        return found

    def matrix(self) -> Counter[tuple[Level, Level, str | None]]:
        """Placed records by level of giver, level of receiver, direction."""
        found: Counter[tuple[Level, Level, str | None]] = Counter()
        for flow, count in self.flows.items():
            if flow.verdict == PLACED:
                found[flow.giver, flow.receiver, flow.direction] += count
        return found


class TallyMaker:
    """Adds blocks up; needs the list each block was decided by."""

    def __init__(self, table: RegionTable) -> None:
        self._table = table
        self._ways: dict[tuple[bytes, str, str], _Way] = {}
        self.tally = Tally()

    def take(self) -> Tally:
        """The sums so far, which then begin anew."""
        taken, self.tally = self.tally, Tally()
        return taken

    def add(self, body: Body, version: ListVersion) -> None:
        """Add one block that was decided by `version`."""
        for section in body.inputs:
            self._add_rows(section)
            dataset = version.dataset(section.dataset)
            if dataset is not None:
                self._add_verdicts(body, section, dataset, version)

    def _add_rows(self, section: InputSection) -> None:
        if section.loading:
            return  # the same rows a second time, for one grant
        tally = self.tally.datasets.setdefault(section.dataset, DatasetTally())
        tally.rows += section.rows
        for number, count in Counter(section.refusals).items():
            if number:
                tally.refused[Reason.of(number).name] += count

    def _add_verdicts(
        self, body: Body, section: InputSection, dataset: Dataset, version: ListVersion
    ) -> None:
        by_publisher: dict[str, int] = {}
        for each, rows in _rows_by_publisher(section).items():
            uscc = body.publishers[each].partition("/")[0]
            by_publisher[uscc] = by_publisher.get(uscc, 0) | rows
        decided = reduce(or_, by_publisher.values(), 0)
        columns = {column.grant: column for column in section.grants}
        runs: dict[str, list[Withholding]] = {}
        for run in section.withheld:
            runs.setdefault(run.grant, []).append(run)
        for grant in version.grants_by_dataset.get(dataset.id, ()):
            if section.loading and section.loading != grant.id:
                continue
            verdicts = _verdicts(columns.get(grant.id), runs.get(grant.id, ()), decided)
            for verdict, rows in verdicts.items():
                for uscc, theirs in by_publisher.items():
                    count = (rows & theirs).bit_count()
                    if count:
                        way = self._way(version, dataset, grant, uscc)
                        self.tally.flows[Flow(dataset.id, grant.id, *way, verdict, uscc)] += count

    def _way(self, version: ListVersion, dataset: Dataset, grant: Grant, publisher: str) -> _Way:
        key = (version.digest, grant.id, publisher)
        found = self._ways.get(key)
        if found is None:
            if len(self._ways) >= _WAYS_MAX:
                self._ways.clear()
            found = self._ways[key] = self._way_anew(version, dataset, grant, publisher)
        return found

    def _way_anew(
        self, version: ListVersion, dataset: Dataset, grant: Grant, publisher: str
    ) -> _Way:
        table = self._table
        giver = dataset.provider if grant.return_flow else publisher
        organisation = version.organisation(giver)
        giver_region = organisation.region if organisation else dataset.provider
        asked = grant.requester_class
        if asked is None:
            requester = version.organisation(grant.requester or "")
            receiver = table.level(requester.region) if requester else Level.TOWN
            way: str | None = direction(table, version, dataset, grant, publisher).value
        else:
            receiver = Level.named(asked.level)
            territory = min(table.territories(receiver, asked.within, asked.also))
            # One direction for all only where the giver stands above the whole class.
            above = table.contains(giver_region, asked.within)
            way = (
                direction(table, version, dataset, grant, publisher, territory).value
                if above
                else None
            )
        return _Way(giver, table.level(giver_region), receiver, way)


def _rows_by_publisher(section: InputSection) -> dict[int, int]:
    """Rows that are not refused, as bits, by the publisher's index."""
    numbers: dict[int, list[int]] = {}
    for row, (publisher, refusal) in enumerate(
        zip(section.publisher_indexes(), section.refusals, strict=True)
    ):
        if not refusal:
            numbers.setdefault(publisher, []).append(row)
    return {publisher: of_rows(rows, section.rows) for publisher, rows in numbers.items()}


def _verdicts(
    column: GrantColumn | None, runs: Iterable[Withholding], decided: int
) -> dict[str, int]:
    """Rows of one grant by verdict, as bits: what the section says, and what it leaves out."""
    found: dict[str, int] = {}
    told = 0
    if column is not None:
        found[PLACED] = to_bits(column.allowed)
        for first, end in column.deferred:
            told |= of_range(first, end)
    for run in runs:
        name = run.reason.name
        found[name] = found.get(name, 0) | of_range(run.first, run.end)
    for rows in found.values():
        told |= rows
    found[OUTSIDE] = decided & ~told
    return found
