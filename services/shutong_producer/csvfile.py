"""Publishes a CSV or NDJSON file over HTTP: the client side of `shutong publish FILE`.

Goes on where it stopped, after a crash too: event ids are stable, so what was sent without an
answer is sent again and taken once. Of a corrected file only rows not accepted before are sent.
Order is kept: one request at a time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2

from shutong_core.domain.reasons import Reason
from shutong_core.wire.csvrows import CsvRejected
from shutong_producer.failpoint import Failpoint, no_failpoint
from shutong_producer.fileclient import BusClient, OnFault, no_word
from shutong_producer.filememory import Lineage, RowMemory
from shutong_producer.fileprogress import Position, Report, read_position, write_position
from shutong_producer.filerows import FileRow, Reading, file_digest, file_rows, kind_of_file

BATCH_RECORDS = 500
#: A request stays far below the service's limit and is quick to repeat.
BATCH_BYTES_MAX = 1024 * 1024
PATIENCE_S = 30.0
_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """After each answer: lines settled, records taken, refused and known, bytes read."""

    line: int
    accepted: int
    refused: int
    known: int
    read_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Published:
    """What came of the whole file; `report` lists the refused rows, None if there are none.

    `known` rows were accepted before with an earlier version of the file and were not sent;
    `sent` counts the rows this run sent, of all it may be none.
    """

    accepted: int
    refused: int
    report: Path | None
    known: int = 0
    sent: int = 0


async def publish_file(
    path: Path,
    dataset: str,
    url: str,
    key: str,
    *,
    id_column: str | None = None,
    operation: str | None = None,
    state: Path | None = None,
    report: Path | None = None,
    batch_records: int = BATCH_RECORDS,
    patience_s: float = PATIENCE_S,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_fault: OnFault = no_word,
    failpoint: Failpoint = no_failpoint,
    client: httpx2.AsyncClient | None = None,
) -> Published:
    """Publish every row of `path` to `dataset` at the producer service `url` with API key `key`.

    `state` (default `<file>.position`) keeps the position, beside it `<state>.rows` which rows
    were accepted; remove `state` to send every row again. `on_fault` hears once of each passing
    fault that is waited out. `report` (default
    `<file>.refused.ndjson`) the refused rows. `operation` is for rows that have none. Raises
    Rejected if the file, the key or the dataset is wrong, Retryable if the bus stays away for
    `patience_s` seconds: call again to go on.
    """
    kind = kind_of_file(path)
    digest = await asyncio.to_thread(file_digest, path)
    url = url.rstrip("/")
    state = state or path.with_name(f"{path.name}.position")
    report = report or path.with_name(f"{path.name}.refused.ndjson")
    position = read_position(state, digest, dataset, url)
    async with _http(client) as http:
        bus = BusClient(http, url, key, dataset, patience_s, on_fault)
        fields = await bus.fields()
        reading = Reading(path, kind, fields, id_column, operation)
        memory = RowMemory(
            state.with_name(f"{state.name}.rows"),
            Lineage(digest, dataset, url, digest),
            position.rows_bytes if state.exists() else None,
        )
        run = _Run(bus, state, Report(report, position.report_bytes), memory, position, on_progress)
        await run.publish(reading, batch_records, failpoint)
    done = run.position
    found = report if done.refused else None
    return Published(done.accepted, done.refused, found, done.known, run.sent)


@asynccontextmanager
async def _http(given: httpx2.AsyncClient | None) -> AsyncIterator[httpx2.AsyncClient]:
    if given is not None:
        yield given
        return
    async with httpx2.AsyncClient(timeout=_ANSWER_S) as made:
        yield made


class _Run:
    """One pass over the file from a position."""

    def __init__(
        self,
        bus: BusClient,
        state: Path,
        report: Report,
        memory: RowMemory,
        position: Position,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._bus = bus
        self._state = state
        self._report = report
        self._memory = memory
        self._tell = on_progress
        self._total_bytes = 0
        self.sent = 0
        self.position = replace(position, report_bytes=report.length)

    async def publish(self, reading: Reading, batch_records: int, failpoint: Failpoint) -> None:
        """Send what is left, batch by batch."""
        self._total_bytes = reading.path.stat().st_size
        batch = _Batch()
        begun = False
        try:
            for row in file_rows(reading):
                number = self._memory.meet(row.digest) if row.entry is not None else 0
                if row.line <= self.position.line:
                    continue
                self._put(batch, row, number)
                if len(batch.rows) >= batch_records or batch.size >= BATCH_BYTES_MAX:
                    if begun:
                        failpoint("between-batches")
                    await self._settle(batch, failpoint)
                    batch, begun = _Batch(), True
        except CsvRejected as error:
            await self._settle(batch, failpoint)
            self._report.add([_fault(error.line, None, Reason.BAD_REQUEST, error.zh, error.en)])
            raise
        await self._settle(batch, failpoint)

    def _put(self, batch: _Batch, row: FileRow, number: int | None) -> None:
        """Put a row in with its id, or as known if it was accepted before (number None)."""
        if number is None:
            batch.add_known(row)
            return
        if row.entry is not None and row.entry.get("id") is None:
            made = self._memory.id_of(row.digest, number, row.line)
            row = replace(row, entry={**row.entry, "id": made})
        batch.add(row, remember=number > 0)

    async def _settle(self, batch: _Batch, failpoint: Failpoint) -> None:
        """Send a batch, report its refusals, then keep the position: in this order."""
        if not batch.rows:
            return
        results = await self._bus.post(batch.body(), len(batch.sent)) if batch.sent else []
        failpoint("after-ack")
        faults = [
            _fault(row.line, None, Reason.BAD_REQUEST, row.zh, row.en) for row in batch.unreadable
        ]
        for row, result in zip(batch.sent, results, strict=True):
            faults += _faults(row.line, result)
        faults.sort(key=lambda each: int(each["line"]))
        self._report.add(faults)
        taken = [
            row
            for row, result in zip(batch.sent, results, strict=True)
            if result.get("outcome") == "accepted"
        ]
        self._memory.add(
            [row.digest for row in taken if row.line in batch.remembered],
            [row.digest for row in batch.known],
        )
        self.sent += len(batch.sent)
        last = batch.rows[-1]
        self.position = replace(
            self.position,
            line=last.line,
            accepted=self.position.accepted + len(taken),
            refused=self.position.refused + len(batch.rows) - len(taken) - len(batch.known),
            known=self.position.known + len(batch.known),
            report_bytes=self._report.length,
            rows_bytes=self._memory.length,
        )
        write_position(self._state, self.position)
        done = self.position
        self._tell(
            Progress(
                line=done.line,
                accepted=done.accepted,
                refused=done.refused,
                known=done.known,
                read_bytes=last.read_bytes,
                total_bytes=self._total_bytes,
            )
        )


class _Batch:
    """Rows that are settled together; those that cannot be read or are known are not sent."""

    def __init__(self) -> None:
        self.rows: list[FileRow] = []
        self.sent: list[FileRow] = []
        self.unreadable: list[FileRow] = []
        self.known: list[FileRow] = []
        self.remembered: set[int] = set()
        self.size = 0
        self._lines: list[bytes] = []

    def add_known(self, row: FileRow) -> None:
        """Put in a row that was accepted before."""
        self.rows.append(row)
        self.known.append(row)

    def add(self, row: FileRow, *, remember: bool) -> None:
        """Put a row in; `remember` it if it is accepted."""
        self.rows.append(row)
        if row.entry is None:
            self.unreadable.append(row)
            return
        line = json.dumps(row.entry, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
        self.sent.append(row)
        if remember:
            self.remembered.add(row.line)
        self._lines.append(line + b"\n")
        self.size += len(line) + 1

    def body(self) -> bytes:
        """The NDJSON of the rows to send."""
        return b"".join(self._lines)


def _faults(line: int, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The report's rows for one refused record."""
    if result.get("outcome") == "accepted":
        return []
    told = result.get("problems") or [result.get("problem") or {}]
    return [
        {
            "line": line,
            "id": result.get("id"),
            **{name: each.get(name, "") for name in ("reason", "path", "zh", "en")},
        }
        for each in told
    ]


def _fault(line: int, event_id: str | None, reason: Reason, zh: str, en: str) -> dict[str, Any]:
    return {
        "line": line,
        "id": event_id,
        "reason": reason.name,
        "path": "",
        "zh": zh,
        "en": en,
    }
