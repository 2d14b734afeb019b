"""Signed checkpoints from several places, held against each other and against a growing tree.

One size of a tree has one root, whoever shows it: two roots are a fork, which the signatures prove.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.audit.merkle import EMPTY_ROOT, Frontier
from shutong_core.audit.verdict import Finding, Statement


@dataclass(frozen=True, slots=True)
class Known:
    """A checkpoint and where it was shown."""

    checkpoint: Checkpoint
    whence: str


class KnownHeads:
    """The checkpoints of all trees. Memory: one root for each size that was signed."""

    def __init__(self) -> None:
        self._heads: dict[TreeName, dict[int, Known]] = {}

    def add(self, tree: TreeName, known: Known) -> Finding | None:
        """Takes a checkpoint that was accepted; what it contradicts."""
        sizes = self._heads.setdefault(tree, {})
        before = sizes.setdefault(known.checkpoint.size, known)
        if before.checkpoint.root == known.checkpoint.root:
            return None
        size = known.checkpoint.size
        text = Statement(
            f"{tree.topic}/{tree.number}：{before.whence}与{known.whence}中同为 {size} 条的"
            "检查点不同：有两部历史",
            f"{tree.topic}/{tree.number}: the checkpoints of {size} leaves in {before.whence} and"
            f" in {known.whence} differ: there are two histories",
        )
        return Finding("fork", text, lane=tree.number, block=size or None)

    def sizes(self, tree: TreeName) -> list[int]:
        """Sizes of the tree's checkpoints, ascending."""
        return sorted(self._heads.get(tree, ()))

    def watch(self, tree: TreeName) -> TreeWatch:
        """Compares the tree that grows with its checkpoints."""
        return TreeWatch(tree, self._heads.get(tree, {}))


class TreeWatch:
    """Feed it the leaf hashes of one tree in order, then `finish`."""

    def __init__(self, tree: TreeName, known: dict[int, Known]) -> None:
        self._tree = tree
        self._known = known
        self._frontier = Frontier()
        self._wrong = False
        #: Checkpoints that the tree reached and agreed with.
        self.agreed = 0

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._frontier.size

    @property
    def covered(self) -> int:
        """Leaves that the largest checkpoint covers, as far as they are there."""
        return max((size for size in self._known if size <= self.size), default=0)

    def add(self, leaf: bytes) -> Iterator[Finding]:
        """The next leaf hash; what is wrong if a checkpoint ends here."""
        self._frontier.add(leaf)
        known = self._known.get(self._frontier.size)
        if known is not None:
            yield from self._compare(known, self._frontier.root())

    def finish(self) -> Iterator[Finding]:
        """There are no more leaves: checkpoints beyond them are of something that is gone."""
        if 0 in self._known:
            yield from self._compare(self._known[0], EMPTY_ROOT)
        largest = max(self._known, default=0)
        if largest > self.size:
            known, tree = self._known[largest], self._tree
            text = Statement(
                f"{known.whence}中的检查点有 {largest} 条，这里只有 {self.size} 条："
                "被截短或由旧备份恢复",
                f"the checkpoint in {known.whence} has {largest} leaves, here are {self.size}: cut"
                " short, or restored from an old backup",
            )
            yield Finding("missing", text, lane=tree.number, block=self.size + 1)

    def _compare(self, known: Known, root: bytes) -> Iterator[Finding]:
        if root == known.checkpoint.root:
            self.agreed += 1
        elif not self._wrong:
            self._wrong = True  # every later checkpoint differs too
            size = known.checkpoint.size
            text = Statement(
                f"前 {size} 条与{known.whence}中已签名的检查点不符",
                f"the first {size} leaves are not those of the signed checkpoint in {known.whence}",
            )
            yield Finding("root", text, lane=self._tree.number, block=size or None)
