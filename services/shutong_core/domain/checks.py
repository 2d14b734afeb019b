"""All rules across rows that a responsibility list must keep before it is published.

A check is one function of a `Listing` that yields findings; adding a rule is one function in a
module `checks_…` and one line in `CHECKS`. A check that fails itself counts as a finding: a rule
that cannot be evaluated never lets a list pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from shutong_core.domain import (
    checks_catalogue,
    checks_grants,
    checks_items,
    checks_organisations,
    checks_schemas,
    checks_transition,
)
from shutong_core.domain.checks_context import CheckCondition, Listing
from shutong_core.domain.errors import ShutongError
from shutong_core.domain.findings import PROBLEMS_MAX, Finding
from shutong_core.domain.regions import RegionTable
from shutong_core.domain.schemaview import SchemaView
from shutong_core.domain.version import ListVersion

Check = Callable[[Listing], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    checks_organisations.bus_row,
    checks_organisations.regions_known,
    checks_organisations.organisations_complete,
    checks_organisations.roles_separate,
    checks_organisations.organisations_known,
    checks_organisations.duties_fit,
    checks_catalogue.datasets_carried,
    checks_catalogue.providers_known,
    checks_catalogue.one_writer,
    checks_catalogue.share_terms,
    checks_catalogue.graded,
    checks_catalogue.derived_with_consent,
    checks_catalogue.entries_distinct,
    checks_catalogue.modes_fit,
    checks_schemas.schemas_registered,
    checks_schemas.key_fits,
    checks_schemas.region_roles_fit,
    checks_schemas.persons_found,
    checks_schemas.ages_told,
    checks_schemas.operation_readable,
    checks_schemas.quality_rules_fit,
    checks_grants.grants_resolve,
    checks_grants.terms_kept,
    checks_grants.scopes_fit,
    checks_grants.return_flow_free,
    checks_grants.replaced_well,
    checks_grants.grants_disjoint,
    checks_grants.own_clients_allowed,
    checks_items.items_known,
    checks_items.masks_fit,
    checks_items.shared_items_only,
    checks_items.negatives_resolve,
    checks_items.persons_protected,
    checks_items.needed_items_present,
    checks_items.conditions_sound,
    checks_items.projections_bound,
    checks_transition.lanes_fixed,
    checks_transition.schemas_appended,
    checks_transition.terms_not_tightened_alone,
    checks_transition.rows_fixed,
)


def check_list(
    version: ListVersion,
    schemas: Mapping[int, SchemaView],
    table: RegionTable,
    check_condition: CheckCondition,
    previous: ListVersion | None = None,
) -> tuple[Finding, ...]:
    """What stands against publishing `version`, at most PROBLEMS_MAX findings; () if nothing.

    `schemas` are the registered schemas by id; `check_condition` tells what is wrong with a
    condition (None: nothing); `previous` is the list in force, for rules about the change.
    """
    listing = Listing(version, schemas, table, check_condition, previous)
    return tuple(
        islice((found for check in CHECKS for found in _run(check, listing)), PROBLEMS_MAX)
    )


def _run(check: Check, listing: Listing) -> Iterator[Finding]:
    try:
        yield from check(listing)
    except (ShutongError, LookupError, ValueError, TypeError, AttributeError) as error:
        name = getattr(check, "__name__", "check")
        yield Finding(
            "check-failed",
            "",
            (),
            f"检查 {name} 出错（{type(error).__name__}），按不通过处理",
            f"check {name} failed ({type(error).__name__}), which counts as refusal",
            "先改正其他问题；仍出现则报告维护者",
            "mend the other problems first; if it stays, tell the maintainers",
        )
