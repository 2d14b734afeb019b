"""Signed changes of the responsibility list, as topic control.lists carries them.

A record is RFC 8785 JSON `{"body": …, "key": key id, "signature": base64}` with an Ed25519
signature (RFC 8032) over the RFC 8785 form of `body`. A change that is too large for one record
goes in parts, which hold together by number, hashes and position. Only a change that leads from
the list held to the very hash it names is taken; everything else is refused and the last good
list stays. Signing and verifying are passed in, so nothing here knows a key.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shutong_core.domain.errors import Rejected
from shutong_core.domain.version import AnyRow, ListVersion, next_version, parse_row

PART_BYTES_MAX = 512 * 1024
PARTS_MAX = 1024
#: What a part holds beside its rows: numbers, hashes, key id, signature.
_ENVELOPE_BYTES = 2048
#: `previous` of the first version.
NO_PREVIOUS = "0" * 64
#: A snapshot is written after each version that this divides.
SNAPSHOT_EVERY = 1000
# Said in the signed bytes, so that a signature made for another purpose never fits.
_TYPE = "shutong-list-change-v1"

Verify = Callable[[str, bytes, bytes], bool]
"""(key id, signed bytes, signature) -> whether a trusted key of that id made the signature."""


class Signer(Protocol):
    """An Ed25519 key that signs."""

    @property
    def key_id(self) -> str:
        """Name under which readers find the public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over `data` (64 bytes)."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """One part (0-based `part` of `parts`) of the step from the list `previous` to version `n`.

    `previous` and `list_digest` are list hashes in hex; `effective_ms` is milliseconds since 1970.
    A `snapshot` repeats version `n` whole, for readers that hold nothing.
    """

    n: int
    part: int
    parts: int
    previous: str
    upserts: tuple[AnyRow, ...]
    removals: tuple[str, ...]
    list_digest: str
    effective_ms: int
    snapshot: bool = False

    def body(self) -> dict[str, Any]:
        """The signed part of the record, as JSON values."""
        return {
            "type": _TYPE,
            "n": self.n,
            "part": self.part,
            "parts": self.parts,
            "previous": self.previous,
            "upserts": [row.body() for row in self.upserts],
            "removals": list(self.removals),
            "list_digest": self.list_digest,
            "effective_ms": self.effective_ms,
            "snapshot": self.snapshot,
        }


def difference(
    previous: ListVersion | None, rows: Iterable[AnyRow]
) -> tuple[tuple[AnyRow, ...], tuple[str, ...]]:
    """Upserts and removals (by row id) that lead from `previous` to exactly `rows`."""
    wanted = {row.row_id: row for row in rows}
    held = previous.digests if previous else {}
    upserts = [row for row_id, row in sorted(wanted.items()) if held.get(row_id) != row.digest()]
    return tuple(upserts), tuple(sorted(set(held) - set(wanted)))


def make_change(
    previous: ListVersion | None,
    upserts: Sequence[AnyRow],
    removals: Sequence[str],
    effective_ms: int,
) -> tuple[ListVersion, tuple[Change, ...]]:
    """The next version, and the change to it in parts that each fit one record.

    Raises Rejected if a removal names no row, or a row is too large for a part.
    """
    if previous is not None:  # a clock that was set back must not make time run backwards
        effective_ms = max(effective_ms, previous.effective_ms)
    version = next_version(previous, upserts, removals, effective_ms)
    before = previous.digest.hex() if previous else NO_PREVIOUS
    whole = Change(version.number, 0, 1, before, (), (), version.digest.hex(), version.effective_ms)
    return version, _parts(whole, upserts, removals)


def make_snapshot(version: ListVersion) -> tuple[Change, ...]:
    """The whole of `version` in parts; its `previous` is its own hash."""
    digest = version.digest.hex()
    whole = Change(version.number, 0, 1, digest, (), (), digest, version.effective_ms, True)
    return _parts(whole, [version.rows[row_id] for row_id in sorted(version.rows)], ())


def _parts(whole: Change, upserts: Sequence[AnyRow], removals: Sequence[str]) -> tuple[Change, ...]:
    room = PART_BYTES_MAX - _ENVELOPE_BYTES
    groups: list[tuple[list[AnyRow], list[str]]] = [([], [])]
    used = 0

    def group_for(size: int, what: str) -> tuple[list[AnyRow], list[str]]:
        nonlocal used
        if size > room:
            raise Rejected(f"{what} is larger than {room} bytes")
        if used + size > room:
            groups.append(([], []))
            used = 0
        used += size
        return groups[-1]

    for row_id in sorted(removals):
        group_for(len(rfc8785.dumps(row_id)) + 1, row_id[:80])[1].append(row_id)
    for row in sorted(upserts, key=lambda one: one.row_id):
        group_for(len(rfc8785.dumps(row.body())) + 1, row.row_id)[0].append(row)
    if len(groups) > PARTS_MAX:
        raise Rejected(f"the change needs {len(groups)} parts, {PARTS_MAX} are allowed")
    return tuple(
        replace(whole, part=index, parts=len(groups), upserts=tuple(put), removals=tuple(gone))
        for index, (put, gone) in enumerate(groups)
    )


def encode_change(change: Change, signer: Signer) -> bytes:
    """The record of one part, signed. Raises Rejected if it exceeds PART_BYTES_MAX."""
    body = change.body()
    signature = signer.sign(rfc8785.dumps(body))
    record = rfc8785.dumps(
        {"body": body, "key": signer.key_id, "signature": base64.b64encode(signature).decode()}
    )
    if len(record) > PART_BYTES_MAX:
        raise Rejected(f"part {change.part} of change {change.n} has {len(record)} bytes")
    return record


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: str = Field(pattern=f"^{_TYPE}$")
    n: int = Field(ge=1)
    part: int = Field(ge=0)
    parts: int = Field(ge=1, le=PARTS_MAX)
    previous: str = Field(pattern=r"^[0-9a-f]{64}$")
    upserts: list[dict[str, Any]]
    removals: list[str]
    list_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    effective_ms: int = Field(ge=0)
    snapshot: bool


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    body: dict[str, Any]
    key: str = Field(max_length=200)
    signature: str = Field(max_length=88)  # 64 bytes in base64


def decode_change(data: bytes, verify: Verify) -> Change:
    """The part in one record. Raises Rejected unless it is canonical, signed and well-formed."""
    if len(data) > PART_BYTES_MAX:
        raise Rejected(f"a change record has {len(data)} bytes, {PART_BYTES_MAX} are allowed")
    try:
        document = json.loads(data, parse_constant=_no_constant)
        if rfc8785.dumps(document) != data:
            raise Rejected("a change record is not in RFC 8785 form")
        record = _Record.model_validate(document)
        signed = rfc8785.dumps(record.body)
        signature = base64.b64decode(record.signature, validate=True)
        if base64.b64encode(signature).decode() != record.signature:
            raise Rejected("the signature of a change is not in canonical base64")
        if not verify(record.key, signed, signature):
            raise Rejected(f"a change is not signed by a trusted key (key id {record.key!r})")
        body = _Body.model_validate(record.body)
        change = Change(
            n=body.n,
            part=body.part,
            parts=body.parts,
            previous=body.previous,
            upserts=tuple(parse_row(row) for row in body.upserts),
            removals=tuple(body.removals),
            list_digest=body.list_digest,
            effective_ms=body.effective_ms,
            snapshot=body.snapshot,
        )
        if rfc8785.dumps(change.body()) != signed:
            # Else a field that this release reads differently could pass unseen.
            raise Rejected(f"change {body.n} says a row in another form than this release does")
    except (ValidationError, ValueError, RecursionError) as error:
        raise Rejected(f"a change record cannot be read: {_short(error)}") from error
    return change


class Assembler:
    """Takes change records in topic order, keeps the newest good list.

    Not safe for use from several threads. A refused record changes nothing: `version` and the
    parts already waiting stay as they were, unless the last part shows that the whole change is
    false.
    """

    def __init__(self, verify: Verify, version: ListVersion | None = None) -> None:
        self._verify = verify
        self._version = version
        self._waiting: list[Change] = []

    @property
    def version(self) -> ListVersion | None:
        """The newest list that was complete and good."""
        return self._version

    @property
    def waiting(self) -> int:
        """Parts of an unfinished change that were taken."""
        return len(self._waiting)

    def add(self, data: bytes) -> ListVersion | None:
        """The new version if this record completes one, else None.

        Raises Rejected for what is unsigned, older, out of place or broken.
        """
        change = decode_change(data, self._verify)
        self._check_place(change)
        if change.part == 0:
            self._waiting = []
        self._waiting.append(change)
        if len(self._waiting) < change.parts:
            return None
        parts, self._waiting = self._waiting, []
        if change.snapshot and self._version is not None:
            return None  # repeats what is held: its hash was compared in _check_place
        self._version = _take(self._version, parts)
        return self._version

    def _check_place(self, change: Change) -> None:
        held = self._version
        number = held.number if held else 0
        if change.snapshot:
            known = held is None or (number, held.digest.hex()) == (change.n, change.list_digest)
            if not known or change.previous != change.list_digest or change.removals:
                raise Rejected(f"snapshot {change.n} is not of the list held, which is {number}")
        elif change.n != number + 1:
            raise Rejected(f"change {change.n} does not follow list {number}, which is held")
        elif change.previous != (held.digest.hex() if held else NO_PREVIOUS):
            raise Rejected(f"change {change.n} was made for another list {number} than is held")
        if held is not None and change.effective_ms < held.effective_ms:
            raise Rejected(f"change {change.n} takes effect before the list that is held")
        if change.part == 0:
            return
        same = ("n", "parts", "previous", "list_digest", "effective_ms", "snapshot")
        first = self._waiting[0] if self._waiting else None
        if (
            first is None
            or change.part != len(self._waiting)
            or any(getattr(first, name) != getattr(change, name) for name in same)
        ):
            raise Rejected(
                f"part {change.part} of change {change.n} does not follow part "
                f"{len(self._waiting) - 1}"
            )


def apply(previous: ListVersion | None, records: Iterable[bytes], verify: Verify) -> ListVersion:
    """The newest version after all `records`. Raises Rejected at the first that is wrong, and if
    they end in the middle of a change or make no list at all."""
    assembler = Assembler(verify, previous)
    for record in records:
        assembler.add(record)
    if assembler.waiting:
        raise Rejected(f"the change after {assembler.waiting} parts is not complete")
    if assembler.version is None:
        raise Rejected("there is no list")
    return assembler.version


def _take(held: ListVersion | None, parts: Sequence[Change]) -> ListVersion:
    first = parts[0]
    upserts = [row for part in parts for row in part.upserts]
    removals = [row_id for part in parts for row_id in part.removals]
    touched = [row.row_id for row in upserts] + removals
    if len(set(touched)) != len(touched):
        raise Rejected(f"change {first.n} touches a row twice")
    version = next_version(held, upserts, removals, first.effective_ms)
    if version.digest.hex() != first.list_digest:
        raise Rejected(f"change {first.n} does not lead to the list hash that it names")
    return replace(version, number=first.n)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _short(error: Exception) -> str:
    """What went wrong without the input, which may hold anything."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
    return type(error).__name__
