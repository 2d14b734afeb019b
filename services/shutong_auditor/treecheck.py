"""Holds one tree against what was signed of it and against its stored files, leaf by leaf.

A leaf that is at hand is computed; what is past its term, or not computed at this level, is taken
from the stored entries, which the signed roots then prove.
"""

from __future__ import annotations

from collections.abc import Iterator

from shutong_auditor.tilecheck import tile_findings
from shutong_auditor.treereader import TreeReader
from shutong_core.audit.body import Body
from shutong_core.audit.checkpoint import TreeName, parse_checkpoint
from shutong_core.audit.knownheads import KnownHeads
from shutong_core.audit.merkle import leaf_hash
from shutong_core.audit.rowtree import block_leaf, row_root, split_block_leaf
from shutong_core.audit.tiles import TILE_WIDTH
from shutong_core.audit.verdict import Finding, Statement
from shutong_core.domain.errors import Rejected


class TreeCheck:
    """Feed it one tree's leaves in order, then `finish`. Memory: a hash for each stored leaf."""

    def __init__(self, tree: TreeName, heads: KnownHeads, reader: TreeReader | None) -> None:
        self._tree = tree
        self._reader = reader
        self._stored = _stored_size(reader)
        self._bundle: tuple[int, tuple[bytes, ...]] = (-1, ())
        self._leaves: list[bytes] = []  # as many as are stored, up to the first unknown one
        self.watch = heads.watch(tree)

    @property
    def compared(self) -> bool:
        """Whether there is anything to hold the next leaf against."""
        size = self.watch.size
        return not self.watch.blind and (size < self._stored or size < self.watch.largest)

    def skip(self, leaves: int) -> Iterator[Finding]:
        """The first `leaves` are past their term: they are taken from the stored entries."""
        for index in range(min(leaves, self._stored)):
            entry = self._entry(index)
            if entry is None:
                break
            yield from self._add(leaf_hash(entry))
        while self.watch.size < min(leaves, self.watch.largest + 1):
            yield from self._add(None)

    def skip_to(self, leaf: bytes) -> Iterator[Finding]:
        """As `skip`, where only the first leaf that is at hand says how many there were before."""
        place = next((n for n in range(self._stored) if self._entry(n) == leaf), None)
        if place is not None:
            yield from self.skip(place)
        elif self._stored:
            text = Statement(
                "保存的第一条不在已签名的树中", "the first record kept is not in the signed tree"
            )
            yield Finding("missing", text, lane=self._tree.number)
        else:
            yield from self._add(None)

    def block(self, header: bytes, body: Body | None, *, compute: bool) -> Iterator[Finding]:
        """The next leaf is a block's; `compute`: its row root, where the body is there."""
        if not self.compared:
            yield from self._add(None)
            return
        root = None if body is None or not compute else row_root(body)
        if root is None:
            root = self._stored_root()
        if root is None and body is not None:
            root = row_root(body)
        yield from self._add(None if root is None else leaf_hash(block_leaf(header, root)))

    def leaf(self, data: bytes) -> Iterator[Finding]:
        """The next leaf."""
        yield from self._add(leaf_hash(data))

    def finish(self) -> Iterator[Finding]:
        """There are no more leaves."""
        yield from self.watch.finish()
        if self._reader is not None:
            size = min(self._stored, len(self._leaves))
            yield from tile_findings(self._reader, self._tree.number, self._leaves, size)

    @property
    def uncovered(self) -> int:
        """Leaves that no signed root was compared with."""
        return self.watch.size - self.watch.covered

    def _add(self, leaf: bytes | None) -> Iterator[Finding]:
        if leaf is not None and not self.watch.blind and len(self._leaves) < self._stored:
            self._leaves.append(leaf)
        yield from self.watch.add(leaf)

    def _stored_root(self) -> bytes | None:
        entry = self._entry(self.watch.size)
        try:
            return None if entry is None else split_block_leaf(entry)[1]
        except Rejected:
            return None

    def _entry(self, index: int) -> bytes | None:
        """The stored leaf; None if there is none, which `finish` tells of."""
        if self._reader is None or index >= self._stored:
            return None
        number, place = divmod(index, TILE_WIDTH)
        if number != self._bundle[0]:
            width = min(TILE_WIDTH, self._stored - number * TILE_WIDTH)
            try:
                self._bundle = number, self._reader.bundle(number, width)
            except Rejected:
                self._bundle = number, ()
        found = self._bundle[1]
        return found[place] if place < len(found) else None


def _stored_size(reader: TreeReader | None) -> int:
    """Leaves that the stored checkpoint names; that it can be believed is not said here."""
    try:
        note = reader.checkpoint() if reader is not None else None
        return parse_checkpoint(note.text).size if note is not None else 0
    except Rejected:
        return 0  # told where checkpoints are judged
