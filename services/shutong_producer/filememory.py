"""Which rows of a file were accepted before, so that a corrected file sends only what is new.

Kept beside the position as a log of row digests. Rule: a row counts as accepted before only if
the version of the file published last held it; a row that went and came back is a new event.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from shutong_core.domain.errors import Rejected

#: Rows of a file that are remembered, 17 bytes each; later rows are sent with every version.
ROWS_MAX = 500_000
DIGEST_BYTES = 16
_ENTRY_BYTES = 1 + DIGEST_BYTES
#: Before this version: accepted and gone since; accepted and in the last version. In this
#: version: accepted; accepted before and not sent.
_GONE, _PRESENT, _NEW, _KEPT = b"gpnk"
_HEADER_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Lineage:
    """Whose rows a log holds: version of the file, where it went, and the first version of all."""

    file_digest: str
    dataset: str
    url: str
    origin: str
    base_bytes: int = 0


class RowMemory:
    """Rows of one version of a file; `length` is the log's length for the position to keep."""

    def __init__(self, path: Path, wanted: Lineage, length: int | None) -> None:
        """`length` is what the position says of this version, 0 for a version that only begins.

        None: no position, so nothing is remembered. Raises Rejected for a file of other content.
        """
        self._path = path
        self._gone: Counter[bytes] = Counter()
        self._present: Counter[bytes] = Counter()
        self._met: Counter[bytes] = Counter()
        self._rows = 0
        self._lineage = wanted
        self.length = 0
        if length is not None and path.exists():
            self._load(wanted, length)

    def _load(self, wanted: Lineage, length: int) -> None:
        kept, header_bytes, entries = _read(self._path)
        if (kept.dataset, kept.url) != (wanted.dataset, wanted.url):
            return
        self._lineage = Lineage(wanted.file_digest, wanted.dataset, wanted.url, kept.origin)
        base, later = entries[: kept.base_bytes], entries[kept.base_bytes :]
        gone, present = _counted(base, _GONE), _counted(base, _PRESENT)
        if kept.file_digest == wanted.file_digest:
            self._lineage = kept
            self._gone, self._present = gone, present
            self.length = max(length, header_bytes + kept.base_bytes)
            with self._path.open("r+b") as file:
                # What was written after the position was kept is settled again.
                file.truncate(self.length)
            return
        still = _counted(later, _KEPT)
        self._present = _counted(later, _NEW) + still
        self._gone = gone + present - still
        if self._gone.total() > ROWS_MAX:
            # Forgotten, so ids must be others than any given before.
            self._gone.clear()
            self._lineage = wanted

    def meet(self, digest: bytes) -> int | None:
        """The number of the event that the next row is, from 1; None if it was accepted before.

        0 for a row after the first ROWS_MAX, of which nothing is remembered.
        """
        self._rows += 1
        if self._rows > ROWS_MAX:
            return 0
        self._met[digest] += 1
        times = self._met[digest]
        return None if times <= self._present[digest] else self._gone[digest] + times

    def id_of(self, digest: bytes, number: int, line: int) -> str:
        """The id of a row that has none: the same whenever this row of this file is sent again.

        It ends in the line, so that people find a row that is refused later.
        """
        # Keyed with the digest of the whole file: an id must not give away a row's content.
        origin = self._lineage.origin if number else self._lineage.file_digest
        made = hashlib.sha256(bytes.fromhex(origin) + digest).hexdigest()[: 2 * DIGEST_BYTES]
        return f"{made}-{line}" if number == 1 else f"{made}-{line}.{number}"

    def add(self, new: Iterable[bytes], kept: Iterable[bytes]) -> None:
        """Keep the rows accepted now and those accepted before; on disk when this returns."""
        text = b"".join(
            bytes((kind,)) + digest
            for kind, digests in ((_NEW, new), (_KEPT, kept))
            for digest in digests
        )
        if not self.length:
            self._begin()
        with self._path.open("ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.length += len(text)

    def _begin(self) -> None:
        """Replace the last version's log in one step."""
        base = b"".join(
            bytes((kind,)) + digest
            for kind, digests in ((_GONE, self._gone), (_PRESENT, self._present))
            for digest in digests.elements()
        )
        told = self._lineage
        self._lineage = Lineage(told.file_digest, told.dataset, told.url, told.origin, len(base))
        header = json.dumps(asdict(self._lineage)).encode() + b"\n"
        scratch = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with scratch.open("wb") as file:
            file.write(header + base)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._path)
        self.length = len(header) + len(base)


def _read(path: Path) -> tuple[Lineage, int, bytes]:
    """Lineage, length of the header, entries. Raises Rejected."""
    try:
        with path.open("rb") as file:
            header = file.readline(_HEADER_BYTES_MAX)
            kept = Lineage(**json.loads(header))
            # Twice remembered rows of the base, and the rows of this version.
            return kept, len(header), file.read(3 * ROWS_MAX * _ENTRY_BYTES)
    except (OSError, ValueError, TypeError) as error:
        raise Rejected(
            f"{path} 不是发布进度文件，请移走。 {path} does not hold published rows: move it away."
        ) from error


def _counted(entries: bytes, kind: int) -> Counter[bytes]:
    whole = len(entries) - len(entries) % _ENTRY_BYTES
    return Counter(
        entries[at + 1 : at + _ENTRY_BYTES]
        for at in range(0, whole, _ENTRY_BYTES)
        if entries[at] == kind
    )
