"""One version of the responsibility list: what is in force, found by index.

Signed changes turn version n into n+1; nothing here reads Kafka or checks signatures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Bus, Duty, Grant, Negative, Purpose
from shutong_core.domain.organisations import Organisation, System
from shutong_core.domain.rows import Row
from shutong_core.domain.steps import Steps, T, run

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
#: Rows that one step of `advancing` goes through: about a millisecond.
ROWS_A_STEP = 1024


def parse_row(body: Mapping[str, Any]) -> AnyRow:
    """The row in `body` (JSON values). Raises Rejected with the first field that is wrong."""
    return parse_row_json(body, _BODY.dump_json(dict(body)))


def parse_row_json(body: Mapping[str, Any], text: bytes) -> AnyRow:
    """The row in `text`, which `body` was read from. Raises Rejected as `parse_row`."""
    kind = body.get("kind")
    model = ROW_TYPES.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise Rejected(f"row of unknown kind {kind!r}")
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Rejected(f"row {kind}/{body.get('id')!s}: {where}: {first['msg']}") from error


@dataclass(frozen=True, slots=True)
class ListVersion:
    """What is in force: version number, hash, rows by row id, indexes over them.

    `digest` is SHA-256 over the sorted (row id, row digest) pairs, see `list_digest`. A row that
    did not change is the same object in the next version.
    """

    number: int
    digest: bytes
    effective_ms: int
    rows: Mapping[str, AnyRow]
    digests: Mapping[str, bytes]
    grants_by_dataset: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    # Rows by kind, once somebody asked for them; the next version takes over what did not change.
    _by_kind: dict[str, tuple[AnyRow, ...]] = field(default_factory=dict, repr=False, compare=False)

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
        name = kind.model_fields["kind"].default
        known = self._by_kind.get(name)
        if known is None:
            found = [row for row in self.rows.values() if type(row) is kind]
            known = self._by_kind[name] = tuple(sorted(found, key=_by_id))
        return known

    @property
    def bus(self) -> Bus:
        """The node's own row. Raises Rejected if the list has none."""
        row = self.rows.get("bus/bus")
        if not isinstance(row, Bus):
            raise Rejected("the list has no row bus/bus")
        return row


def list_digest(digests: Mapping[str, bytes]) -> bytes:
    """SHA-256 over sorted u32 len(row id) ‖ row id ‖ row digest (docs/formats/lists.md)."""
    return run(_digesting(digests))


def next_version(
    previous: ListVersion | None,
    upserts: Iterable[AnyRow],
    removals: Iterable[str],
    effective_ms: int,
) -> ListVersion:
    """The version after `previous` (None: before the first) with rows put and taken away.

    Raises Rejected if a removal names a row that is not there.
    """
    put = {row.row_id: (row, row.digest()) for row in upserts}
    return run(advancing(previous, put, removals, effective_ms))


def advancing(
    previous: ListVersion | None,
    upserts: Mapping[str, tuple[AnyRow, bytes]],
    removals: Iterable[str],
    effective_ms: int,
) -> Steps[ListVersion]:
    """`next_version` in steps of bounded work; `upserts` gives row and row digest by row id."""
    rows = dict(previous.rows) if previous else {}
    digests = dict(previous.digests) if previous else {}
    gone = []
    for row_id in removals:
        if row_id not in rows:
            raise Rejected(f"cannot remove {row_id}: it is not in the list")
        gone.append(rows.pop(row_id))
        del digests[row_id]
    yield
    for some in _chunks(upserts):
        for row_id in some:
            if row_id in rows:
                gone.append(rows[row_id])
            rows[row_id], digests[row_id] = upserts[row_id]
        yield
    put = [row for row, _ in upserts.values()]
    by_dataset = yield from _grants_after(previous, put, gone)
    touched = {row.kind for row in put} | {row.kind for row in gone}
    kept = previous._by_kind if previous else {}
    return ListVersion(
        number=previous.number + 1 if previous else 1,
        digest=(yield from _digesting(digests)),
        effective_ms=effective_ms,
        rows=rows,
        digests=digests,
        grants_by_dataset=by_dataset,
        _by_kind={kind: found for kind, found in kept.items() if kind not in touched},
    )


def _digesting(digests: Mapping[str, bytes]) -> Steps[bytes]:
    whole = hashlib.sha256()
    for some in _chunks(sorted(digests)):
        for row_id in some:
            name = row_id.encode()
            whole.update(len(name).to_bytes(4, "big") + name + digests[row_id])
        yield
    return whole.digest()


def _grants_after(
    previous: ListVersion | None, put: Sequence[AnyRow], gone: Sequence[AnyRow]
) -> Steps[dict[str, tuple[Grant, ...]]]:
    """Grants by dataset, sorted anew only for the datasets whose grants changed."""
    found = dict(previous.grants_by_dataset) if previous else {}
    changed: dict[str, dict[str, Grant]] = {}
    for rows, leaves in ((gone, True), (put, False)):
        for some in _chunks(rows):
            for grant in (row for row in some if isinstance(row, Grant)):
                of = changed.get(grant.dataset)
                if of is None:
                    of = {each.id: each for each in found.get(grant.dataset, ())}
                    changed[grant.dataset] = of
                if leaves:
                    of.pop(grant.id, None)
                else:
                    of[grant.id] = grant
            yield
    for datasets in _chunks(changed):
        for dataset in datasets:
            found[dataset] = tuple(sorted(changed[dataset].values(), key=_by_id))
        yield
    return {dataset: grants for dataset, grants in found.items() if grants}


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """`items` in lists of `ROWS_A_STEP`."""
    left = iter(items)
    while some := list(islice(left, ROWS_A_STEP)):
        yield some


def _by_id(row: AnyRow) -> str:
    return row.id
