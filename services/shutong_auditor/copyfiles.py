"""The files of an audit copy: what a verification needs of a bus, in one directory.

Everything is stored as Kafka stores it, in frames with a length; docs/formats/copies.md has the
form. What is read is not believed: a frame that is cut off or too long is Rejected with its place.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shutong_auditor.treereader import TreeReader
from shutong_core.audit.chain import SEGMENT_HEADER
from shutong_core.domain.errors import Rejected

FORMAT = "shutong-copy-v1"
ABOUT = "copy.json"
#: No message of the bus is larger than 2 MiB.
PART_BYTES_MAX = 2 * 1024 * 1024 + 64 * 1024
_ABSENT = b"\xff\xff\xff\xff"
_NONE = 0xFFFFFFFF
_SIZE = struct.Struct(">I")
_SIZES = struct.Struct(">II")
_ABOUT_BYTES_MAX = 16 * 1024 * 1024

#: Records of one run of a delivery file, at most.
RUN_RECORDS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class About:
    """What the copy is of; `late`: files that do not begin with the topic's first record."""

    cluster: str
    lanes: int
    late: frozenset[str] = frozenset()

    def encode(self) -> bytes:
        """The file copy.json."""
        table = {
            "format": FORMAT,
            "cluster": self.cluster,
            "lanes": self.lanes,
            "late": sorted(self.late),
        }
        return json.dumps(table, indent=1).encode() + b"\n"


class DeliveryFiles:
    """Delivery files in a directory: those of a copy, or a subscriber's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def deliveries(self) -> list[tuple[str, int]]:
        """(grant, partition) of every delivery file, ascending."""
        found = []
        for path in (self.directory / "delivery").glob("*/*.records"):
            if path.stem.isdigit() and delivery_file(path.parent.name, int(path.stem)) == str(
                path.relative_to(self.directory)
            ):
                found.append((path.parent.name, int(path.stem)))
        return sorted(found)

    def runs(self, grant: str, partition: int) -> Iterator[tuple[bytes | None, list[bytes]]]:
        """The records of a delivery file in runs: the first's segment header, if it has one, and
        the records as the chain takes them (`chain.record_bytes`); the others have no header."""
        path = self.directory / delivery_file(grant, partition)
        with _mapped(path) as data:
            mark, run, at, number, end = None, list[bytes](), 0, 0, len(data)
            size_at, sizes_at = _SIZE.unpack_from, _SIZES.unpack_from
            try:
                while at < end:
                    mark_size, key_size = sizes_at(data, at)
                    if mark_size == _NONE and run and len(run) < RUN_RECORDS_MAX:
                        start = at + 4
                    else:
                        if run:
                            yield mark, run
                        start, run, mark = at + 4, [], None
                        if mark_size != _NONE:
                            mark = data[start : start + mark_size]
                            start += mark_size
                            key_size = size_at(data, start)[0]
                    at = start + 4 if key_size == _NONE else start + 4 + key_size
                    value_size = size_at(data, at)[0]
                    at = at + 4 if value_size == _NONE else at + 4 + value_size
                    if at > end:
                        raise struct.error
                    run.append(data[start:at])
                    number += 1
            except struct.error:
                name = f"{path.parent.name}/{path.name}"
                raise Rejected(f"{name}: cut off or damaged in record {number}") from None
            if run:
                yield mark, run


class AuditCopy(DeliveryFiles):
    """Reads one copy. Raises Rejected if it is none, or where a file of it is damaged."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.about = _about(directory / ABOUT)

    def blocks(self, lane: int) -> Iterator[tuple[bytes, bytes | None]]:
        """Header and body of each block; None where the body was not kept."""
        for header, body in _frames(self.directory / block_file(lane), 2):
            yield header or b"", body

    def events(self, partition: int) -> Iterator[bytes]:
        """The events of a partition of `access`."""
        for (event,) in _frames(self.directory / event_file(partition), 1):
            yield event or b""

    def receipts(self) -> Iterator[bytes]:
        """All receipts, in order."""
        for (receipt,) in _frames(self.directory / "receipts.records", 1):
            yield receipt or b""

    def checkpoints(self) -> Iterator[tuple[bytes | None, bytes | None]]:
        """Key and value of all records of topic `checkpoints`."""
        records = _frames(self.directory / "checkpoints.records", 2)
        return ((key, value) for key, value in records)

    def tree(self, topic: str, number: int) -> TreeReader | None:
        """The tree's files; None if the copy has none."""
        directory = self.directory / "trees" / topic / str(number)
        return TreeReader(directory) if directory.is_dir() else None


def block_file(lane: int) -> str:
    """File of a lane's blocks."""
    return f"audit/{lane}.blocks"


def event_file(partition: int) -> str:
    """File of the events of a partition of `access`."""
    return f"access/{partition}.events"


def delivery_file(grant: str, partition: int) -> str:
    """File of one partition of a grant's delivery topic."""
    return f"delivery/{grant}/{partition}.records"


def write_frame(stream: BinaryIO, *parts: bytes | None) -> None:
    """One record: each part with its u32 length, 0xFFFFFFFF for none."""
    for part in parts:
        if part is None:
            stream.write(_ABSENT)
        else:
            stream.write(len(part).to_bytes(4, "big"))
            stream.write(part)


def segment_part(headers: tuple[tuple[str, bytes], ...]) -> bytes | None:
    """The part of a delivery record that holds its segment header."""
    return next((value for name, value in headers if name == SEGMENT_HEADER), None)


def _about(path: Path) -> About:
    try:
        with path.open("rb") as stream:
            table = json.loads(stream.read(_ABOUT_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        raise Rejected(
            f"{path.parent} 不是审计副本：缺少 {ABOUT}。"
            f" {path.parent} is no audit copy: {ABOUT} is missing or not JSON."
        ) from None
    if not isinstance(table, dict) or set(table) != {"format", "cluster", "lanes", "late"}:
        raise Rejected(f"{path}: format, cluster, lanes, late are needed, nothing else")
    cluster, lanes, late = table["cluster"], table["lanes"], table["late"]
    good = table["format"] == FORMAT and isinstance(cluster, str) and isinstance(late, list)
    if not good or type(lanes) is not int or not 1 <= lanes <= 1024:
        raise Rejected(f"{path}: a field of {FORMAT} is wrong")
    return About(cluster, lanes, frozenset(map(str, late)))


def _frames(path: Path, parts: int) -> Iterator[tuple[bytes | None, ...]]:
    """The records of a file, each of so many parts. Raises Rejected where one is damaged."""
    try:
        stream = path.open("rb")
    except OSError:
        raise Rejected(f"{path.name}: the file is missing") from None
    with stream:
        number = 0
        while True:
            found: list[bytes | None] = []
            for at in range(parts):
                length = stream.read(4)
                if not length and at == 0:
                    return
                found.append(_part(stream, length, path, number))
            yield tuple(found)
            number += 1


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    """A file's bytes, read as they are needed. Raises Rejected if it is not there."""
    try:
        with path.open("rb") as stream:
            if not path.stat().st_size:
                yield b""
                return
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except OSError:
        raise Rejected(f"{path.name}: the file is missing") from None


def _part(stream: BinaryIO, length: bytes, path: Path, number: int) -> bytes | None:
    if length == _ABSENT:
        return None
    size = int.from_bytes(length, "big")
    if len(length) == 4 and size <= PART_BYTES_MAX:
        data = stream.read(size)
        if len(data) == size:
            return data
    raise Rejected(f"{path.parent.name}/{path.name}: cut off or damaged in record {number}")
