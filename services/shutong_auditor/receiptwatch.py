"""Follows receipts and holds each against the index: who signed other records, or more, is named.

A receipt that ends inside a block has no chain value in the audit to be compared with; those are
left to `audit verify`, which recomputes the deliveries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shutong_auditor.index.questions import chain_at, placed_up_to
from shutong_core.audit.receipts import DeliveryReceipt, Verify, parse_receipt
from shutong_core.domain.errors import Rejected
from shutong_core.runtime.consumers import reading_committed

RETRY_S = 1.0
#: Receipts that wait for the index to reach them, and for how long before they count as wrong.
WAITING_MAX = 10_000
PATIENCE_S = 120.0
#: Disagreements shown in readiness; all are logged and counted.
_SHOWN_MAX = 5
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    receipt: DeliveryReceipt
    since: float


class ReceiptWatch:
    """`start`, then `stop`."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        cluster: str,
        verify: Verify,
        engine: Engine,
        on_disagreement: Callable[[str], None],
        *,
        indexed: Callable[[], bool] = lambda: True,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`verify`: whether a trusted key of that id signed; `on_disagreement`: told the grant.

        `indexed`: whether the index has all that stood in the audit when it began.
        """
        self._client = client
        self._place = TopicPartition(topic, 0)
        self._cluster = cluster
        self._verify = verify
        self._engine = engine
        self._on_disagreement = on_disagreement
        self._indexed = indexed
        self._patience_s = patience_s
        self._next = 0
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        #: What was found, for people: the first few.
        self.disagreements: list[str] = []
        self.found = 0
        self.compared = 0
        self.not_comparable = 0

    @property
    def problem(self) -> str | None:
        """What agencies signed that the audit does not say; None if nothing."""
        if not self.found:
            return None
        return f"{self.found} receipts disagree with the audit: {'; '.join(self.disagreements)}"

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._task = asyncio.create_task(self._run(), name="receipt watch")

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, TimeoutError, SQLAlchemyError) as error:
                _log.warning("receipts cannot be followed", error_type=type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        async with reading_committed(self._client, fetch_max_wait_ms=200) as consumer:
            consumer.assign([self._place])
            first = (await consumer.beginning_offsets([self._place]))[self._place]
            consumer.seek(self._place, max(first, self._next))
            while True:
                if len(self._waiting) < WAITING_MAX:
                    found = await consumer.getmany(timeout_ms=500, max_records=500)
                    for record in found.get(self._place, ()):
                        self._take(record.offset, record.value or b"")
                    self._next = await consumer.position(self._place)
                else:
                    await asyncio.sleep(0.5)
                await asyncio.to_thread(self._compare)

    def _take(self, offset: int, value: bytes) -> None:
        if not value:
            return  # only says where the consumer service goes on
        try:
            receipt = parse_receipt(value, self._verify)
            if receipt.cluster != self._cluster:
                raise Rejected(f"receipt: it is of bus {receipt.cluster}")
        except Rejected as error:
            self._tell("", f"receipt at offset {offset}: {error}")
            return
        if receipt.territory is None:
            self._waiting.append(_Waiting(receipt, time.monotonic()))
        else:
            self.not_comparable += 1

    def _compare(self) -> None:
        """Compare what the index has reached by now."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            receipt = each.receipt
            placed = placed_up_to(self._engine, receipt.grant, receipt.lane)
            if receipt.last > placed:
                self._wait(each, placed)
                continue
            chain = chain_at(self._engine, receipt.grant, receipt.lane, receipt.last)
            if chain is None:
                self.not_comparable += 1
            elif chain.hex() == receipt.chain:
                self.compared += 1
            else:
                self._tell(
                    receipt.grant,
                    f"grant {receipt.grant} lane {receipt.lane} record {receipt.last}:"
                    f" {receipt.agency} signed chain {receipt.chain[:16]}…, the audit has"
                    f" {chain.hex()[:16]}…",
                )

    def _wait(self, each: _Waiting, placed: int) -> None:
        receipt = each.receipt
        if not self._indexed():
            self._waiting.append(_Waiting(receipt, time.monotonic()))
            return
        if time.monotonic() - each.since < self._patience_s:
            self._waiting.append(each)
            return
        self._tell(
            receipt.grant,
            f"grant {receipt.grant} lane {receipt.lane}: {receipt.agency} signed for"
            f" {receipt.last} records, the audit placed {placed}",
        )

    def _tell(self, grant: str, text: str) -> None:
        self.found += 1
        if len(self.disagreements) < _SHOWN_MAX:
            self.disagreements.append(text)
        _log.error("receipt disagrees with the audit", grant=grant, problem=text)
        self._on_disagreement(grant)
