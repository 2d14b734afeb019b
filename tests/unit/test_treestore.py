"""The auditor's tree files: any tree is the one RFC 9162 defines, any crash leaves the last one."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from audit_samples import filled
from shutong_auditor import treestore
from shutong_auditor.treereader import CHECKPOINT, TreeReader
from shutong_auditor.treestore import TreeStore
from shutong_core.audit.checkpoint import Checkpoint
from shutong_core.audit.merkle import check_inclusion, inclusion_proof, leaf_hash, root_of
from shutong_core.audit.signednote import NoteKey, SignedNote
from shutong_core.audit.tiles import tiles_of
from shutong_core.domain.errors import Fatal, Rejected

ORIGIN = "bus/audit/0"
KEY = NoteKey(ORIGIN, bytes(32))


def leaf(number: int) -> bytes:
    return filled(f"leaf {number}", 40 + number % 7)


def note(store: TreeStore) -> SignedNote:
    return Checkpoint(ORIGIN, store.size, store.root()).sign(KEY, lambda _: bytes(64))


def grow(store: TreeStore, to: int) -> None:
    for number in range(store.size, to):
        store.add(leaf(number))


def publish(store: TreeStore) -> None:
    store.flush()
    assert store.recomputed_root() == store.root()
    store.store_checkpoint(note(store), store.size * 2)


def expected_root(size: int) -> bytes:
    return root_of([leaf_hash(leaf(each)) for each in range(size)])


@pytest.mark.parametrize("steps", [(0,), (1,), (255, 256, 257), (3, 700), (65_537,)])
def test_a_tree_grown_in_steps_has_the_root_of_its_leaves(
    tmp_path: Path, steps: tuple[int, ...]
) -> None:
    store = TreeStore(tmp_path)
    for size in steps:
        grow(store, size)
        publish(store)
        assert store.root() == expected_root(size)
    again = TreeStore(tmp_path)
    assert (again.size, again.root()) == (size, expected_root(size))
    assert again.position() == (size, size * 2)
    assert again.last_leaf() == (leaf(size - 1) if size else None)


def test_only_the_files_of_the_newest_tree_are_left(tmp_path: Path) -> None:
    store = TreeStore(tmp_path)
    for size in (5, 6, 250, 256, 300, 600, 610):
        grow(store, size)
        publish(store)
    hashes = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    wanted = {treestore.tile_path(*tile) for tile in tiles_of(610)}
    wanted |= {"tile/entries/000", "tile/entries/001", "tile/entries/002.p/98"}
    assert hashes - {CHECKPOINT, treestore.POSITION} == wanted


def test_any_leaf_can_be_shown_from_the_files(tmp_path: Path) -> None:
    store = TreeStore(tmp_path)
    grow(store, 700)
    publish(store)
    reader = TreeReader(tmp_path)
    assert list(reader.leaves(200, 600, 700)) == [leaf(each) for each in range(200, 600)]
    for index in (0, 255, 256, 511, 699):
        proof = inclusion_proof(index, 700, reader.node(700))
        check_inclusion(index, 700, leaf_hash(reader.leaf(index, 700)), proof, store.root())


def test_after_a_crash_at_any_write_the_last_signed_tree_is_there_and_grows_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = treestore.write_durably
    for crash_at in range(1, 14):
        directory = tmp_path / str(crash_at)
        store = TreeStore(directory)
        grow(store, 250)
        publish(store)
        left = crash_at

        def crashing(path: Path, data: bytes, mode: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise InterruptedError
            write(path, data, mode)

        monkeypatch.setattr(treestore, "write_durably", crashing)
        try:
            grow(store, 600)
            publish(store)
        except InterruptedError:
            pass
        monkeypatch.setattr(treestore, "write_durably", write)
        again = TreeStore(directory)
        assert again.root() == expected_root(again.size), crash_at
        assert again.size in (250, 600)
        grow(again, 640)
        publish(again)
        assert TreeStore(directory).root() == expected_root(640)


def test_damaged_files_are_never_taken_for_the_tree(tmp_path: Path) -> None:
    chance = random.Random(5)
    for case in range(60):
        directory = tmp_path / str(case)
        store = TreeStore(directory)
        grow(store, 300)
        publish(store)
        grow(store, 620)
        store.flush()
        # What was full in the signed tree, and its partial tiles, are no part of what is new.
        others = ("entries/000", "tile/0/000", ".p/44", "1/000.p/1", CHECKPOINT, treestore.POSITION)
        files = sorted(
            path
            for path in directory.rglob("*")
            if path.is_file() and not str(path).endswith(others)
        )
        chosen = chance.choice(files)
        data = bytearray(chosen.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        chosen.write_bytes(data)
        with contextlib.suppress(Rejected):
            assert store.recomputed_root() != expected_root(620), chosen


def test_a_tree_that_is_not_that_of_its_checkpoint_does_not_open(tmp_path: Path) -> None:
    store = TreeStore(tmp_path)
    grow(store, 300)
    publish(store)
    tile = tmp_path / "tile/1/000.p/1"
    tile.write_bytes(bytes(32))
    with pytest.raises(Fatal, match="not the one its checkpoint names"):
        TreeStore(tmp_path)
    tile.write_bytes(bytes(31))
    with pytest.raises(Fatal, match="damaged"):
        TreeStore(tmp_path)
