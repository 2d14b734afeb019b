"""Judges signed checkpoints by a trust bundle, wherever they are shown, and keeps what they say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shutong_auditor.treereader import TreeReader
from shutong_core.audit.checkpoint import TreeName, parse_origin
from shutong_core.audit.knownheads import Known, KnownHeads
from shutong_core.audit.rotation import parse_rotation, rotation_key
from shutong_core.audit.signednote import SignedNote, parse_note
from shutong_core.audit.trust import TrustBundle
from shutong_core.audit.verdict import Finding, Statement
from shutong_core.domain.errors import Rejected

#: Key and value of a record of topic `checkpoints`.
Stored = tuple[bytes | None, bytes | None]


class SignedHeads:
    """The checkpoints of all trees of a bus, for `TreeCheck`."""

    def __init__(self, trust: TrustBundle) -> None:
        """`trust`: already led through the rotations that `rotations_of` finds."""
        self.trust = trust
        self.known = KnownHeads()
        #: Records of topic `checkpoints` that were accepted.
        self.accepted = 0

    def elsewhere(self, notes: Iterable[SignedNote]) -> Iterator[Finding]:
        """Takes checkpoints that somebody else kept. Raises Rejected for one not to be trusted."""
        for note in notes:
            _, found = self._add(parse_origin(note.text.partition("\n")[0]), note, "known")
            yield from found

    def topic(self, records: Iterable[Stored]) -> Iterator[Finding]:
        """Takes all records of topic `checkpoints`, in order."""
        last: dict[TreeName, int] = {}
        for number, (key, value) in enumerate(records):
            if key == rotation_key(self.trust.cluster):
                yield from self._rotation(number, value or b"")
                continue
            origin = (key or b"").decode("utf-8", "replace")
            try:
                tree = parse_origin(origin)
                size, found = self._add(tree, parse_note(value or b""), "checkpoints")
            except Rejected as error:
                text = Statement(
                    f"checkpoints 第 {number} 条不是可信的检查点：{error}",
                    f"record {number} of checkpoints is no checkpoint to be trusted: {error}",
                )
                yield Finding("checkpoint", text)
                continue
            yield from found
            self.accepted += 1
            if size < last.get(tree, 0):
                text = Statement(
                    f"{tree.topic}/{tree.number} 的检查点由 {last[tree]} 条退回 {size} 条",
                    f"checkpoints of {tree.topic}/{tree.number} step back from {last[tree]} to"
                    f" {size} leaves",
                )
                yield Finding("checkpoint-back", text)
            last[tree] = max(size, last.get(tree, 0))

    def stored(self, tree: TreeName, reader: TreeReader) -> Iterator[Finding]:
        """Takes the checkpoint beside a tree's files."""
        name = f"trees/{tree.topic}/{tree.number}"
        try:
            note = reader.checkpoint()
            if note is None:
                raise Rejected("there is none")
            _, found = self._add(tree, note, name)
            yield from found
        except Rejected as error:
            text = Statement(
                f"{name}/checkpoint 不可信：{error}",
                f"{name}/checkpoint is not to be trusted: {error}",
            )
            yield Finding("checkpoint", text, lane=tree.number)

    def _add(self, tree: TreeName, note: SignedNote, whence: str) -> tuple[int, list[Finding]]:
        checkpoint = self.trust.accept(note, tree)
        finding = self.known.add(tree, Known(checkpoint, whence))
        return checkpoint.size, [] if finding is None else [finding]

    def _rotation(self, number: int, value: bytes) -> Iterator[Finding]:
        try:
            old, _ = parse_rotation(value, self.trust.cluster)
            if old not in self.trust.auditor:
                raise Rejected("rotation: the old key is not trusted")
        except Rejected as error:
            text = Statement(
                f"checkpoints 第 {number} 条的密钥轮换不成立：{error}",
                f"record {number} of checkpoints rotates no key: {error}",
            )
            yield Finding("rotation", text)


def rotations_of(records: Iterable[Stored], cluster: str) -> list[bytes]:
    """The bus's rotation records among those of topic `checkpoints`, for `TrustBundle.rotated`."""
    wanted = rotation_key(cluster)
    return [value or b"" for key, value in records if key == wanted]
