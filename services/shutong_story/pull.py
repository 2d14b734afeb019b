"""The subscribing agencies: each pulls its own grants over HTTP and countersigns what it read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2

from shutong_core.domain.errors import Rejected
from shutong_story.calls import Answer, Endpoints, call
from shutong_story.ledger import Ledger
from shutong_story.plan import Plan, Reader
from shutong_story.progress import OnProgress, PagePulled, ReaderRefused, ResidentArrived

PAGE_RECORDS = 1000
#: How long the consumer service may hold a request that has nothing to give.
WAIT_MS = 2000
PATIENCE_S = 120.0
#: A reader that gets nothing because its grant is stopped asks again after this time.
REFUSED_WAIT_S = 5.0
_CONNECTIONS_MAX = 64
_PERSON_ITEMS = ("id_number", "certno")


def reader_id(reader: Reader) -> str:
    """What the ledger calls a reader: its grant, for a class grant with the territory."""
    return reader.grant if reader.territory is None else f"{reader.grant}@{reader.territory}"


async def pull_all(
    plan: Plan,
    endpoints: Endpoints,
    keys: Mapping[str, str],
    on_progress: OnProgress,
    ledger: Ledger,
    stop: asyncio.Event,
    *,
    client: httpx2.AsyncClient | None = None,
    wait_ms: int = WAIT_MS,
) -> Mapping[str, int]:
    """Pull for every reader of `plan` until `stop`; records by `reader_id`, over all runs.

    After `stop` each reader goes on to the end of its grant, so that nothing that lies ready is
    left. Raises KeyError for a system without key and, in an ExceptionGroup, Retryable when the
    bus stays away for PATIENCE_S, Rejected when an answer cannot be understood.
    """
    limits = httpx2.Limits(max_connections=_CONNECTIONS_MAX)
    own = None if client else httpx2.AsyncClient(limits=limits, timeout=30.0 + wait_ms / 1000)
    http = client or own
    if http is None:
        raise RuntimeError("no client")
    try:
        async with asyncio.TaskGroup() as tasks:
            for reader in plan.readers:
                one = _Puller(plan, endpoints, keys[reader.system], on_progress, ledger, http)
                tasks.create_task(one.pull(reader, stop, wait_ms))
    finally:
        if own is not None:
            await own.aclose()
    return {reader_id(r): ledger.reader(reader_id(r)).records for r in plan.readers}


class _Puller:
    """One agency's loop over one grant."""

    def __init__(
        self,
        plan: Plan,
        endpoints: Endpoints,
        key: str,
        on_progress: OnProgress,
        ledger: Ledger,
        http: httpx2.AsyncClient,
    ) -> None:
        self._resident = plan.resident["id_number"]
        self._base = endpoints.consumer
        self._key = key
        self._tell = on_progress
        self._ledger = ledger
        self._http = http

    async def pull(self, reader: Reader, stop: asyncio.Event, wait_ms: int) -> None:
        """Page after page until told to stop and nothing is left."""
        refused = ""
        while True:
            stopping = stop.is_set()
            answer = await self._page(reader, 0 if stopping else wait_ms)
            if answer.ok:
                refused = ""
                taken = await self._take(reader, answer)
                # An empty page may only mean that the bus had not read that far yet.
                if stopping and not taken and answer.body.get("at_end") is True:
                    return
                continue
            if answer.reason != refused or not refused:
                refused = answer.reason or f"HTTP_{answer.status}"
                self._tell(ReaderRefused(reader, answer.status, refused))
            if stopping:
                return
            await _either(stop, REFUSED_WAIT_S)

    async def _page(self, reader: Reader, wait_ms: int) -> Answer:
        cursor = self._ledger.reader(reader_id(reader)).cursor
        params: dict[str, Any] = {"limit": PAGE_RECORDS, "wait_ms": wait_ms}
        if cursor is not None:
            params["cursor"] = cursor
        return await call(
            self._http,
            "GET",
            f"{self._base}/v1/grants/{reader.grant}/records",
            self._key,
            patience_s=PATIENCE_S,
            params=params,
        )

    async def _take(self, reader: Reader, answer: Answer) -> int:
        """Work on one page, remember it, countersign it; how many records it had."""
        records, cursor = answer.body.get("records"), answer.body.get("next_cursor")
        if not isinstance(records, list) or not isinstance(cursor, str):
            raise Rejected(f"the page of {reader.grant} has no records or no next_cursor")
        position = self._ledger.reader(reader_id(reader))
        now = asyncio.get_running_loop().time()
        for record in records:
            self._notice(reader, record, now)
        position.cursor = cursor
        position.records += len(records)
        if records:
            self._ledger.save()
            self._tell(PagePulled(reader, len(records), position.records))
            await self._countersign(reader, cursor)
        return len(records)

    def _notice(self, reader: Reader, record: dict[str, Any], now: float) -> None:
        data = record.get("data") or {}
        if self._resident in (data.get(item) for item in _PERSON_ITEMS):
            operation = str(record.get("operation") or "put")
            self._tell(ResidentArrived(reader, operation, tuple(data), now))

    async def _countersign(self, reader: Reader, cursor: str) -> None:
        answer = await call(
            self._http,
            "POST",
            f"{self._base}/v1/grants/{reader.grant}/receipts",
            self._key,
            patience_s=PATIENCE_S,
            json={"cursor": cursor},
        )
        if answer.ok:
            self._ledger.reader(reader_id(reader)).receipts += 1


async def _either(stop: asyncio.Event, seconds: float) -> None:
    """Wait for `stop`, at most `seconds`."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
