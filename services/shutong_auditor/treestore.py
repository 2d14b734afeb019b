"""Grows one Merkle tree in C2SP tlog-tiles files; a crash leaves the last signed tree whole.

Files of the tree that the stored checkpoint names are never changed before the next checkpoint is
stored. What lies beyond it after a crash is written anew with the same bytes, since the same
leaves come again. docs/formats/proofs.md has the layout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from shutong_auditor.treereader import CHECKPOINT, TreeReader
from shutong_core.audit.checkpoint import parse_checkpoint
from shutong_core.audit.merkle import leaf_hash, root_of, tree_root
from shutong_core.audit.signednote import SignedNote
from shutong_core.audit.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    encode_entries,
    encode_tile,
    entries_path,
    tile_path,
)
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.runtime.durablefile import write_durably

#: Where to read on in the topic: a hint, believed only as far as the leaves found there agree.
POSITION = "position.json"


class TreeStore(TreeReader):
    """The files of one tree with their growing edge in memory: 256 leaves, 256 hashes a level."""

    def __init__(self, directory: Path) -> None:
        """Opens the tree that the stored checkpoint names, or an empty one.

        Raises Fatal if the files are not that tree.
        """
        super().__init__(directory)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        #: Leaves that the stored checkpoint covers; more may be in memory and on disk.
        self.signed = 0
        self._size = 0
        self._leaves: list[bytes] = []
        self._edges: list[list[bytes]] = []
        self._open()

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def root(self) -> bytes:
        """Root over all leaves, from what is in memory."""
        return tree_root(self._size, self._node_in_memory)

    def last_leaf(self) -> bytes | None:
        """Data of the newest leaf; None if there is none."""
        return self.leaf_at(self._size - 1) if self._size else None

    def leaf_at(self, index: int) -> bytes:
        """Data of any leaf, from memory or disk."""
        start = self._size - len(self._leaves)
        if index >= start:
            return self._leaves[index - start]
        return self.leaf(index, start)

    def add(self, leaf: bytes) -> None:
        """Append a leaf; a bundle that is full goes to disk."""
        self._leaves.append(leaf)
        self._size += 1
        self._add_hash(0, leaf_hash(leaf))
        if len(self._leaves) == TILE_WIDTH:
            self._write(entries_path(self._size // TILE_WIDTH - 1), encode_entries(self._leaves))
            self._leaves.clear()

    def flush(self) -> None:
        """Bring the growing edge to disk, as files of its own beside those of the last tree."""
        if self._leaves:
            path = entries_path(self._size // TILE_WIDTH, len(self._leaves))
            self._write(path, encode_entries(self._leaves))
        for level, edge in enumerate(self._edges):
            if edge:
                index = self._size >> TILE_HEIGHT * (level + 1)
                self._write(tile_path(level, index, len(edge)), encode_tile(edge))

    def recomputed_root(self) -> bytes:
        """Root over all leaves from the files alone: what was added since the checkpoint is read
        back, every hash of it computed anew.

        Raises Rejected if a file is not what was written.
        """
        size = self._size
        for level in range(len(self._edges)):
            at, total = self.signed >> TILE_HEIGHT * level, size >> TILE_HEIGHT * level
            if level == 0:
                at -= at % TILE_WIDTH  # the bundle was written anew as a whole
            while at < total:
                index, within = divmod(at, TILE_WIDTH)
                width = min(TILE_WIDTH, total - index * TILE_WIDTH)
                stored = self.tile(level, index, width)[within:]
                if tuple(self._below(level, index, within, width)) != stored:
                    path = self.directory / tile_path(level, index)
                    raise Rejected(f"{path}: not the hashes of what lies below it")
                at += len(stored)
        return tree_root(size, self.node(size))

    def store_checkpoint(self, note: SignedNote, next_offset: int) -> None:
        """Make `note` the tree's checkpoint, drop the partial files that it made needless."""
        before, self.signed = self.signed, self._size
        self._write(CHECKPOINT, note.encode())
        position = {"size": self._size, "next_offset": next_offset}
        self._write(POSITION, json.dumps(position).encode())
        self._tidy(before)

    def position(self) -> tuple[int, int] | None:
        """(leaves, offset in the topic after the last of them) as stored; None if not known.

        After a crash that may be of an earlier checkpoint than the one stored.
        """
        try:
            found = json.loads((self.directory / POSITION).read_bytes())
            size, offset = int(found["size"]), int(found["next_offset"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (size, offset) if 0 <= size <= self.signed and offset >= 0 else None

    def _open(self) -> None:
        try:
            note = self.checkpoint()
            if note is None:
                return
            said = parse_checkpoint(note.text)
            self._load(said.size)
            root = self.root()
        except Rejected as error:
            raise Fatal(
                f"审计树 {self.directory} 已损坏：请移走该目录，审计服务将由主题重建。"
                f" The tree in {self.directory} is damaged: move the directory away, the auditor"
                f" builds it again from the topic. ({error})"
            ) from error
        if root != said.root:
            raise Fatal(
                f"审计树 {self.directory} 与其检查点不符：请保留该目录备查，移走后由主题重建。"
                f" The tree in {self.directory} is not the one its checkpoint names: keep it for"
                " inquiry, move it away, the auditor builds it again from the topic."
            )

    def _load(self, size: int) -> None:
        self._size = self.signed = size
        within = size % TILE_WIDTH
        if within:
            self._leaves = list(self.bundle(size // TILE_WIDTH, within))
        level, nodes = 0, size
        while nodes:
            edge = nodes % TILE_WIDTH
            index = nodes // TILE_WIDTH
            self._edges.append(list(self.tile(level, index, edge)) if edge else [])
            level, nodes = level + 1, index
        if within and list(map(leaf_hash, self._leaves)) != self._edges[0]:
            raise Rejected("the newest leaves are not those of the tree")

    def _add_hash(self, level: int, found: bytes) -> None:
        if level == len(self._edges):
            self._edges.append([])
        edge = self._edges[level]
        edge.append(found)
        if len(edge) == TILE_WIDTH:
            index = (self._size >> TILE_HEIGHT * (level + 1)) - 1
            self._write(tile_path(level, index), encode_tile(edge))
            full = root_of(edge)
            edge.clear()
            self._add_hash(level + 1, full)

    def _node_in_memory(self, level: int, index: int) -> bytes:
        """A complete subtree on the tree's right edge: all that a root is made of."""
        tile_level, within = divmod(level, TILE_HEIGHT)
        first = (index << within) % TILE_WIDTH
        return root_of(self._edges[tile_level][first : first + (1 << within)])

    def _below(self, level: int, index: int, first: int, end: int) -> Iterator[bytes]:
        """What places `first` … `end` - 1 of a tile must hold, from the files one level below."""
        if level == 0:
            yield from map(leaf_hash, self.bundle(index, end)[first:])
            return
        for each in range(index * TILE_WIDTH + first, index * TILE_WIDTH + end):
            yield root_of(self.tile(level - 1, each, TILE_WIDTH))

    def _write(self, path: str, data: bytes) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(file, data, 0o644)

    def _tidy(self, before: int) -> None:
        """Remove partial files of where the tree of `before` leaves ended, but those in use now."""
        for level in range(-(-before.bit_length() // TILE_HEIGHT)):
            index = before >> TILE_HEIGHT * (level + 1)
            nodes = self._size >> TILE_HEIGHT * level
            kept = nodes - index * TILE_WIDTH
            self._drop(tile_path(level, index, 1), kept)
            if level == 0:
                self._drop(entries_path(index, 1), kept)

    def _drop(self, path: str, kept: int) -> None:
        """Remove the partial files beside `path`, but that of width `kept`."""
        directory = (self.directory / path).parent
        if directory.is_dir():
            for each in directory.iterdir():
                if each.name != str(kept):
                    each.unlink()
