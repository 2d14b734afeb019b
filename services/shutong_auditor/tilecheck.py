"""Holds a tree's stored files against the leaf hashes that were computed from the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shutong_auditor.treereader import TreeReader
from shutong_core.audit.merkle import leaf_hash, root_of
from shutong_core.audit.tiles import TILE_WIDTH, tiles_of
from shutong_core.audit.verdict import Finding, Statement
from shutong_core.domain.errors import Rejected


def tile_findings(
    reader: TreeReader, lane: int, leaves: Sequence[bytes], size: int
) -> Iterator[Finding]:
    """What is wrong with the tiles and bundles of the tree of `size` leaves, by their names.

    `leaves`: leaf hashes from the records, at least `size` of them.
    """
    level_hashes: list[bytes] = list(leaves[:size])
    level = 0
    for at_level, index, width in tiles_of(size):
        if at_level > level:
            full = range(0, len(level_hashes) - TILE_WIDTH + 1, TILE_WIDTH)
            level_hashes = [root_of(level_hashes[at : at + TILE_WIDTH]) for at in full]
            level = at_level
        first = index * TILE_WIDTH
        wanted = tuple(level_hashes[first : first + width])
        try:
            if reader.tile(at_level, index, width) != wanted:
                yield _wrong("tile", lane, f"tile/{at_level}/{index}", first if not level else None)
            if at_level == 0:
                stored = tuple(map(leaf_hash, reader.bundle(index, width)))
                if stored != wanted:
                    yield _wrong("entry", lane, f"tile/entries/{index}", first)
        except Rejected as error:
            text = Statement(f"树文件无法读取：{error}", f"a tree file cannot be read: {error}")
            yield Finding("tile", text, lane=lane)


def _wrong(code: str, lane: int, name: str, first: int | None) -> Finding:
    text = Statement(f"树文件 {name} 与记录不符", f"tree file {name} is not that of the records")
    return Finding(code, text, lane=lane, block=None if first is None else first + 1)
