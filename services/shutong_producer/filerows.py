"""The rows of a file to publish, CSV or NDJSON: entries with line numbers, or what is wrong.

A row's digest covers all it says, so that the same row is known again in a corrected file. An id
stands in the row, or in a column that is named; else the caller gives one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from shutong_core.domain.errors import Rejected
from shutong_core.domain.schemaview import FieldType
from shutong_core.wire import strictjson
from shutong_core.wire.csvrows import LINE_BYTES_MAX, csv_rows
from shutong_producer.filememory import DIGEST_BYTES

Kind = Literal["csv", "ndjson"]
_KINDS: Mapping[str, Kind] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_MEMBERS = frozenset({"id", "operation", "data"})
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row: `entry` as the producer service takes it, or `zh` and `en` why there is none.

    `line` (from 1) is where it starts; `read_bytes` how far the file was read by then; `digest`
    is of all that the entry says.
    """

    line: int
    read_bytes: int
    entry: Mapping[str, Any] | None = None
    zh: str = ""
    en: str = ""
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a file: kind, the items of its dataset, where ids and operation are."""

    path: Path
    kind: Kind
    fields: Mapping[str, FieldType]
    id_column: str | None = None
    operation: str | None = None


def kind_of_file(path: Path) -> Kind:
    """The kind by the name's end. Raises Rejected."""
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise Rejected(
            f"{path.name}：文件名应以 .csv、.ndjson 或 .jsonl 结尾。"
            f" {path.name}: the name must end in .csv, .ndjson or .jsonl."
        )
    return kind


def file_digest(path: Path) -> str:
    """SHA-256 of the file in hexadecimal. Raises Rejected if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Rejected(
            f"{path}：无法读取（{error.strerror}）。 {path}: cannot be read ({error.strerror})."
        ) from error


def file_rows(reading: Reading) -> Iterator[FileRow]:
    """The rows from the start. Raises CsvRejected, a Rejected, where CSV cannot be read on."""
    with reading.path.open("rb", buffering=_BLOCK_BYTES) as file:
        yield from _csv(file, reading) if reading.kind == "csv" else _ndjson(file, reading)


def _csv(file: IO[bytes], reading: Reading) -> Iterator[FileRow]:
    lines = iter(partial(file.readline, LINE_BYTES_MAX + 1), b"")
    for row in csv_rows(lines, reading.fields, reading.id_column):
        if row.problem is not None:
            yield FileRow(row.line, file.tell(), zh=row.problem.zh, en=row.problem.en)
        else:
            yield _row(reading, row.line, file.tell(), {"data": dict(row.values)})


def _ndjson(file: IO[bytes], reading: Reading) -> Iterator[FileRow]:
    number = 0
    while raw := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(raw) > LINE_BYTES_MAX and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LINE_BYTES_MAX + 1)
            size = f"{LINE_BYTES_MAX // 1024} KiB"
            yield FileRow(number, file.tell(), None, f"超过 {size}", f"longer than {size}")
        elif raw.strip():
            yield _json_row(reading, number, file.tell(), raw)


def _json_row(reading: Reading, line: int, at: int, raw: bytes) -> FileRow:
    try:
        value = strictjson.loads(raw.rstrip(b"\r\n"))
    except strictjson.NotJson as error:
        zh, en = f"不是合格的 JSON：{error.zh}", f"not proper JSON: {error.en}"
        return FileRow(line, at, None, zh, en)
    if not isinstance(value, dict):
        return FileRow(line, at, None, "不是 JSON 对象", "not a JSON object")
    # A line is an event with `data`, or the bare items.
    whole = "data" in value and value.keys() <= _MEMBERS
    return _row(reading, line, at, value if whole else {"data": value})


def _row(reading: Reading, line: int, at: int, entry: dict[str, Any]) -> FileRow:
    if entry.get("id") is None:
        column = reading.id_column
        if column is not None:
            data = entry["data"]
            value = data.get(column) if isinstance(data, dict) else None
            if value is None or isinstance(value, dict | list):
                return FileRow(
                    line, at, None, f"编号列 {column} 为空", f"the id column {column} is empty"
                )
            entry["id"] = str(value)
            if column not in reading.fields:  # an id beside the items, not one of them
                del data[column]
    if reading.operation is not None and entry.get("operation") is None:
        entry["operation"] = reading.operation
    said = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
    return FileRow(line, at, entry, digest=hashlib.sha256(said).digest()[:DIGEST_BYTES])
