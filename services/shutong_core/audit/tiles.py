"""C2SP tlog-tiles: how a Merkle tree lies in files of 256 hashes.

Tile (L, N) of width W holds the hashes of nodes 256·N … 256·N+W−1 at tree level 8·L; a full tile
has W = 256. A bundle of entries N holds leaves 256·N … 256·N+W−1, each with a u16 length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from shutong_core.audit.merkle import HASH_BYTES, Node, root_of
from shutong_core.domain.errors import Fatal, Rejected

TILE_HEIGHT = 8
TILE_WIDTH = 256
ENTRY_BYTES_MAX = 0xFFFF
LEVEL_MAX = 7

#: (level, index) → the hashes of that tile that are there, at most TILE_WIDTH of them.
TileHashes = Callable[[int, int], Sequence[bytes]]


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """`tile/<L>/<N>`, with `.p/<W>` where the tile is partial."""
    return f"tile/{level}/{_numbered(index, width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """`tile/entries/<N>`, with `.p/<W>` where the bundle is partial."""
    return f"tile/entries/{_numbered(index, width)}"


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, index, width) of every tile of a tree of `size` leaves, level by level."""
    level, nodes = 0, size
    while nodes:
        for index in range(nodes // TILE_WIDTH):
            yield level, index, TILE_WIDTH
        if nodes % TILE_WIDTH:
            yield level, nodes // TILE_WIDTH, nodes % TILE_WIDTH
        level, nodes = level + 1, nodes // TILE_WIDTH


def node_from_tiles(tile: TileHashes) -> Node:
    """Complete subtrees of the tree that lies in `tile`."""

    def node(level: int, index: int) -> bytes:
        tile_level, within = divmod(level, TILE_HEIGHT)
        place = index << within
        hashes = tile(tile_level, place // TILE_WIDTH)
        first = place % TILE_WIDTH
        chosen = hashes[first : first + (1 << within)]
        if len(chosen) != 1 << within:
            raise Rejected(f"tile {tile_level}/{place // TILE_WIDTH} is too short")
        return root_of(chosen)

    return node


def encode_tile(hashes: Iterable[bytes]) -> bytes:
    """The hashes, one after the other."""
    return b"".join(hashes)


def parse_tile(data: bytes, width: int) -> tuple[bytes, ...]:
    """The hashes of a stored tile. Raises Rejected if it does not hold exactly `width`."""
    if len(data) != width * HASH_BYTES:
        raise Rejected(f"a tile of width {width} has {len(data)} bytes")
    return tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES))


def encode_entries(leaves: Iterable[bytes]) -> bytes:
    """A bundle: u16 length ‖ leaf data, for each. Raises Fatal for a leaf that is too long."""
    parts: list[bytes] = []
    for leaf in leaves:
        if len(leaf) > ENTRY_BYTES_MAX:
            raise Fatal(f"a leaf of {len(leaf)} bytes, limit {ENTRY_BYTES_MAX}")
        parts += (len(leaf).to_bytes(2, "big"), leaf)
    return b"".join(parts)


def parse_entries(data: bytes, width: int) -> tuple[bytes, ...]:
    """The leaves of a stored bundle. Raises Rejected if it does not hold exactly `width`."""
    found, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise Rejected("a bundle of entries is cut off")
        found.append(data[at + 2 : end])
        at = end
    if len(found) != width:
        raise Rejected(f"a bundle of entries holds {len(found)}, not {width}")
    return tuple(found)


def _numbered(index: int, width: int) -> str:
    """C2SP's file name of a number: groups of three digits, all but the last after an x."""
    if not 0 < width <= TILE_WIDTH or index < 0:
        raise ValueError("a tile has an index from 0 and a width from 1 to 256")
    name = f"{index % 1000:03d}"
    while index >= 1000:
        index //= 1000
        name = f"x{index % 1000:03d}/{name}"
    return name if width == TILE_WIDTH else f"{name}.p/{width}"
