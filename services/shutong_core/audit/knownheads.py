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

    def beyond(self, numbers: int) -> Iterator[Finding]:
        """Signed trees of lanes or partitions that are not among the first `numbers`."""
        for tree, sizes in sorted(self._heads.items(), key=lambda each: each[0].origin):
            largest = max(sizes)
            if tree.number >= numbers and largest > 0:
                whence = sizes[largest].whence
                text = Statement(
                    f"{whence}中有 {tree.topic}/{tree.number} 的检查点，这里没有这条分道",
                    f"{whence} has a checkpoint of {tree.topic}/{tree.number}, which is not here",
                )
                yield Finding("missing", text, lane=tree.number, block=1)

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
        self._unknown = 0
        #: Checkpoints that the tree reached and agreed with.
        self.agreed = 0
        #: Leaves that the largest checkpoint so far compared covers.
        self.covered = 0
        #: The largest size that was signed.
        self.largest = max(known, default=0)

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._frontier.size + self._unknown

    @property
    def blind(self) -> bool:
        """Whether a leaf could not be known, so that no root can be compared any more."""
        return self._unknown > 0

    def add(self, leaf: bytes | None) -> Iterator[Finding]:
        """The next leaf hash, None if it cannot be known; what is wrong if a checkpoint ends here.

        After an unknown leaf only their number is compared.
        """
        if leaf is None or self._unknown:
            self._unknown += 1
            return
        self._frontier.add(leaf)
        known = self._known.get(self._frontier.size)
        if known is not None:
            yield from self._compare(known, self._frontier.root())

    def finish(self) -> Iterator[Finding]:
        """There are no more leaves: checkpoints beyond them are of something that is gone."""
        if 0 in self._known:
            yield from self._compare(self._known[0], EMPTY_ROOT)
        if self.largest > self.size:
            known, tree = self._known[self.largest], self._tree
            text = Statement(
                f"{known.whence}中的检查点有 {self.largest} 条，这里只有 {self.size} 条："
                "被截短或由旧备份恢复",
                f"the checkpoint in {known.whence} has {self.largest} leaves, here are {self.size}:"
                " cut short, or restored from an old backup",
            )
            yield Finding("missing", text, lane=tree.number, block=self.size + 1)

    def _compare(self, known: Known, root: bytes) -> Iterator[Finding]:
        size = known.checkpoint.size
        self.covered = max(self.covered, size)
        if root == known.checkpoint.root:
            self.agreed += 1
        elif not self._wrong:
            self._wrong = True  # every later checkpoint differs too
            text = Statement(
                f"前 {size} 条与{known.whence}中已签名的检查点不符",
                f"the first {size} leaves are not those of the signed checkpoint in {known.whence}",
            )
            yield Finding("root", text, lane=self._tree.number, block=size or None)
