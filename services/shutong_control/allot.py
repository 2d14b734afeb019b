"""Gives a draft list its schema ids: registers dataset schemas, then what each grant delivers.

Pure: the draft, the texts of its schema files and the registry in, complete rows and the new
registrations out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shutong_core.domain.catalogue import Dataset, SchemaRef
from shutong_core.domain.errors import Rejected
from shutong_core.domain.findings import Finding
from shutong_core.domain.grants import Grant, Projection
from shutong_core.domain.listfile import DraftList
from shutong_core.domain.version import AnyRow
from shutong_core.wire.compat import full_transitive
from shutong_core.wire.projection import project_schema
from shutong_core.wire.schemarecords import Registration, Registry
from shutong_core.wire.schemas import Schema, parse_schema_text
from shutong_core.wire.topics import Topics


@dataclass(frozen=True, slots=True)
class Allotted:
    """Rows with ids filled in, and what must be written to control.schemas before them."""

    rows: tuple[AnyRow, ...]
    registrations: tuple[Registration, ...]


def allot(
    draft: DraftList, texts: Mapping[str, bytes], registry: Registry, topics: Topics
) -> Allotted:
    """Register everything `draft` needs; `texts` are schema files by the path the draft gives.

    `registry` is extended. Raises ListRefused naming every schema or projection that cannot be.
    """
    making = _Allotting(draft, texts, registry, topics)
    for row in draft.rows:
        if isinstance(row, Dataset):
            making.dataset(row)
    for row in draft.rows:
        if isinstance(row, Grant):
            making.grant(row)
    draft.refuse_if(making.findings)
    return Allotted(draft.build_rows(making.refs, making.projections), tuple(making.registrations))


class _Allotting:
    def __init__(
        self, draft: DraftList, texts: Mapping[str, bytes], registry: Registry, topics: Topics
    ) -> None:
        self._draft = draft
        self._texts = texts
        self._registry = registry
        self._topics = topics
        self._schemas: dict[str, list[tuple[int, Schema]]] = {}
        self.refs: dict[str, list[SchemaRef]] = {}
        self.projections: dict[str, list[Projection]] = {}
        self.registrations: list[Registration] = []
        self.findings: list[Finding] = []

    def dataset(self, dataset: Dataset) -> None:
        """Register the schema versions of one dataset, each compatible with all before it."""
        subject = f"{self._topics.inbound(dataset.id)}-value"
        for index, path in enumerate(self._draft.schema_files[dataset.id]):
            try:
                schema = parse_schema_text(self._texts[path])
            except Rejected as error:
                self._note(dataset.row_id, ("schema_files", index), f"模式 {path}", str(error))
                continue
            if not self._compatible(dataset, index, subject, schema):
                continue
            registration = self._register(subject, schema)
            self._schemas.setdefault(dataset.id, []).append((registration.id, schema))
            self.refs.setdefault(dataset.id, []).append(
                SchemaRef(
                    version=registration.version,
                    id=registration.id,
                    guid=registration.guid,
                    digest=schema.digest.hex(),
                )
            )

    def _compatible(self, dataset: Dataset, index: int, subject: str, schema: Schema) -> bool:
        earlier = [each.schema for each in self._registry.versions(subject)]
        if schema in earlier:
            return True
        found = full_transitive(schema, earlier)
        if found:
            why = "; ".join(str(each) for each in found[:3])
            self._note(dataset.row_id, ("schema_files", index), "与已发布的版本不兼容", why)
        return not found

    def grant(self, grant: Grant) -> None:
        """Register what records of each schema version become for one grant."""
        subject = f"{self._topics.delivery(grant.id)}-value"
        for schema_id, schema in self._schemas.get(grant.dataset, ()):
            try:
                delivered = project_schema(schema, grant.items, grant.dataset)
            except Rejected as error:
                self._note(grant.row_id, ("items",), "许可的信息项无法投放", str(error))
                continue
            registration = self._register(subject, delivered)
            self.projections.setdefault(grant.id, []).append(
                Projection(
                    schema_id=schema_id, delivered_id=registration.id, guid=registration.guid
                )
            )
        if grant.dataset not in self._draft.schema_files:
            self._note(grant.row_id, ("dataset",), "数据资源未登记", "no such dataset in this list")

    def _register(self, subject: str, schema: Schema) -> Registration:
        registration, new = self._registry.allot(subject, schema)
        if new:
            self.registrations.append(registration)
        return registration

    def _note(self, row_id: str, path: tuple[str | int, ...], zh: str, en: str) -> None:
        self.findings.append(
            Finding(
                "schema",
                row_id,
                path,
                zh,
                en,
                "按英文说明修改模式或许可后重新发布",
                "mend the schema or the grant as said, then publish again",
            )
        )
