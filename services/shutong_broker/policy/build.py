"""From a list version to the policy of each dataset.

A dataset's plan is made when it is first asked for: a list has a thousand datasets, a lane reads
a few. A row that contradicts itself never stops the others: the plan marks it and the decision
fails closed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from shutong_broker.policy.condition import Condition, compile_condition
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.masks import Masker, masker
from shutong_broker.policy.model import DatasetPolicy
from shutong_broker.policy.plan import DatasetPlan, GrantPlan, Keys, ProjectionPlan, SchemaPlan
from shutong_core.domain.catalogue import (
    Dataset,
    Grade,
    IdNumberRule,
    OperationItem,
    ShareClass,
)
from shutong_core.domain.checks_context import publishing_systems
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Drop, Grant, Hash, Mask, Negative
from shutong_core.domain.organisations import System
from shutong_core.domain.quality import Rule, compile_rule
from shutong_core.domain.regions import Level, RegionTable
from shutong_core.domain.version import ListVersion
from shutong_core.wire.encode import encode_shape
from shutong_core.wire.headers import CloudEventsHeaders
from shutong_core.wire.keys import KeyRule, key_rule
from shutong_core.wire.projection import project_schema
from shutong_core.wire.schemas import Schema
from shutong_core.wire.shapes import inner

#: Key of the subject tokens; one for the node, so that an auditor can search all datasets.
TOKEN_KEY_ID = "tokens/1"  # noqa: S105 - the id of a key, not a key
#: Key of the event id hashes: an event id may be guessable.
EVENT_ID_KEY_ID = "event-ids/1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def grant_key_id(grant: Grant) -> str:
    """The id of the secret behind a grant's hash masks, delivered keys and ce_ids."""
    return f"grant/{grant.id}/{grant.key_epoch}"


def build_policy(
    version: ListVersion,
    schemas: Mapping[int, Schema],
    table: RegionTable,
    keys: Keys,
    make: Callable[[DatasetPlan, RegionTable], DatasetPolicy] = PolicyInterpreter,
) -> Mapping[str, DatasetPolicy]:
    """The policy of every dataset of `version`, by dataset id.

    `schemas` holds the registered schemas by id; `keys` gives the secret with a key id and is
    called when a dataset's policy is first looked up, where its errors surface. `make` turns a
    plan into a policy. Raises Rejected if the list has no row bus/bus.
    """
    return _Policies(_Planner(version, schemas, table, keys), make)


class _Policies(Mapping[str, DatasetPolicy]):
    """Policies by dataset id, each made once."""

    def __init__(
        self,
        planner: _Planner,
        make: Callable[[DatasetPlan, RegionTable], DatasetPolicy],
    ) -> None:
        self._planner = planner
        self._make = make
        self._datasets = {row.id: row for row in planner.version.of(Dataset)}
        self._made: dict[str, DatasetPolicy] = {}

    def __getitem__(self, dataset_id: str) -> DatasetPolicy:
        made = self._made.get(dataset_id)
        if made is None:
            dataset = self._datasets[dataset_id]
            if not isinstance(dataset, Dataset):  # the index holds nothing else
                raise KeyError(dataset_id)
            made = self._make(self._planner.plan(dataset), self._planner.table)
            self._made[dataset_id] = made
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)


@dataclass(frozen=True, slots=True)
class _Source:
    """One schema version of a dataset, and the projections its grants share."""

    dataset: Dataset
    schema_id: int
    schema: Schema
    shared: dict[Any, ProjectionPlan] = field(default_factory=dict)


