"""Lists beside the reference job's: many datasets, many grants, many requesters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from bench import job
from shutong_core.domain.grants import Grant
from shutong_core.domain.regions import Level
from unit import listing_fixtures as listing

ALL_ROWS = job.REFERENCE["b"]
PURPOSE = "care"
#: The ninth city: no record is of it.
NOWHERE = job.CITIES


@cache
def towns_of(region: str) -> tuple[str, ...]:
    """Codes of all towns of a region, whatever lies between, ascending."""
    return tuple(sorted(job.divisions().territories(Level.TOWN, region)))


def requester(number: int) -> str:
    """Id of one of many receiving organisations."""
    return listing.uscc(1000 + number, job.PROVINCE)


def requesters(count: int) -> list[dict[str, Any]]:
    """Rows of `count` receiving organisations."""
    rows = (listing.organisation(requester(n), name=f"示例部门{n}") for n in range(count))
    return [{k: v for k, v in row.body().items() if k != "kind"} for row in rows]


def sections(
    datasets: Iterable[str], grants: Iterable[Mapping[str, Any]], requesters_count: int = 0
) -> dict[str, Any]:
    """A list file of these datasets, all with the reference job's record, and these grants."""
    rows = [
        job.dataset_row(name, title=name, resource_code=f"203001/{number + 1}")
        for number, name in enumerate(datasets)
    ]
    made = job.sections(rows, [_short(grant) | {"purpose": PURPOSE} for grant in grants])
    made["purposes"] = [{"id": PURPOSE, "title": "示例"}]
    made["datasets"] = [{**row, "purposes": [PURPOSE]} for row in made["datasets"]]
    made["organisations"] = made["organisations"] + requesters(requesters_count)
    return made


def reference_grants(dataset: str, partitions: str) -> list[dict[str, Any]]:
    """The reference job's three grants on any dataset."""
    return [
        job.grant_row(f"{dataset}-{name}", given, dataset)
        | {"partitions": partitions}
        | {"requester": requester(number)}
        for number, (name, given) in enumerate(job.REFERENCE.items())
    ]


def whole_grant(grant: str, dataset: str, partitions: str, number: int = 0) -> dict[str, Any]:
    """A grant of all rows, ten items."""
    row = job.grant_row(grant, ALL_ROWS, dataset)
    return row | {"partitions": partitions, "requester": requester(number)}


def many(datasets: Sequence[str], grants_each: int) -> list[dict[str, Any]]:
    """Grants of many datasets: the reference job's three, the others of towns without records."""
    nowhere = towns_of(job.city(NOWHERE))
    made: list[dict[str, Any]] = []
    for name in datasets:
        made += reference_grants(name, "one")
        for n in range(grants_each - len(job.REFERENCE)):
            given = {"items": ALL_ROWS["items"], "codes": [nowhere[n % len(nowhere)]]}
            row = job.grant_row(f"{name}-{n:03d}", given, name)
            made.append(row | {"partitions": "one", "requester": requester(3)})
    return made


def _short(grant: Mapping[str, Any]) -> dict[str, Any]:
    """A grant as people write it, without what is so by default: a list file is 8 MiB at most."""
    fields = Grant.model_fields
    return {
        name: value
        for name, value in grant.items()
        if name not in fields or fields[name].is_required() or fields[name].default != value
    }
