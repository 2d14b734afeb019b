"""Turns the records of one partition into leaves of its tree, and halts at the first thing wrong.

A halted tree is never signed again by this process: nobody gets a checkpoint of what does not hold,
so placement on that lane ends with the grace. Only people can decide what happened.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

from shutong_auditor.treestore import TreeStore
from shutong_core.audit.access import event_hash
from shutong_core.audit.checkpoint import AUDIT, Checkpoint, TreeName
from shutong_core.audit.header import header_hash
from shutong_core.audit.merkle import tree_root
from shutong_core.audit.rowtree import block_leaf, row_root, split_block_leaf
from shutong_core.audit.verdict import Finding
from shutong_core.audit.verify import Anchor, LaneVerifier
from shutong_core.domain.errors import Rejected, Retryable


class Halted(Exception):  # noqa: N818 - a state, told to people
    """The tree must not grow; says why, in English and Chinese."""


@dataclass(frozen=True, slots=True)
class Floor:
    """A checkpoint known from elsewhere: the tree must reach it, then have its root."""

    checkpoint: Checkpoint
    whence: str


class TreeGrowth:
    """One tree with where it stands in its topic. `begin`, then `take` record by record."""

    def __init__(self, tree: TreeName, store: TreeStore, lists: MutableMapping[int, bytes]) -> None:
        """`lists`: list number → digest, shared by all lanes so that they must agree."""
        self.tree = tree
        self.store = store
        self.next_offset = 0
        self.halted: str | None = None
        #: Whether it once had all that stood in the topic when this process began.
        self.caught_up = False
        self._lists = lists
        self._index = 0  # of the next record's leaf
        self._end = 0
        self._floor: Floor | None = None
        self._leaf: Callable[[int, bytes, bytes], bytes] = self._event
        self._verifier: LaneVerifier | None = None

    @property
    def name(self) -> str:
        """`audit/3`, for people."""
        return f"{self.tree.topic}/{self.tree.number}"

    def begin(self, first: int, end: int, floor: Floor | None) -> None:
        """Where to read from: `first` and `end` are the topic's first offset kept and its end.

        `floor`: the newest checkpoint published. Halts if the topic or the files cannot reach it.
        """
        self._floor, self._end = floor, end
        self._index, self.next_offset = self.store.position() or (0, 0)
        if self.next_offset > end:
            raise self.halt(
                f"主题只到偏移 {end}，此前已读到 {self.next_offset}：主题被截短或由旧备份恢复",
                f"the topic ends at offset {end}, it was read to {self.next_offset} before:"
                " it was cut short or restored from an old backup",
            )
        self.resume(first, end)
        if self.tree.topic == AUDIT:
            self._leaf = self._block
            self._verifier = self._verifier_from(self._index)
        self._check_floor_reached()
        self._look_whether_caught_up()

    def resume(self, first: int, end: int) -> None:
        """Go on after Kafka was away; raises Halted, or Retryable while it has less than before."""
        if self.next_offset > end:
            raise Retryable(f"{self.name} ends at offset {end}, it was read to {self.next_offset}")
        if self.next_offset < first:
            # The sequence of blocks tells whether one is missing; events have none.
            if self.tree.topic != AUDIT or self._index != self.store.size:
                raise self.halt(
                    f"偏移 {self.next_offset} 至 {first} 已被删除而尚未入树：请从备份恢复树文件",
                    f"offsets {self.next_offset} to {first} were deleted before they were in the"
                    " tree: restore the tree's files from a backup",
                )
            self.next_offset = first

    def take(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """The next record. Raises Halted."""
        leaf = self._leaf(offset, key or b"", value or b"")
        if self._index < self.store.size:
            self._compare(leaf, offset)
        else:
            self.store.add(leaf)
        self._index += 1
        self.next_offset = offset + 1
        floor = self._floor
        if floor is not None and self._index == floor.checkpoint.size:
            self._check_floor_reached()

    def passed(self, position: int) -> None:
        """All before offset `position` was read, transaction markers included. Raises Halted."""
        self.next_offset = max(self.next_offset, position)
        self._look_whether_caught_up()

    def halt(self, zh: str, en: str) -> Halted:
        """Stop growing for this reason; the exception to raise."""
        self.halted = f"{self.name}: {zh} / {en}"
        return Halted(self.halted)

    def _look_whether_caught_up(self) -> None:
        if self.caught_up or self.next_offset < self._end:
            return
        floor = self._floor
        known = max(self.store.signed, floor.checkpoint.size if floor else 0)
        if self._index < known:
            raise self.halt(
                f"主题只有 {self._index} 条，而已签名的检查点有 {known} 条：被截短或由旧备份恢复",
                f"the topic has {self._index} records, a signed checkpoint has {known}: it was cut"
                " short or restored from an old backup",
            )
        self.caught_up = True

    def _check_floor_reached(self) -> None:
        """The published checkpoint is the beginning of this tree, as soon as it is long enough."""
        floor = self._floor
        if floor is None or self.store.size < floor.checkpoint.size:
            return
        size = floor.checkpoint.size
        try:
            root = (
                self.store.root()
                if size == self.store.size
                else tree_root(size, self.store.node(self.store.signed))
            )
        except Rejected as error:
            raise self.halt(
                f"树文件无法读取（{error}）", f"tree files cannot be read: {error}"
            ) from error
        if root != floor.checkpoint.root:
            raise self.halt(
                f"与{floor.whence}中 {size} 条的检查点不同：主题被改写",
                f"differs from the checkpoint of {size} leaves in {floor.whence}: the topic was"
                " rewritten",
            )

    def _compare(self, leaf: bytes, offset: int) -> None:
        if leaf != self.store.leaf_at(self._index):
            raise self.halt(
                f"偏移 {offset} 的记录与已签名的树不同：主题被改写",
                f"the record at offset {offset} is not the one in the signed tree: the topic was"
                " rewritten",
            )

    def _verifier_from(self, index: int) -> LaneVerifier:
        anchor = None
        if index:
            header, _ = split_block_leaf(self.store.leaf_at(index - 1))
            anchor = Anchor(index, header_hash(header))
        return LaneVerifier(self.tree.cluster, self.tree.number, self._lists, anchor)

    def _event(self, _offset: int, _key: bytes, value: bytes) -> bytes:
        return event_hash(value)

    def _block(self, offset: int, header: bytes, body: bytes) -> bytes:
        if self._verifier is None:
            raise RuntimeError("begin was not called")
        findings, parsed = self._verifier.feed(offset, header, body)
        if findings:
            raise self.halt(*_said(findings[0]))
        if parsed is None:
            raise self.halt(f"偏移 {offset} 的块体无法读取", f"the body at {offset} cannot be read")
        return block_leaf(header, row_root(parsed))


def _said(finding: Finding) -> tuple[str, str]:
    where = f" [{finding.where}]" if finding.where else ""
    return f"{finding.text.zh}{where}", f"{finding.text.en}{where}"