class _Planner:
    """Makes plans from one list version."""

    def __init__(
        self, version: ListVersion, schemas: Mapping[int, Schema], table: RegionTable, keys: Keys
    ) -> None:
        self.version = version
        self.table = table
        self._schemas = schemas
        self._keys = keys
        self._lanes = version.bus.lanes
        self._systems = frozenset(
            f"{row.organisation}/{row.id}"
            for row in version.of(System)
            if isinstance(row, System) and version.organisation(row.organisation) is not None
        )
        self._negatives: dict[str, list[Negative]] = {}
        for row in version.of(Negative):
            if isinstance(row, Negative):
                self._negatives.setdefault(row.dataset, []).append(row)

    def plan(self, dataset: Dataset) -> DatasetPlan:
        """The plan of `dataset`. Raises what `keys` raises."""
        grants = self.version.grants_by_dataset.get(dataset.id, ())
        secrets = {grant.id: self._secret(grant, dataset) for grant in grants}
        plans: dict[int | str, SchemaPlan] = {}
        for ref in dataset.schemas:
            schema = self._schemas.get(ref.id)
            # A schema that is not the one the list means is as good as unknown.
            if schema is not None and schema.digest.hex() == ref.digest:
                source = _Source(dataset, ref.id, schema)
                grant_plans = tuple(
                    self._grant(grant, source, secrets[grant.id]) for grant in grants
                )
                plans[ref.id] = plans[ref.guid] = _schema_plan(dataset, schema, grant_plans)
        return DatasetPlan(
            dataset=dataset,
            # Registers need exit notices when a row leaves a scope, which do not exist yet.
            in_force=dataset.nature == "event",
            lanes=self._lanes,
            grants=tuple(grant.id for grant in grants),
            schemas=plans,
            systems=self._systems,
            jurisdictions=self._jurisdictions(dataset),
            sole_publisher=self._sole_publisher(dataset),
            token_key=self._keys(TOKEN_KEY_ID),
            id_key=self._keys(EVENT_ID_KEY_ID),
        )

    def _jurisdictions(self, dataset: Dataset) -> dict[str, frozenset[str]]:
        provider = self.version.organisation(dataset.provider)
        pairs = [(provider.id, provider.region)] if provider is not None else []
        pairs += [(publisher.organisation, publisher.region) for publisher in dataset.publishers]
        found: dict[str, frozenset[str]] = {}
        for organisation, region in pairs:
            code = self.table.normalise(region)
            found[organisation] = found.get(organisation, frozenset()) | (
                {code} if code is not None else frozenset()
            )
        return found

    def _sole_publisher(self, dataset: Dataset) -> str | None:
        """The one system that may write an own-client dataset; None if there is not just one."""
        found = [
            f"{row.organisation}/{row.id}" for row in publishing_systems(self.version, dataset)
        ]
        return found[0] if len(found) == 1 and found[0] in self._systems else None

    def _secret(self, grant: Grant, dataset: Dataset) -> bytes:
        """The grant's secret; b"" where nothing of the grant is keyed."""
        hashes = any(isinstance(mask, Hash) for mask in grant.items.values())
        keyed = hashes or grant.cloudevents or not _key_clear(grant, dataset)
        return self._keys(grant_key_id(grant)) if keyed else b""

    def _grant(self, grant: Grant, source: _Source, secret: bytes) -> GrantPlan:
        dataset, schema = source.dataset, source.schema
        region_item = dataset.regions.get(grant.scope.role)
        condition, broken = _condition(grant, schema)
        return GrantPlan(
            grant=grant,
            from_ms=_milliseconds(grant.valid_from),
            until_ms=_milliseconds(grant.valid_until),
            suspended_ms=_milliseconds(grant.suspended.since) if grant.suspended else None,
            blocked=self._blocked(grant, dataset, schema),
            projection=self._projection(grant, source, secret),
            region_item=region_item if region_item in schema.fields else None,
            scope=self._scope(grant),
            condition=condition,
            condition_broken=broken,
            key_clear=_key_clear(grant, dataset),
            secret=secret,
            cloudevents=(
                CloudEventsHeaders(dataset.id, dataset.provider, secret)
                if grant.cloudevents
                else None
            ),
        )

    def _blocked(self, grant: Grant, dataset: Dataset, schema: Schema) -> bool:
        """Whether the negative list or share class NOT_SHARED holds any item that would flow."""
        flowing = set(_delivered_items(grant))
        if any(not row.items or flowing & set(row.items) for row in self._negatives_of(dataset)):
            return True
        return dataset.share is ShareClass.NOT_SHARED or any(
            schema.items[item].share is ShareClass.NOT_SHARED
            for item in flowing
            if item in schema.items
        )

    def _negatives_of(self, dataset: Dataset) -> list[Negative]:
        return self._negatives.get(dataset.id, [])

    def _scope(self, grant: Grant) -> frozenset[str]:
        """Regions in scope; a code that the table does not know adds nothing."""
        if grant.requester_class is None:
            codes = (self.table.normalise(region) for region in grant.scope.regions)
            return frozenset(code for code in codes if code is not None)
        asked = grant.requester_class
        try:
            within = next(iter(self.table.scope_set([asked.within])))
            return self.table.territories(Level.named(asked.level), within, asked.also)
        except Rejected:
            return frozenset()

    def _projection(self, grant: Grant, source: _Source, secret: bytes) -> ProjectionPlan | None:
        """How records of `schema` become the grant's; None if the list does not say so soundly."""
        schema = source.schema
        found = next(
            (each for each in grant.projections if each.schema_id == source.schema_id), None
        )
        if found is None:
            return None
        try:
            delivered = project_schema(schema, grant.items, source.dataset.id)
            columns = tuple(
                (item, _masker(grant.items[item], schema, item, secret))
                for item in delivered.fields
            )
        except (Rejected, KeyError):
            return None
        registered = self._schemas.get(found.delivered_id)
        if registered is not None and registered != delivered:
            return None
        hashed = any(isinstance(grant.items[item], Hash) for item in delivered.fields)
        masks = tuple((item, str(grant.items[item])) for item in delivered.fields)
        # Of delivered schemas only the kinds of mask are told, so equal ones may mask otherwise.
        same = (found.delivered_id, delivered.digest, masks, secret if hashed else b"")
        return source.shared.setdefault(
            same, ProjectionPlan(found.delivered_id, delivered, columns)
        )


