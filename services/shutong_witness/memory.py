"""What the witness cosigned last for each tree, on disk before anybody is answered.

One file a tree, named by the SHA-256 of its origin; it holds the cosigned note, so the memory is
also the evidence against a bus that later shows another tree.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import structlog

from shutong_core.audit.checkpoint import Checkpoint, parse_checkpoint
from shutong_core.audit.signednote import NOTE_BYTES_MAX, SignedNote, parse_note
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.runtime.durablefile import write_durably

#: Trees of all buses together; each costs one file and some hundred bytes.
TREES_MAX = 10_000
_SUFFIX = ".note"
_log = structlog.stdlib.get_logger(__name__)


class WitnessMemory:
    """One directory. Raises Fatal if a file in it is damaged."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._notes: dict[str, SignedNote] = {}
        if not directory.exists():
            directory.mkdir(parents=True, mode=0o700)
            # A witness that forgot would cosign any tree anew: this must not go unnoticed.
            _log.warning(
                "witness begins without memory: every tree is new to it", path=str(directory)
            )
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            self._load(path)

    def note(self, origin: str) -> SignedNote | None:
        """The note cosigned last for that tree; None if there is none."""
        return self._notes.get(origin)

    def known(self, origin: str) -> Checkpoint | None:
        """The checkpoint cosigned last for that tree; None if there is none."""
        note = self._notes.get(origin)
        return None if note is None else parse_checkpoint(note.text)

    @property
    def trees(self) -> int:
        """How many trees are known."""
        return len(self._notes)

    def remember(self, origin: str, note: SignedNote) -> None:
        """Once this returned, `note` is what was cosigned last, also after a loss of power.

        Raises Rejected if there are more trees than a witness keeps.
        """
        if origin not in self._notes and len(self._notes) >= TREES_MAX:
            raise Rejected(f"more than {TREES_MAX} trees")
        write_durably(self._directory / _file_name(origin), note.encode())
        self._notes[origin] = note

    def _load(self, path: Path) -> None:
        try:
            with path.open("rb") as stream:
                note = parse_note(stream.read(NOTE_BYTES_MAX + 1))
            origin = parse_checkpoint(note.text).origin
        except Rejected:
            origin = ""
        if not origin or _file_name(origin) != path.name:
            raise Fatal(
                f"{path} 已损坏，请从备份恢复：没有记忆的见证人会为任何树背书。"
                f" {path} is damaged: restore it from backup. A witness without memory would vouch"
                " for any tree."
            )
        self._notes[origin] = note


def _file_name(origin: str) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()[:32] + _SUFFIX
