"""One version of the responsibility list: what is in force, found by index.

Signed changes turn version n into n+1; nothing here reads Kafka or checks signatures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Bus, Duty, Grant, Negative, Purpose
from shutong_core.domain.organisations import Organisation, System
from shutong_core.domain.rows import Row

AnyRow = Organisation | System | Dataset | Grant | Duty | Purpose | Negative | Bus
ROW_TYPES: Mapping[str, type[AnyRow]] = {
    "organisation": Organisation,
    "system": System,
    "dataset": Dataset,
    "grant": Grant,
    "duty": Duty,
    "purpose": Purpose,
    "negative": Negative,
    "bus": Bus,
}
_BODY = TypeAdapter(dict[str, Any])


def parse_row(body: Mapping[str, Any]) -> AnyRow:
    """The row in `body` (JSON values). Raises Rejected with the first field that is wrong."""
    kind = body.get("kind")
    model = ROW_TYPES.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise Rejected(f"row of unknown kind {kind!r}")
    try:
        return model.model_validate_json(_BODY.dump_json(dict(body)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Rejected(f"row {kind}/{body.get('id')!s}: {where}: {first['msg']}") from error


@dataclass(frozen=True, slots=True)
class ListVersion:
    """What is in force: version number, hash, rows by row id, indexes over them.

    `digest` is SHA-256 over the sorted (row id, row digest) pairs, see `list_digest`.
    """

    number: int
    digest: bytes
    effective_ms: int
    rows: Mapping[str, AnyRow]
    digests: Mapping[str, bytes]
    grants_by_dataset: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)

    def organisation(self, uscc: str) -> Organisation | None:
        """The organisation with that USCC, if it is in the list."""
        row = self.rows.get(f"organisation/{uscc}")
        return row if isinstance(row, Organisation) else None

    def system(self, system_id: str) -> System | None:
        """The system with that id, if it is in the list."""
        row = self.rows.get(f"system/{system_id}")
        return row if isinstance(row, System) else None

    def dataset(self, dataset_id: str) -> Dataset | None:
        """The dataset with that id, if it is in the list."""
        row = self.rows.get(f"dataset/{dataset_id}")
        return row if isinstance(row, Dataset) else None

    def grant(self, grant_id: str) -> Grant | None:
        """The grant with that id, if it is in the list."""
        row = self.rows.get(f"grant/{grant_id}")
        return row if isinstance(row, Grant) else None

    def of(self, kind: type[Row]) -> tuple[AnyRow, ...]:
        """All rows of one type, by id."""
        found = [row for row in self.rows.values() if type(row) is kind]
        return tuple(sorted(found, key=lambda row: row.id))

    @property
    def bus(self) -> Bus:
        """The node's own row. Raises Rejected if the list has none."""
        row = self.rows.get("bus/bus")
        if not isinstance(row, Bus):
            raise Rejected("the list has no row bus/bus")
        return row


def list_digest(digests: Mapping[str, bytes]) -> bytes:
    """SHA-256 over sorted u32 len(row id) ‖ row id ‖ row digest (docs/formats/lists.md)."""
    whole = hashlib.sha256()
    for row_id in sorted(digests):
        name = row_id.encode()
        whole.update(len(name).to_bytes(4, "big") + name + digests[row_id])
    return whole.digest()


def next_version(
    previous: ListVersion | None,
    upserts: Iterable[AnyRow],
    removals: Iterable[str],
    effective_ms: int,
) -> ListVersion:
    """The version after `previous` (None: before the first) with rows put and taken away.

    Raises Rejected if a removal names a row that is not there.
    """
    rows = dict(previous.rows) if previous else {}
    digests = dict(previous.digests) if previous else {}
    for row_id in removals:
        if row_id not in rows:
            raise Rejected(f"cannot remove {row_id}: it is not in the list")
        del rows[row_id], digests[row_id]
    for row in upserts:
        rows[row.row_id] = row
        digests[row.row_id] = row.digest()
    by_dataset: dict[str, list[Grant]] = {}
    for row in rows.values():
        if isinstance(row, Grant):
            by_dataset.setdefault(row.dataset, []).append(row)
    return ListVersion(
        number=previous.number + 1 if previous else 1,
        digest=list_digest(digests),
        effective_ms=effective_ms,
        rows=rows,
        digests=digests,
        grants_by_dataset={
            dataset: tuple(sorted(found, key=lambda grant: grant.id))
            for dataset, found in by_dataset.items()
        },
    )
