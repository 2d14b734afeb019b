"""The newest checkpoint of each tree, from the records of topic `checkpoints` in their order.

A checkpoint counts only if a trusted auditor key signed it for that tree of this bus; one that
steps back or contradicts an earlier one never counts, and is told of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from shutong_core.audit.checkpoint import Checkpoint, TreeName, parse_checkpoint, parse_origin
from shutong_core.audit.rotation import rotation_key
from shutong_core.audit.signednote import SignedNote, parse_note, verified_by
from shutong_core.domain.errors import Rejected

#: More lanes than a bus can have: numbers above are nobody's tree.
_NUMBER_MAX = 1023


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A checkpoint that counts; `at_ms` is when Kafka appended it."""

    checkpoint: Checkpoint
    note: SignedNote
    at_ms: int


class TreeHeads:
    """Feed it the topic's records. Memory: one checkpoint a tree."""

    def __init__(self, cluster: str, publics: Callable[[], Iterable[bytes]]) -> None:
        """`publics`: the auditor's public keys that are trusted now (32 bytes each)."""
        self._cluster = cluster
        self._publics = publics
        self._heads: dict[TreeName, TreeHead] = {}
        self._faults: dict[TreeName, str] = {}
        #: Records that are no checkpoint of this bus by a trusted key.
        self.refused = 0

    def add(self, key: bytes | None, value: bytes | None, at_ms: int) -> TreeHead | None:
        """Takes the next record; the head it makes, None if it does not count."""
        origin = (key or b"").decode("utf-8", "replace")
        if key == rotation_key(self._cluster):
            return None
        try:
            tree, found = self._checked(origin, value or b"")
        except Rejected:
            self.refused += 1
            return None
        before = self._heads.get(tree)
        if before is not None:
            fault = _contradiction(before.checkpoint, found[0])
            if fault is not None:
                self._faults[tree] = fault
                return None
        head = self._heads[tree] = TreeHead(*found, at_ms)
        return head

    def newest(self, tree: TreeName) -> TreeHead | None:
        """The tree's newest checkpoint; None if none was read."""
        return self._heads.get(tree)

    def fault(self, tree: TreeName) -> str | None:
        """What a signed checkpoint of this tree said against an earlier one; None if nothing."""
        return self._faults.get(tree)

    @property
    def heads(self) -> Mapping[TreeName, TreeHead]:
        """All of them."""
        return self._heads

    def _checked(self, origin: str, value: bytes) -> tuple[TreeName, tuple[Checkpoint, SignedNote]]:
        tree = parse_origin(origin)
        if tree.cluster != self._cluster or tree.number > _NUMBER_MAX:
            raise Rejected("checkpoint: of another bus")
        note = parse_note(value)
        checkpoint = parse_checkpoint(note.text)
        if checkpoint.origin != origin:
            raise Rejected("checkpoint: stands under the key of another tree")
        if not verified_by(note, [tree.key(public) for public in self._publics()]):
            raise Rejected("checkpoint: no trusted auditor signed it")
        return tree, (checkpoint, note)


def _contradiction(before: Checkpoint, after: Checkpoint) -> str | None:
    if after.size < before.size:
        return f"a checkpoint of {after.size} leaves follows one of {before.size}"
    if after.size == before.size and after.root != before.root:
        return f"two checkpoints of {after.size} leaves have different roots"
    return None
