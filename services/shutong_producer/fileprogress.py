"""How far a file was published, and the report of what was refused; both survive a crash.

The position is one small JSON file that is replaced in one step. The report is NDJSON; the
position says how long it was, so what was reported after it is cut off and reported again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shutong_core.domain.errors import Rejected


@dataclass(frozen=True, slots=True)
class Position:
    """Everything up to and including `line` is settled.

    `accepted` and `refused` count rows sent, `known` those accepted before with an earlier version
    of the file. `report_bytes` and `rows_bytes` are the lengths of the report and the row memory.
    """

    file_digest: str
    dataset: str
    line: int = 0
    accepted: int = 0
    refused: int = 0
    report_bytes: int = 0
    url: str = ""
    known: int = 0
    rows_bytes: int = 0


def read_position(path: Path, file_digest: str, dataset: str, url: str = "") -> Position:
    """The position kept for this content, dataset and bus; the start if there is none.

    Raises Rejected if the file holds something else: it is not ours to overwrite.
    """
    fresh = Position(file_digest, dataset, url=url)
    try:
        kept = Position(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return fresh
    except (OSError, ValueError, TypeError) as error:
        raise Rejected(
            f"{path} 不是发布进度文件，请移走或另行指定。"
            f" {path} does not hold a position: move it away or name another file."
        ) from error
    # A changed file is another file: its lines mean other records.
    same = (kept.file_digest, kept.dataset, kept.url) == (file_digest, dataset, url)
    return kept if same else fresh


def write_position(path: Path, position: Position) -> None:
    """Replace the file in one step, on disk before it has its name."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(asdict(position), file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


class Report:
    """The NDJSON file of refused rows: line, id, reason, path, zh, en; made when there is one."""

    def __init__(self, path: Path, length: int) -> None:
        """Cuts off what was written after the position was kept."""
        self._path = path
        self.length = length
        if path.exists():
            with path.open("r+b") as file:
                self.length = min(length, file.seek(0, os.SEEK_END))
                file.truncate(self.length)
        else:
            self.length = 0

    def add(self, faults: Iterable[Mapping[str, Any]]) -> None:
        """Append rows; on disk when this returns."""
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in faults).encode()
        if not text:
            return
        with self._path.open("ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.length += len(text)
