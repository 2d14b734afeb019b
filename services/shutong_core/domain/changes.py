"""Signed changes of the responsibility list: made by control, taken one after the other.

A change that is too large for one record goes in parts, which hold together by number, hashes and
position. Only a change that leads from the list held to the very hash it names is taken;
everything else is refused and the last good list stays. The records themselves: `changerecords`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from shutong_core.domain.additions import only_adds
from shutong_core.domain.canonical import canonical
from shutong_core.domain.changerecords import (
    PART_BYTES_MAX,
    PARTS_MAX,
    Change,
    Signer,
    Verify,
    decode_change,
    decoding,
    encode_change,
)
from shutong_core.domain.errors import Rejected
from shutong_core.domain.steps import Steps, run
from shutong_core.domain.version import AnyRow, ListVersion, advancing, next_version

__all__ = [
    "NO_PREVIOUS",
    "PARTS_MAX",
    "PART_BYTES_MAX",
    "SNAPSHOT_EVERY",
    "Assembler",
    "Change",
    "Signer",
    "Verify",
    "apply",
    "decode_change",
    "difference",
    "encode_change",
    "make_change",
    "make_snapshot",
]

#: What a part holds beside its rows: numbers, hashes, key id, signature.
_ENVELOPE_BYTES = 2048
#: `previous` of the first version.
NO_PREVIOUS = "0" * 64
#: A snapshot is written after each version that this divides.
SNAPSHOT_EVERY = 1000


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
    whole = Change(
        n=version.number,
        part=0,
        parts=1,
        previous=before,
        upserts=(),
        removals=(),
        list_digest=version.digest.hex(),
        effective_ms=version.effective_ms,
        adds=previous is not None and run(only_adds(previous, version)),
    )
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
        group_for(len(canonical(row_id)) + 1, row_id[:80])[1].append(row_id)
    for row in sorted(upserts, key=lambda one: one.row_id):
        group_for(len(canonical(row.body())) + 1, row.row_id)[0].append(row)
    if len(groups) > PARTS_MAX:
        raise Rejected(f"the change needs {len(groups)} parts, {PARTS_MAX} are allowed")
    return tuple(
        replace(whole, part=index, parts=len(groups), upserts=tuple(put), removals=tuple(gone))
        for index, (put, gone) in enumerate(groups)
    )


class Assembler:
    """Takes change records in topic order, keeps the newest good list.

    Not safe for use from several threads. A refused record changes nothing: `version` and the
    parts already waiting stay as they were, unless the last part shows that the whole change is
    false.
    """

    def __init__(
        self,
        verify: Verify,
        version: ListVersion | None = None,
        known: ListVersion | None = None,
    ) -> None:
        """`version` is held already; rows of `known` are used again where they are the same."""
        self._verify = verify
        self._version = version
        self._known = known
        self._waiting: list[Change] = []
        self._adds_since = 0

    @property
    def version(self) -> ListVersion | None:
        """The newest list that was complete and good."""
        return self._version

    @property
    def waiting(self) -> int:
        """Parts of an unfinished change that were taken."""
        return len(self._waiting)

    @property
    def adds_since(self) -> int:
        """Number of the oldest list to which `version` only adds; its own where it does more."""
        return self._adds_since

    @property
    def additions_missing(self) -> int:
        """Parts that an unfinished change still needs, if it says that it only adds; else 0."""
        waiting = self._waiting
        return waiting[0].parts - len(waiting) if waiting and waiting[0].adds else 0

    def add(self, data: bytes) -> ListVersion | None:
        """The new version if this record completes one, else None.

        Raises Rejected for what is unsigned, older, out of place or broken.
        """
        return run(self.adding(data))

    def adding(self, data: bytes) -> Steps[ListVersion | None]:
        """`add` in steps. Add nothing else before they are done."""
        change = yield from decoding(data, self._verify, self._version or self._known)
        self._check_place(change)
        if change.part == 0:
            self._waiting = []
        self._waiting.append(change)
        if len(self._waiting) < change.parts:
            return None
        parts, self._waiting = self._waiting, []
        if change.snapshot and self._version is not None:
            return None  # repeats what is held: its hash was compared in _check_place
        held = self._version
        version = yield from _taking(held, parts)
        if change.adds and not (held and (yield from only_adds(held, version))):
            raise Rejected(f"change {change.n} says that it only adds, and does more")
        self._version = version
        if not change.adds:
            self._adds_since = version.number
        self._known = None
        return self._version

    def _check_place(self, change: Change) -> None:
        held = self._version
        number = held.number if held else 0
        if change.snapshot:
            if change.adds:
                raise Rejected(f"snapshot {change.n} says that it adds")
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
        same = ("n", "parts", "previous", "list_digest", "effective_ms", "snapshot", "adds")
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


def _taking(held: ListVersion | None, parts: Sequence[Change]) -> Steps[ListVersion]:
    first = parts[0]
    upserts: dict[str, tuple[AnyRow, bytes]] = {}
    removals: set[str] = set()
    for part in parts:
        digests = part.digests or [row.digest() for row in part.upserts]
        upserts.update(
            (row.row_id, (row, digest)) for row, digest in zip(part.upserts, digests, strict=True)
        )
        removals.update(part.removals)
        yield
    touched = sum(len(part.upserts) + len(part.removals) for part in parts)
    if len(upserts) + len(removals) != touched or not removals.isdisjoint(upserts):
        raise Rejected(f"change {first.n} touches a row twice")
    version = yield from advancing(held, upserts, removals, first.effective_ms)
    if version.digest.hex() != first.list_digest:
        raise Rejected(f"change {first.n} does not lead to the list hash that it names")
    return replace(version, number=first.n)
