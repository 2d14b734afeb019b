"""A dataset's part of the list, resolved: what the decision needs, looked up once per version.

Everything is worked out here that does not depend on the record: scopes become sets of regions,
times become milliseconds, conditions and masks are compiled per schema version. What cannot be
worked out is marked so, and the decision then refuses or withholds; nothing is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shutong_broker.policy.condition import Condition
from shutong_broker.policy.masks import Masker
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.grants import Grant
from shutong_core.domain.quality import Rule
from shutong_core.domain.reasons import Reason
from shutong_core.wire.headers import CloudEventsHeaders
from shutong_core.wire.keys import KeyRule
from shutong_core.wire.schemas import Schema


@dataclass(frozen=True, slots=True)
class ProjectionPlan:
    """How a datum becomes a delivered record.

    `columns` are the delivered items with their masks (None: in clear). Grants whose plans are
    the same object get the same bytes, so each plan is assembled once per record.
    """

    delivered_id: int
    delivered: Schema
    columns: tuple[tuple[str, Masker | None], ...]


@dataclass(frozen=True, slots=True)
class GrantPlan:
    """One grant over one schema version.

    Times are milliseconds since the epoch, rounded up, so that comparing whole milliseconds is
    exact: in force while `from_ms` <= now < `until_ms`; suspended from `suspended_ms` on.
    `blocked`: an item it lists is on the negative list or not shared. `projection` is None if the
    grant does not cover the schema version. `region_item` is None if its role has no item there.
    `scope` holds regions in full form; a class grant's are its territories. `condition` is None
    where there is none, `condition_broken` where there is one that does not compile. `key_clear`:
    all key items are delivered in clear.
    """

    grant: Grant
    from_ms: int
    until_ms: int
    suspended_ms: int | None
    blocked: bool
    projection: ProjectionPlan | None
    region_item: str | None
    scope: frozenset[str]
    condition: Condition | None
    condition_broken: bool
    key_clear: bool
    secret: bytes
    cloudevents: CloudEventsHeaders | None

    def out_of_time(self, now_ms: int) -> Reason | None:
        """Why nothing is placed at that time, whatever a record says; None while it is in force."""
        if now_ms < self.from_ms:
            return Reason.NOT_YET_VALID
        if now_ms >= self.until_ms:
            return Reason.EXPIRED
        if self.suspended_ms is not None and now_ms >= self.suspended_ms:
            return Reason.SUSPENDED
        return None


@dataclass(frozen=True, slots=True)
class SchemaPlan:
    """One schema version of the dataset and the grants over it, by grant id.

    `key` is None where the key items or a quality rule do not fit the schema: then every record
    of it is refused. Items of the dataset that this version lacks are left out of `subjects` and
    `births`: they count as null. `tells_age`: the dataset has birth items, whether or not this
    version does.
    """

    schema: Schema
    key: KeyRule | None
    provider_item: str | None
    secret: bool
    subjects: tuple[str, ...]
    births: tuple[str, ...]
    tells_age: bool
    operation_item: str | None
    rules: tuple[Rule, ...]
    grants: tuple[GrantPlan, ...]


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """A dataset in force.

    `schemas` is by schema id and by GUID. `systems` are all `<organisation>/<system>` of the list;
    `jurisdictions` gives the regions each allowed organisation may write for, by USCC;
    `sole_publisher` is who writes in own-client mode (None: nobody can be told). `token_key` is
    behind the subject tokens, `id_key` behind the hashes of event ids.
    """

    dataset: Dataset
    in_force: bool
    lanes: int
    grants: tuple[str, ...]
    schemas: Mapping[int | str, SchemaPlan]
    systems: frozenset[str]
    jurisdictions: Mapping[str, frozenset[str]]
    sole_publisher: str | None
    token_key: bytes
    id_key: bytes


#: Gives the secret with a key id: `grant/<id>/<epoch>`, `tokens/1`, `event-ids/1`.
Keys = Callable[[str], bytes]
Datum = Mapping[str, Any]
