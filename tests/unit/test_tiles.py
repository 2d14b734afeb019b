"""Trees in files as C2SP tlog-tiles lays them out."""

from __future__ import annotations

import pytest

from shutong_core.audit.merkle import consistency_proof, inclusion_proof, leaf_hash, root_of
from shutong_core.audit.merkle import tree_root as root_by_nodes
from shutong_core.audit.tiles import (
    encode_entries,
    encode_tile,
    entries_path,
    node_from_tiles,
    parse_entries,
    parse_tile,
    tile_path,
    tiles_of,
)
from shutong_core.domain.errors import Fatal, Rejected


def tiled(leaves: list[bytes]) -> dict[tuple[int, int], list[bytes]]:
    """Tiles of a small tree, straight from the definition."""
    found = {}
    for level, index, width in tiles_of(len(leaves)):
        span = 256**level
        first = index * 256 * span
        found[level, index] = [
            root_of(leaves[first + n * span : first + (n + 1) * span]) for n in range(width)
        ]
    return found


def test_a_tile_lies_where_the_specification_says():
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(3, 5, 17) == "tile/3/005.p/17"
    assert entries_path(1000, 1) == "tile/entries/x001/000.p/1"
    for index, width in ((-1, 256), (0, 0), (0, 257)):
        with pytest.raises(ValueError, match="width"):
            tile_path(0, index, width)


def test_a_tree_of_70000_leaves_has_the_tiles_of_the_specification():
    tiles = list(tiles_of(70_000))
    assert tiles[-4:] == [(0, 273, 112), (1, 0, 256), (1, 1, 17), (2, 0, 1)]
    assert len([each for each in tiles if each[0] == 0]) == 274
    assert list(tiles_of(0)) == []


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700])
def test_roots_and_proofs_come_out_of_tiles_as_out_of_leaves(size):
    leaves = [leaf_hash(b"%d" % number) for number in range(size)]
    tiles = tiled(leaves)
    node = node_from_tiles(lambda level, index: tiles[level, index])

    def direct(level: int, index: int) -> bytes:
        return root_of(leaves[index << level : (index + 1) << level])

    assert root_by_nodes(size, node) == root_of(leaves)
    for place in {0, size // 2, size - 1}:
        assert inclusion_proof(place, size, node) == inclusion_proof(place, size, direct)
        assert consistency_proof(place, size, node) == consistency_proof(place, size, direct)


def test_a_tile_that_is_too_short_is_said_so():
    node = node_from_tiles(lambda _level, _index: [bytes(32)] * 3)
    with pytest.raises(Rejected, match="too short"):
        node(2, 0)


def test_stored_tiles_and_entries_read_back():
    hashes = (bytes(32), b"\x01" * 32)
    assert parse_tile(encode_tile(hashes), 2) == hashes
    leaves = (b"", b"a", b"b" * 65_535)
    assert parse_entries(encode_entries(leaves), 3) == leaves


def test_damaged_tiles_and_entries_are_refused():
    with pytest.raises(Rejected):
        parse_tile(bytes(63), 2)
    whole = encode_entries([b"one", b"two"])
    for cut in range(1, len(whole)):
        with pytest.raises(Rejected):
            parse_entries(whole[:cut], 2)
    with pytest.raises(Rejected):
        parse_entries(whole + b"\x00\x00", 2)
    with pytest.raises(Fatal):
        encode_entries([bytes(65_536)])
