"""What a request holds: its body taken apart into entries, or what is wrong with each.

An entry is not yet a record: nothing here knows a schema. Rule: JSON means one thing (no key
twice, UTF-8, bounded nesting), sizes are bounded before anything is parsed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shutong_core.domain.reasons import Reason
from shutong_core.wire import strictjson
from shutong_core.wire.headers import is_event_id
from shutong_core.wire.jsonmap import Problem, shown_name

JSON, NDJSON, AVRO = "application/json", "application/x-ndjson", "application/avro"
OPERATIONS = ("put", "correct", "delete")
_MEMBERS = frozenset({"id", "operation", "data"})
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as it was sent: `data` parsed JSON, or `framed` Avro; one of them is set.

    `digest` is the SHA-256 (hexadecimal) of the bytes received, see the intake receipt.
    """

    index: int
    digest: str
    id: str | None = None
    operation: str | None = None
    data: Any = None
    framed: bytes | None = None


@dataclass(frozen=True, slots=True)
class Faulty:
    """An entry or record that is refused, with all its faults in order; at least one."""

    index: int
    digest: str
    id: str | None
    problems: tuple[Problem, ...]


def fault(reason: Reason, path: str = "", zh: str = "", en: str = "") -> Problem:
    """A problem that says the reason's own text unless there is a better one."""
    return Problem(path, reason, zh or reason.zh, en or reason.en)


def digest_of(raw: bytes) -> str:
    """SHA-256 of the bytes received, in hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


def entry_of_json(index: int, value: Any, digest: str) -> Entry | Faulty:
    """The entry in one parsed object `{"id", "operation", "data"}`."""
    if not isinstance(value, dict):
        return Faulty(index, digest, None, (_not_an_entry(value),))
    found: list[Problem] = []
    event_id, operation = value.get("id"), value.get("operation")
    if event_id is not None and not (isinstance(event_id, str) and is_event_id(event_id)):
        found.append(fault(Reason.BAD_EVENT_ID, "id"))
        event_id = None
    if operation is not None and operation not in OPERATIONS:
        found.append(fault(Reason.UNKNOWN_OPERATION, "operation"))
    if "data" not in value:
        found.append(fault(Reason.BAD_REQUEST, "data", "缺少 data", "data is missing"))
    if extra := [name for name in value if name not in _MEMBERS]:
        found.append(_extra(extra))
    if found:
        return Faulty(index, digest, event_id, tuple(found))
    return Entry(index, digest, event_id, operation, data=value["data"])


def entry_of_line(index: int, line: bytes, record_bytes_max: int) -> Entry | Faulty:
    """The entry in one line of NDJSON."""
    digest = digest_of(line)
    if len(line) > record_bytes_max:
        return Faulty(index, digest, None, (too_large(record_bytes_max),))
    try:
        value = strictjson.loads(line)
    except strictjson.NotJson as error:
        return Faulty(index, digest, None, (unreadable(error),))
    return entry_of_json(index, value, digest)


def entries_of_document(body: bytes, records_max: int) -> Iterator[Entry | Faulty]:
    """The entries of an application/json body: one object, or `{"records": [...]}`.

    Raises WrongDocument if the body is no such JSON, OverflowError if it holds too many records.
    """
    try:
        value = strictjson.loads(body)
    except strictjson.NotJson as error:
        raise WrongDocument(unreadable(error)) from None
    if isinstance(value, list):
        raise WrongDocument(_not_an_entry(value))
    digest = digest_of(body)
    if not (isinstance(value, dict) and "records" in value):
        yield entry_of_json(0, value, digest)
        return
    records = value["records"]
    if extra := [name for name in value if name != "records"]:
        zh, en = _named(extra)
        raise WrongDocument(
            fault(
                Reason.BAD_REQUEST,
                "",
                f"除 records 外不应有 {zh}",
                f"nothing may stand beside records: remove {en}",
            )
        )
    if not isinstance(records, list):
        raise WrongDocument(
            fault(Reason.BAD_REQUEST, "records", "records 应为列表", "records is a list of records")
        )
    if len(records) > records_max:
        raise OverflowError(f"more than {records_max} records")
    for index, each in enumerate(records):
        yield entry_of_json(index, each, digest)


def entry_of_avro(body: bytes, event_id: str | None, operation: str | None) -> Entry | Faulty:
    """The entry of an application/avro body: one framed record; id and operation from headers."""
    digest = digest_of(body)
    found: list[Problem] = []
    if event_id is not None and not is_event_id(event_id):
        found.append(fault(Reason.BAD_EVENT_ID, "X-Event-Id"))
        event_id = None
    if operation is not None and operation not in OPERATIONS:
        found.append(fault(Reason.UNKNOWN_OPERATION, "X-Operation"))
    if found:
        return Faulty(0, digest, event_id, tuple(found))
    return Entry(0, digest, event_id, operation, framed=body)


def too_large(bytes_max: int) -> Problem:
    """A record above the size limit."""
    size = f"{bytes_max // 1024} KiB"
    return fault(Reason.TOO_LARGE, "", f"记录超过 {size}", f"the record is larger than {size}")


class WrongDocument(ValueError):  # noqa: N818 - becomes a refused request
    """An application/json body that holds no records; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.en)
        self.problem = problem


