"""The plan of a dataset, from the rows of a list version that bear on it.

A row that contradicts itself never stops the others: the plan marks it and the decision fails
closed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

from shutong_broker.policy.condition import Condition, compile_condition
from shutong_broker.policy.masks import Masker, masker
from shutong_broker.policy.plan import DatasetPlan, GrantPlan, Keys, ProjectionPlan, SchemaPlan
from shutong_core.domain.catalogue import (
    Dataset,
    Grade,
    IdNumberRule,
    OperationItem,
    ShareClass,
)
from shutong_core.domain.checks_context import publishing_organisations
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Drop, Grant, Hash, Mask, Negative
from shutong_core.domain.organisations import System
from shutong_core.domain.quality import Rule, compile_rule
from shutong_core.domain.regions import Level, RegionTable
from shutong_core.domain.steps import Steps
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
#: Conditions and projections kept from list to list.
REMEMBERED_MAX = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def grant_key_id(grant: Grant) -> str:
    """The id of the secret behind a grant's hash masks, delivered keys and ce_ids."""
    return f"grant/{grant.id}/{grant.key_epoch}"


@dataclass(frozen=True, slots=True)
class _Source:
    """One schema version of a dataset, and the projections its grants share."""

    dataset: Dataset
    schema_id: int
    schema: Schema
    shared: dict[Any, ProjectionPlan] = field(default_factory=dict)


class Planner:
    """Makes plans from one list version."""

    def __init__(
        self, version: ListVersion, schemas: Mapping[int, Schema], table: RegionTable, keys: Keys
    ) -> None:
        self.version = version
        self.table = table
        self._schemas = schemas
        self._keys = keys
        self._lanes = version.bus.lanes
        self._systems_of: dict[str, list[str]] = {}
        for row in version.of(System):
            if isinstance(row, System):
                name = f"{row.organisation}/{row.id}"
                self._systems_of.setdefault(row.organisation, []).append(name)
        self._systems = frozenset(
            name
            for organisation, names in self._systems_of.items()
            if version.organisation(organisation) is not None
            for name in names
        )
        self._negatives: dict[str, list[Negative]] = {}
        for row in version.of(Negative):
            if isinstance(row, Negative):
                self._negatives.setdefault(row.dataset, []).append(row)

    def inputs(self, dataset: Dataset) -> tuple[Any, ...]:
        """All that the plan of `dataset` is made from: equal inputs make equal plans.

        Keys are not told: a key id has one key for good.
        """
        digests = self.version.digests
        grants = self.version.grants_by_dataset.get(dataset.id, ())
        rows = (dataset, *grants, *self._negatives_of(dataset))
        named = [ref.id for ref in dataset.schemas]
        named += [each.delivered_id for grant in grants for each in grant.projections]
        found = map(self._schemas.get, named)
        return (
            tuple(digests[row.row_id] for row in rows),
            tuple(schema.digest if schema is not None else None for schema in found),
            self._jurisdictions(dataset),
            self._sole_publisher(dataset),
            self._systems,
            self._lanes,
        )

    def planning(self, dataset: Dataset) -> Steps[DatasetPlan]:
        """The plan of `dataset`, one grant a step. Raises what `keys` raises."""
        grants = self.version.grants_by_dataset.get(dataset.id, ())
        secrets = {grant.id: self._secret(grant, dataset) for grant in grants}
        plans: dict[int | str, SchemaPlan] = {}
        for ref in dataset.schemas:
            schema = self._schemas.get(ref.id)
            # A schema that is not the one the list means is as good as unknown.
            if schema is not None and schema.digest.hex() == ref.digest:
                source = _Source(dataset, ref.id, schema)
                grant_plans = []
                for grant in grants:
                    grant_plans.append(self._grant(grant, source, secrets[grant.id]))
                    yield
                plans[ref.id] = plans[ref.guid] = _schema_plan(dataset, schema, tuple(grant_plans))
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
        """The one system that may write an own-client dataset; None if there is not just one.

        A system of an organisation that is not in the list counts as well, and may not write.
        """
        found = [
            name
            for organisation in publishing_organisations(dataset)
            for name in self._systems_of.get(organisation, ())
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
        registered = self._schemas.get(found.delivered_id)
        try:
            wanted = _delivered(schema, tuple(grant.items.items()), source.dataset.id)
            delivered = registered or wanted
            if delivered != wanted:
                return None
            columns = tuple(
                (item, _masker(grant.items[item], schema, item, secret))
                for item in delivered.fields
            )
        except (Rejected, KeyError):
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
        return _compiled(grant.condition, schema), False
    except Rejected:
        return None, True


# Many grants share a condition or a projection, and most stay from one list to the next.


@lru_cache(maxsize=REMEMBERED_MAX)
def _compiled(condition: str, schema: Schema) -> Condition:
    return compile_condition(condition, schema)


@lru_cache(maxsize=REMEMBERED_MAX)
def _delivered(
    schema: Schema, items: tuple[tuple[str, Literal["clear"] | Mask], ...], dataset: str
) -> Schema:
    return project_schema(schema, dict(items), dataset)


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
