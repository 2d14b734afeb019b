"""What the players have done so far, kept in one file, so that a second run goes on from there.

Written to a new file and renamed after each step that must not be repeated. A step whose answer
was lost may be sent once more, under the same event ids: the bus drops what it already has.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1


@dataclass(slots=True)
class FilePosition:
    """How far an input file is published: next byte, records taken, records refused."""

    offset: int = 0
    accepted: int = 0
    refused: int = 0


@dataclass(slots=True)
class ReadPosition:
    """How far a reader has pulled: cursor (None: from the start), records, receipts given."""

    cursor: str | None = None
    records: int = 0
    receipts: int = 0


@dataclass(slots=True)
class Ledger:
    """Positions by input file, done bad cases with what came of them, positions by reader."""

    path: Path
    files: dict[str, FilePosition] = field(default_factory=dict)
    bad: dict[str, dict[str, int]] = field(default_factory=dict)
    readers: dict[str, ReadPosition] = field(default_factory=dict)

    def file(self, path: str) -> FilePosition:
        """The position in an input file; at its start if never begun."""
        return self.files.setdefault(path, FilePosition())

    def reader(self, name: str) -> ReadPosition:
        """The position of a reader; at the start if it never read."""
        return self.readers.setdefault(name, ReadPosition())

    def save(self) -> None:
        """Put what was done on disk. Raises OSError."""
        body = {
            "format": FORMAT,
            "files": {name: _body(each) for name, each in self.files.items()},
            "bad": self.bad,
            "readers": {name: _body(each) for name, each in self.readers.items()},
        }
        new = self.path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(body, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


def open_ledger(path: Path) -> Ledger:
    """The ledger at `path`, empty if there is none. Raises ValueError if it cannot be read."""
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Ledger(path)
    if body.get("format") != FORMAT:
        raise ValueError(f"{path} is not a ledger of this version of the story")
    return Ledger(
        path,
        files={name: FilePosition(**each) for name, each in body["files"].items()},
        bad=body["bad"],
        readers={name: ReadPosition(**each) for name, each in body["readers"].items()},
    )


def _body(position: FilePosition | ReadPosition) -> dict[str, Any]:
    return {name: getattr(position, name) for name in position.__slots__}