def unreadable(error: strictjson.NotJson) -> Problem:
    """Text that is not JSON as it must be; the error quotes nothing of it."""
    zh, en = f"不是合格的 JSON：{error.zh}", f"not proper JSON: {error.en}"
    return fault(Reason.BAD_REQUEST, "", zh, en)


def _not_an_entry(value: Any) -> Problem:
    if isinstance(value, list):
        return fault(
            Reason.BAD_REQUEST,
            "",
            f'不接受数组：请每行一个对象（{NDJSON}），或写成 {{"records": […]}}',
            f'an array is not taken: one object per line ({NDJSON}), or {{"records": […]}}',
        )
    return fault(
        Reason.BAD_REQUEST,
        "",
        '应为对象 {"id", "operation", "data"}',
        'must be an object {"id", "operation", "data"}',
    )


def _extra(names: list[str]) -> Problem:
    zh, en = _named(names)
    return fault(
        Reason.BAD_REQUEST,
        "",
        f"不应有 {zh}：只接受 id、operation、data，信息项请写在 data 中",
        f"unknown: {en}; only id, operation and data are taken, items go into data",
    )


def _named(names: list[str]) -> tuple[str, str]:
    """The first names, fit for a message in Chinese and in English."""
    shown = [shown_name(name) for name in names[:_NAMES_SHOWN]]
    more = ["…"] if len(names) > _NAMES_SHOWN else []
    return "、".join(shown + more), ", ".join(shown + more)


class LineCutter:
    """Cuts a stream into lines with bounded memory; an overlong line is told, not kept.

    `feed` and `end` give (line without its end, its digest): the line is None where it was longer
    than `line_bytes_max`, then only the digest is known. Blank lines are skipped.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self._max = line_bytes_max
        self._held = bytearray()
        self._overlong: Any = None  # running hash of a line that is being skipped

    @property
    def held_bytes(self) -> int:
        """Bytes kept of the unfinished line."""
        return len(self._held)

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes | None, str]]:
        """The lines that end in `chunk`."""
        start = 0
        while (at := chunk.find(b"\n", start)) >= 0:
            yield from self._finish(chunk[start:at])
            start = at + 1
        self._grow(chunk[start:])

    def end(self) -> Iterator[tuple[bytes | None, str]]:
        """The last line, if it had no line feed."""
        yield from self._finish(b"")

    def _grow(self, part: bytes) -> None:
        if self._overlong is not None:
            self._overlong.update(part)
        elif len(self._held) + len(part) > self._max + 1:  # one more for a carriage return
            self._overlong = hashlib.sha256(self._held)
            self._overlong.update(part)
            self._held = bytearray()
        else:
            self._held += part

    def _finish(self, part: bytes) -> Iterator[tuple[bytes | None, str]]:
        self._grow(part)
        if self._overlong is not None:
            digest = self._overlong.hexdigest()
            self._overlong = None
            yield None, digest
            return
        line = bytes(self._held).removesuffix(b"\r")
        self._held = bytearray()
        if line.strip(b" \t\r"):
            yield line, digest_of(line)
