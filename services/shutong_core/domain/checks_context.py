"""What every check across rows is given: one list, the schemas, the division table.

The publisher of an own-client dataset is found here too, because access control asks the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from shutong_core.domain.catalogue import Dataset, SchemaRef
from shutong_core.domain.findings import Finding
from shutong_core.domain.grants import Drop, Grant, Negative
from shutong_core.domain.organisations import System
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.rows import Row
from shutong_core.domain.schemaview import SchemaView
from shutong_core.domain.version import ListVersion

CheckCondition = Callable[[str, SchemaView], str | None]
"""(condition, schema) -> what is wrong with the condition, None if nothing is."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list about to be published. `previous` is the list in force, None before the first."""

    version: ListVersion
    schemas: Mapping[int, SchemaView]
    table: RegionTable
    check_condition: CheckCondition
    previous: ListVersion | None = None

    def datasets(self) -> Iterator[Dataset]:
        """All datasets, by id."""
        for row in self.version.of(Dataset):
            if isinstance(row, Dataset):
                yield row

    def grants(self) -> Iterator[Grant]:
        """All grants, by id."""
        for row in self.version.of(Grant):
            if isinstance(row, Grant):
                yield row

    def granted(self) -> Iterator[tuple[Grant, Dataset]]:
        """Grants with their datasets; those of unknown datasets are left out."""
        for grant in self.grants():
            dataset = self.version.dataset(grant.dataset)
            if dataset is not None:
                yield grant, dataset

    def negatives(self) -> Iterator[Negative]:
        """All rows of the negative list, by id."""
        for row in self.version.of(Negative):
            if isinstance(row, Negative):
                yield row

    def views(self, dataset: Dataset) -> list[tuple[SchemaRef, SchemaView]]:
        """The dataset's schema versions that are registered, ascending."""
        return [(ref, self.schemas[ref.id]) for ref in dataset.schemas if ref.id in self.schemas]


def finding(
    code: str, row: Row, path: str, problem: tuple[str, str], remedy: tuple[str, str]
) -> Finding:
    """A finding on the field `path` of `row`: names and indexes joined by `/`, "" for the row.

    `problem` and `remedy` are (Chinese, English). Only for paths without free names in them.
    """
    steps = tuple(int(step) if step.isdigit() else step for step in path.split("/") if step)
    return Finding(code, row.row_id, steps, *problem, *remedy)


def flowing(grant: Grant) -> list[str]:
    """The items that flow by this grant, masked or clear: all that are listed but dropped ones."""
    return [name for name, how in grant.items.items() if not isinstance(how, Drop)]


def publishing_organisations(dataset: Dataset) -> tuple[str, ...]:
    """USCCs of those that write the dataset: its publishers, else its provider; no repeats."""
    named = dict.fromkeys(publisher.organisation for publisher in dataset.publishers)
    return tuple(named) or (dataset.provider,)


def publishing_systems(version: ListVersion, dataset: Dataset) -> tuple[System, ...]:
    """Systems of the organisations that write the dataset, by id."""
    writers = publishing_organisations(dataset)
    return tuple(
        row for row in version.of(System) if isinstance(row, System) and row.organisation in writers
    )