def _schema_plan(dataset: Dataset, schema: Schema, grants: tuple[GrantPlan, ...]) -> SchemaPlan:
    key, rules = _key_and_rules(dataset, schema)
    provider_item = dataset.regions.get(dataset.provider_role)
    births = _birth_items(dataset)
    operation = dataset.operation
    operation_item = operation.item if isinstance(operation, OperationItem) else None
    if operation_item is not None and operation_item not in schema.fields:
        operation_item = None
    return SchemaPlan(
        schema=schema,
        key=key,
        provider_item=provider_item if provider_item in schema.fields else None,
        secret=dataset.secrecy != "none" or schema.grade is Grade.CORE,
        subjects=tuple(item for item in dataset.subjects if item in schema.fields),
        births=tuple(item for item in births if item in schema.fields),
        tells_age=bool(births),
        operation_item=operation_item,
        rules=rules,
        grants=grants,
    )


def _birth_items(dataset: Dataset) -> tuple[str, ...]:
    """Items that tell ages: those the list names, and every subject that must be an id number.

    An identity number holds the birth date whether or not the list says so.
    """
    numbers = {
        item for rule in dataset.quality if isinstance(rule, IdNumberRule) for item in rule.items
    }
    held = (item for item in dataset.subjects if item in numbers)
    return tuple(dict.fromkeys((*dataset.birth_items, *held)))


def _key_and_rules(dataset: Dataset, schema: Schema) -> tuple[KeyRule | None, tuple[Rule, ...]]:
    """Key rule and quality rules; no key rule if any of what the dataset demands cannot be done."""
    for item in dataset.subjects:
        found = schema.fields.get(item)
        if found is not None and (found.avro, found.logical) != ("string", None):
            return None, ()
    try:
        rules = tuple(compile_rule(rule, schema) for rule in dataset.quality)
        return key_rule(schema.parsed, dataset.key), rules
    except Rejected:
        return None, ()


def _condition(grant: Grant, schema: Schema) -> tuple[Condition | None, bool]:
    """The compiled condition, and whether there is one that does not compile."""
    if grant.condition is None:
        return None, False
    try:
        return compile_condition(grant.condition, schema), False
    except Rejected:
        return None, True


def _masker(mask: Mask | str, schema: Schema, item: str, secret: bytes) -> Masker | None:
    if isinstance(mask, str):
        return None
    shape = inner(next(each.shape for each in schema.record.fields if each.name == item))
    return masker(mask, schema.fields[item], secret, lambda value: encode_shape(shape, value))


def _delivered_items(grant: Grant) -> list[str]:
    return [item for item, mask in grant.items.items() if not isinstance(mask, Drop)]


def _key_clear(grant: Grant, dataset: Dataset) -> bool:
    return all(grant.items.get(item) == "clear" for item in dataset.key)


def _milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch, rounded up."""
    return -((_EPOCH - moment) // _MILLISECOND)
