"""Writes the chain of access events of this process, without letting a flood exhaust anything.

The first refusals of a second are written one by one, before the request is answered; what comes
above that is counted by action and reason and written as one event when the second is over. An act
that lets something happen is never summed up: it is written by itself, or it must not happen. When
Kafka leaves it open whether an event was written, a new chain begins: two events with one number
would look like forgery.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from shutong_core.audit.access import AccessChain, Act
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.ackedwriter import AckedWriter, Unacknowledged
from shutong_core.wire.batches import KafkaRecord, RecordBatch
from shutong_core.wire.busrecords import AccessEvent

#: Refusals written one by one in a second.
SINGLE_PER_S_MAX = 200
#: Events waiting at once, and how many of them may be refusals: a flood leaves room for acts.
WAITING_MAX = 1_000
WAITING_REFUSALS_MAX = 500
_BATCH_MAX = 100
#: Kinds of event counted together; the rest is one kind.
_KINDS_MAX = 64


@dataclass(eq=False)
class _Waiting:
    act: Act
    written: asyncio.Future[bool] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class AccessLog:
    """Access events of one process, in order, on one partition."""

    def __init__(
        self,
        service: str,
        writer: AckedWriter,
        topic: str,
        partitions: Callable[[], int],
        encode: Callable[[AccessEvent], bytes],
        *,
        on_written: Callable[[Act], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        single_per_s_max: int = SINGLE_PER_S_MAX,
    ) -> None:
        self._service = service
        self._writer = writer
        self._topic = topic
        self._partitions = partitions
        self._encode = encode
        self._on_written = on_written
        self._clock = clock
        self._single_max = single_per_s_max
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(WAITING_MAX)
        self._chain = _new_chain(service)
        self._second = 0
        self._singles = 0
        self._summed: Counter[tuple[str, Reason | None]] = Counter()
        self._task: asyncio.Task[None] | None = None
        self.lost = 0

    async def start(self) -> None:
        """Begin to write; returns at once."""
        self._task = asyncio.create_task(self._run(), name="access log")

    async def close(self, within_s: float = 2.0) -> None:
        """Write what is waiting, within the time given."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self._queue.empty() or self._summed:
                    await asyncio.sleep(0.02)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def record(self, act: Act, within_s: float = 2.0) -> bool:
        """Have `act` written; True only once Kafka acknowledged it as an event of its own.

        False if that did not happen in time: a refusal holds all the same, but what was to be
        allowed must not be done. Only refusals are counted with others in a flood.
        """
        if act.refused is not None and self._flooded():
            self._sum(act)
            return False
        if self._queue.full():
            return False
        waiting = _Waiting(act)
        self._queue.put_nowait(waiting)
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.shield(waiting.written)
        except TimeoutError:
            return False

    def _flooded(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._singles = second, 0
        self._singles += 1
        return self._singles > self._single_max or self._queue.qsize() >= WAITING_REFUSALS_MAX

    def _sum(self, act: Act) -> None:
        kind = (act.action, act.refused)
        full = kind not in self._summed and len(self._summed) >= _KINDS_MAX
        self._summed[("other", None) if full else kind] += 1

    async def _run(self) -> None:
        while True:
            batch: list[_Waiting] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    batch.append(await self._queue.get())
            while len(batch) < _BATCH_MAX and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            if self._summed and int(self._clock()) != self._second:
                batch += self._sums()
            if batch:
                await self._write(batch)

    def _sums(self) -> list[_Waiting]:
        summed, self._summed = self._summed, Counter()
        now_ms = int(time.time() * 1000)
        return [
            _Waiting(Act(now_ms, "", action, refused=reason, detail=f"{count} more of this kind"))
            for (action, reason), count in summed.items()
        ]

    async def _write(self, batch: list[_Waiting]) -> None:
        chain, records = self._chain, []
        for each in batch:
            encoded, chain = chain.next(each.act, self._encode)
            records.append(KafkaRecord(chain.process.encode(), encoded))
        partition = zlib.crc32(chain.process.encode()) % self._partitions()
        try:
            await self._writer.write([RecordBatch(self._topic, partition, records)])
        except Unacknowledged:
            self._chain = _new_chain(self._service)
            self.lost += len(batch)
            self._answer(batch, written=False)
            return
        self._chain = chain
        for each in batch:
            self._on_written(each.act)
        self._answer(batch, written=True)

    def _answer(self, batch: list[_Waiting], *, written: bool) -> None:
        for each in batch:
            if not each.written.done():
                each.written.set_result(written)


def _new_chain(service: str) -> AccessChain:
    return AccessChain(service, secrets.token_hex(16))
