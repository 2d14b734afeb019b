"""The publishing departments: each system sends its own files, in order, over HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from shutong_core.domain.errors import Rejected
from shutong_story.calls import Answer, Endpoints, call, reason_in
from shutong_story.faults import NDJSON
from shutong_story.ledger import Ledger
from shutong_story.plan import BadFile, InputFile, Plan
from shutong_story.progress import BadSent, BatchPublished, OnProgress, ResidentSent, StepBegins

BAD_STEP = 6
#: A request stays far below what one answer's receipts and any server's body limit allow.
BATCH_BYTES_MAX = 512 * 1024
PATIENCE_S = 120.0
_CONNECTIONS_MAX = 16


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to publish.

    `records_per_s` is of all files together (None: as fast as the bus takes them); files share it
    by size, so that all of them last as long. Step n begins `step_delay_s` × (n − 1) after the
    first. `batch_records` go into one request.
    """

    records_per_s: float | None
    batch_records: int
    step_delay_s: float


FULL_SPEED = Pace(records_per_s=None, batch_records=500, step_delay_s=0.0)
SLOW = Pace(records_per_s=60.0, batch_records=10, step_delay_s=8.0)


@dataclass(slots=True)
class Published:
    """What came of it, over all runs of this ledger: records taken and refused at the door."""

    accepted: Counter[str] = field(default_factory=Counter)  # by dataset
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # by dataset and reason


async def publish_all(
    plan: Plan,
    endpoints: Endpoints,
    keys: Mapping[str, str],
    pace: Pace,
    on_progress: OnProgress,
    ledger: Ledger,
    *,
    client: httpx2.AsyncClient | None = None,
) -> Published:
    """Publish every file and every bad case of `plan` from where `ledger` stands.

    `keys` are API keys by system id; `ledger` is the same object that `pull_all` gets. Cancelling
    is safe at any point. Raises (in an ExceptionGroup) Retryable when the bus stays away for
    PATIENCE_S, Rejected when an answer cannot be understood, KeyError for a system without key.
    """
    async with _client(client) as http:
        run = _Run(plan, endpoints, keys, pace, on_progress, ledger, http)
        async with asyncio.TaskGroup() as tasks:
            for entry in plan.inputs:
                tasks.create_task(run.publish_file(entry))
            for case in plan.bad:
                tasks.create_task(run.publish_case(case))
    return _totals(plan, ledger)


@asynccontextmanager
async def _client(given: httpx2.AsyncClient | None) -> AsyncIterator[httpx2.AsyncClient]:
    if given is not None:
        yield given
        return
    limits = httpx2.Limits(max_connections=_CONNECTIONS_MAX)
    async with httpx2.AsyncClient(limits=limits, timeout=30.0) as made:
        yield made


