"""Reads a Merkle tree from its C2SP tlog-tiles files.

Nothing read is believed: hashes lead to a root, and that is for the caller to compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shutong_core.audit.merkle import Node
from shutong_core.audit.signednote import NOTE_BYTES_MAX, SignedNote, parse_note
from shutong_core.audit.tiles import (
    ENTRY_BYTES_MAX,
    TILE_WIDTH,
    entries_path,
    node_from_tiles,
    parse_entries,
    parse_tile,
    tile_path,
)
from shutong_core.domain.errors import Rejected

CHECKPOINT = "checkpoint"
_FILE_BYTES_MAX = TILE_WIDTH * (ENTRY_BYTES_MAX + 2)


def tree_directory(data_dir: Path, topic: str, number: int) -> Path:
    """Where the auditor keeps the tree of lane or partition `number` of `topic`."""
    return data_dir / "auditor" / "trees" / topic / str(number)


class TreeReader:
    """One tree's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def checkpoint(self) -> SignedNote | None:
        """The newest checkpoint stored, unchecked; None if there is none. Raises Rejected."""
        try:
            data = self._read(CHECKPOINT, NOTE_BYTES_MAX)
        except FileNotFoundError:
            return None
        return parse_note(data)

    def node(self, size: int) -> Node:
        """Complete subtrees of the tree of the first `size` leaves.

        The node raises Rejected where a tile is missing or too short.
        """

        def tile(level: int, index: int) -> tuple[bytes, ...]:
            return self.tile(level, index, self._width(level, index, size))

        return node_from_tiles(tile)

    def tile(self, level: int, index: int, width: int) -> tuple[bytes, ...]:
        """The first `width` hashes of a tile. Raises Rejected if they are not there."""
        full, partial = tile_path(level, index), tile_path(level, index, width)
        return parse_tile(self._either(full, partial, width, 32), width)

    def bundle(self, index: int, width: int) -> tuple[bytes, ...]:
        """The first `width` leaves of a bundle of entries. Raises Rejected."""
        full, partial = entries_path(index), entries_path(index, width)
        for path, there in ((full, TILE_WIDTH), (partial, width)):
            try:
                return parse_entries(self._read(path, _FILE_BYTES_MAX), there)[:width]
            except FileNotFoundError:
                continue
        raise Rejected(f"{self.directory / partial} is missing")

    def leaves(self, first: int, end: int, size: int) -> Iterator[bytes]:
        """Data of leaves `first` … `end` - 1 of a tree of `size` leaves. Raises Rejected."""
        at = first
        while at < end:
            index = at // TILE_WIDTH
            start = index * TILE_WIDTH
            found = self.bundle(index, min(TILE_WIDTH, size - start))
            yield from found[at - start : end - start]
            at = start + TILE_WIDTH

    def leaf(self, index: int, size: int) -> bytes:
        """Data of leaf `index` of a tree of `size` leaves. Raises Rejected."""
        if not 0 <= index < size:
            raise Rejected(f"leaf {index} is not in a tree of {size}")
        return next(self.leaves(index, index + 1, size))

    @staticmethod
    def _width(level: int, index: int, size: int) -> int:
        width = (size >> 8 * level) - index * TILE_WIDTH
        if width <= 0:
            raise Rejected(f"tile {level}/{index} is not in a tree of {size}")
        return min(TILE_WIDTH, width)

    def _either(self, full: str, partial: str, width: int, each: int) -> bytes:
        """The start of the full tile, or the partial one."""
        for path, there in ((full, TILE_WIDTH), (partial, width)):
            try:
                data = self._read(path, TILE_WIDTH * each)
            except FileNotFoundError:
                continue
            if len(data) != there * each:
                raise Rejected(f"{self.directory / path} has {len(data)} bytes")
            return data[: width * each]
        raise Rejected(f"{self.directory / partial} is missing")

    def _read(self, path: str, bytes_max: int) -> bytes:
        try:
            with (self.directory / path).open("rb") as stream:
                data = stream.read(bytes_max + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Rejected(f"{self.directory / path} cannot be read: {error.strerror}") from None
        if len(data) > bytes_max:
            raise Rejected(f"{self.directory / path} is larger than {bytes_max} bytes")
        return data
