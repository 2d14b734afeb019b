"""RFC 9162 Merkle trees: roots, inclusion proofs, consistency proofs.

A tree of `size` leaves is known by its complete subtrees: `node(level, index)` is the root over
leaves index·2^level … (index+1)·2^level − 1, so level 0 holds the leaf hashes. All hashes are
SHA-256, 32 bytes (RFC 9162, 2.1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from shutong_core.domain.errors import Rejected

HASH_BYTES = 32
#: Root of the tree without leaves.
EMPTY_ROOT = hashlib.sha256(b"").digest()
#: Trees have at most 2^63 leaves, so no proof is longer than this.
PROOF_HASHES_MAX = 63

#: (level, index) → hash of that complete subtree.
Node = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Root over leaf hashes that are all at hand."""
    level = list(leaves)
    if not level:
        return EMPTY_ROOT
    sha256 = hashlib.sha256
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Proof for leaf `index` of a tree whose leaf hashes are all at hand."""
    if not 0 <= index < len(leaves):
        raise IndexError("no such leaf")
    path, level = [], list(leaves)
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            path.append(level[beside])
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [node_hash(left, right) for left, right in pairs]
        if len(level) % 2:
            above.append(level[-1])
        level, index = above, index // 2
    return path


class Frontier:
    """A tree that only grows: its size, root, and nothing else. Memory: 32 bytes a level."""

    def __init__(self, size: int = 0, stack: Sequence[bytes] = ()) -> None:
        """`stack`: roots of the complete subtrees that make up `size`, largest first."""
        if len(stack) != size.bit_count():
            raise Rejected(f"a tree of {size} leaves does not have {len(stack)} subtrees")
        self._size = size
        self._stack = list(stack)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def add(self, leaf: bytes) -> None:
        """Append a leaf hash."""
        carried, size = leaf, self._size
        while size & 1:
            carried = node_hash(self._stack.pop(), carried)
            size >>= 1
        self._stack.append(carried)
        self._size += 1

    def root(self) -> bytes:
        """Root over all leaves so far."""
        if not self._stack:
            return EMPTY_ROOT
        found = self._stack[-1]
        for left in reversed(self._stack[:-1]):
            found = node_hash(left, found)
        return found


def frontier_at(size: int, node: Node) -> Frontier:
    """The frontier of the first `size` leaves."""
    stack, at = [], 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            stack.append(node(level, at >> level))
            at += 1 << level
    return Frontier(size, stack)


def tree_root(size: int, node: Node) -> bytes:
    """Root over the first `size` leaves."""
    return frontier_at(size, node).root()


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Proof that leaf `index` is in the tree of `size` leaves (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < size:
        raise IndexError("no such leaf")
    path: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        split = first + _split(end - first)
        if index < split:
            path.append(_range_root(split, end, node))
            end = split
        else:
            path.append(_range_root(first, split, node))
            first = split
    return path[::-1]


def consistency_proof(old: int, size: int, node: Node) -> list[bytes]:
    """Proof that the tree of `size` leaves begins with the tree of `old` (RFC 9162, 2.1.4.1)."""
    if not 0 <= old <= size:
        raise IndexError("the old tree is larger than the new one")
    if old in (0, size):
        return []
    path: list[bytes] = []
    first, end, whole = 0, size, True
    while old != end:
        split = first + _split(end - first)
        if old <= split:
            path.append(_range_root(split, end, node))
            end = split
        else:
            path.append(_range_root(first, split, node))
            first, whole = split, False
    if not whole:
        path.append(_range_root(first, end, node))
    return path[::-1]


def check_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Raises Rejected unless `proof` shows leaf hash `leaf` at `index` (RFC 9162, 2.1.3.2)."""
    if root_by_inclusion(index, size, leaf, proof) != root:
        raise Rejected("inclusion proof: it leads to another root")


def root_by_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that `proof` leads to from leaf hash `leaf`. Raises Rejected."""
    if not 0 <= index < size:
        raise Rejected(f"inclusion proof: leaf {index} is not in a tree of {size}")
    place, last, found = index, size - 1, leaf
    for beside in proof:
        if last == 0:
            raise Rejected("inclusion proof: too long")
        if place & 1 or place == last:
            found = node_hash(beside, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        place, last = place >> 1, last >> 1
    if last:
        raise Rejected("inclusion proof: too short")
    return found


def check_consistency(
    old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Raises Rejected unless `proof` shows that the new tree begins with the old one.

    RFC 9162, 2.1.4.2. A tree without leaves is the beginning of every tree: then no proof is
    given.
    """
    if not 0 <= old <= size:
        raise Rejected(f"consistency proof: from {old} to {size} leaves is a step back")
    if old in (0, size):
        same = old_root == (EMPTY_ROOT if old == 0 else root)
        if proof or not same:
            raise Rejected("consistency proof: the roots differ or the proof should be empty")
        return
    before, after = _both_roots(old, size, old_root, proof)
    if before != old_root or after != root:
        raise Rejected("consistency proof: it leads to other roots")


def _both_roots(
    old: int, size: int, old_root: bytes, proof: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """The roots of the old and of the new tree that the proof leads to."""
    hashes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not hashes:
        raise Rejected("consistency proof: too short")
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = hashes[0]
    for beside in hashes[1:]:
        if last == 0:
            raise Rejected("consistency proof: too long")
        if place & 1 or place == last:
            before, after = node_hash(beside, before), node_hash(beside, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, beside)
        place, last = place >> 1, last >> 1
    if last:
        raise Rejected("consistency proof: too short")
    return before, after


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(first: int, end: int, node: Node) -> bytes:
    size = end - first
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, first >> level)
    split = first + _split(size)
    return node_hash(_range_root(first, split, node), _range_root(split, end, node))