class _Run:
    """One run over all files; a task per file, so that order within a file is kept."""

    def __init__(
        self,
        plan: Plan,
        endpoints: Endpoints,
        keys: Mapping[str, str],
        pace: Pace,
        on_progress: OnProgress,
        ledger: Ledger,
        http: httpx2.AsyncClient,
    ) -> None:
        self._plan = plan
        self._endpoints = endpoints
        self._keys = keys
        self._pace = pace
        self._tell = on_progress
        self._ledger = ledger
        self._http = http
        self._total = sum(entry.records for entry in plan.inputs)
        self._begun_steps: set[int] = set()
        # Bad cases repeat or reuse the ids of a file's first records: those must be there before.
        self._opened = {(entry.dataset, entry.system): asyncio.Event() for entry in plan.inputs}

    async def publish_file(self, entry: InputFile) -> None:
        """Publish what is left of one file."""
        position = self._ledger.file(entry.path)
        opened = self._opened[entry.dataset, entry.system]
        if position.offset:
            opened.set()
        await self._begin(entry.step)
        with (self._plan.directory / entry.path).open("rb") as file:
            file.seek(position.offset)
            while batch := _next_batch(file.readline, self._pace.batch_records):
                began = asyncio.get_running_loop().time()
                await self._publish_batch(entry, batch)
                opened.set()
                await self._keep_pace(entry, len(batch), began)
        opened.set()

    async def publish_case(self, case: BadFile) -> None:
        """Send one case of bad records, each in a request of its own."""
        if case.name in self._ledger.bad:
            return
        opened = self._opened.get((case.dataset, case.system))
        if opened is not None:
            await opened.wait()
        await self._begin(BAD_STEP)
        raw = (self._plan.directory / case.path).read_bytes()
        bodies = raw.splitlines(keepends=True) if case.content_type == NDJSON else [raw]
        accepted, refused = 0, Counter[str]()
        for body in bodies:
            taken, reasons = await self._send(
                case.dataset, case.system, body, case.content_type, records=1
            )
            accepted += taken
            refused += reasons
        self._ledger.bad[case.name] = {"accepted": accepted, **refused}
        self._ledger.save()
        self._tell(BadSent(case, accepted, dict(refused)))

    async def _begin(self, step: int) -> None:
        await asyncio.sleep(self._pace.step_delay_s * (step - 1))
        if step not in self._begun_steps:
            self._begun_steps.add(step)
            self._tell(StepBegins(step))

    async def _publish_batch(self, entry: InputFile, batch: list[bytes]) -> None:
        body = b"".join(batch)
        if self._plan.resident["id_number"].encode() in body:
            self._tell(ResidentSent(entry, asyncio.get_running_loop().time()))
        accepted, refused = await self._send(
            entry.dataset, entry.system, body, NDJSON, records=len(batch)
        )
        position = self._ledger.file(entry.path)
        position.offset += len(body)
        position.accepted += accepted
        position.refused += refused.total()
        self._ledger.save()
        self._tell(BatchPublished(entry, accepted, dict(refused)))

    async def _keep_pace(self, entry: InputFile, records: int, began: float) -> None:
        if self._pace.records_per_s is None:
            return
        share = self._pace.records_per_s * entry.records / self._total
        used = asyncio.get_running_loop().time() - began
        await asyncio.sleep(max(0.0, records / share - used))

    async def _send(
        self, dataset: str, system: str, body: bytes, content_type: str, *, records: int
    ) -> tuple[int, Counter[str]]:
        answer = await call(
            self._http,
            "POST",
            f"{self._endpoints.producer}/v1/datasets/{dataset}/records",
            self._keys[system],
            patience_s=PATIENCE_S,
            params={"mode": "per-record"},
            headers={"Content-Type": content_type},
            content=body,
        )
        return _outcome(answer, records)


def _next_batch(readline: Any, records_max: int) -> list[bytes]:
    """The next lines of a file, bounded in number and bytes; empty at its end."""
    batch: list[bytes] = []
    size = 0
    while len(batch) < records_max and size < BATCH_BYTES_MAX:
        line: bytes = readline()
        if not line:
            break
        batch.append(line)
        size += len(line)
    return batch


def _outcome(answer: Answer, records: int) -> tuple[int, Counter[str]]:
    """How many of a request's records were taken; reasons of the others."""
    results = answer.body.get("results")
    if isinstance(results, list) and len(results) == records:
        refused = Counter(_refusal(result) for result in results if not _accepted(result))
        return records - refused.total(), refused
    if answer.ok:
        raise Rejected("the producer service's answer does not tell each record's result")
    # refused as a whole: no such right, too large, not readable
    return 0, Counter({answer.reason or f"HTTP_{answer.status}": records})


def _accepted(result: Any) -> bool:
    return isinstance(result, dict) and "problem" not in result and "offset" in result


def _refusal(result: Any) -> str:
    return reason_in(result) or "UNKNOWN"


def _totals(plan: Plan, ledger: Ledger) -> Published:
    result = Published()
    for entry in plan.inputs:
        result.accepted[entry.dataset] += ledger.file(entry.path).accepted
    for case in plan.bad:
        for name, count in ledger.bad.get(case.name, {}).items():
            if name == "accepted":
                result.accepted[case.dataset] += count
            else:
                result.refused[case.dataset, name] += count
    return result
