"""Copies a tree's files while the auditor may go on growing it."""

from __future__ import annotations

from pathlib import Path

from shutong_auditor.treereader import CHECKPOINT, TreeReader
from shutong_core.audit.checkpoint import parse_checkpoint
from shutong_core.audit.signednote import SignedNote
from shutong_core.audit.tiles import (
    encode_entries,
    encode_tile,
    entries_path,
    tile_path,
    tiles_of,
)
from shutong_core.domain.errors import Rejected

ATTEMPTS_MAX = 10


def copy_tree(directory: Path, target: Path) -> None:
    """Copy the tree that its checkpoint names; nothing if there is no checkpoint.

    The auditor removes partial files of the tree as it was, then the tree is read again as it is.
    Raises Rejected where files are damaged or missing.
    """
    source = TreeReader(directory)
    for attempt in range(ATTEMPTS_MAX):
        note = source.checkpoint()
        if note is None:
            return
        try:
            _copy_files(source, target, note)
        except Rejected:
            if attempt == ATTEMPTS_MAX - 1 or source.checkpoint() == note:
                raise
        else:
            return


def _copy_files(source: TreeReader, target: Path, note: SignedNote) -> None:
    size = parse_checkpoint(note.text).size
    for level, index, width in tiles_of(size):
        _put(target / tile_path(level, index, width), encode_tile(source.tile(level, index, width)))
        if level == 0:
            leaves = source.bundle(index, width)
            _put(target / entries_path(index, width), encode_entries(leaves))
    _put(target / CHECKPOINT, note.encode())


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
