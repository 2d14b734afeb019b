"""One transactional producer with the discipline that a transaction needs.

Every send is awaited before commit (KAFKA-9279). Every step has a deadline, and so has the whole.
After any timeout or disconnect on a request that touches the transaction the producer is thrown
away: a late EndTxn may end a *later* transaction (KAFKA-17754), and the next InitProducerId bumps
the epoch, which fences whatever is still under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.structs import RecordMetadata, TopicPartition

from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.runtime.aiokafka_inside import (
    CODECS,
    BatchTooLarge,
    new_client,
    partitions_of,
    record_batch,
    take_exception,
)
from shutong_core.runtime.transactionlink import Offsets, TransactionLink, Write, fail
from shutong_core.wire.batches import ColumnBatch, RecordBatch

_T = TypeVar("_T")


def _always() -> bool:
    return True


class _NoLongerAllowed(Exception):  # noqa: N818 - an answer, handled in this module
    """EndTxn was about to be sent, and may not be."""


class Fenced(Fatal):
    """Another producer took this transactional id (or the coordinator timed ours out)."""


class TransactionFailed(Retryable):
    """The transaction did not commit and never will; start anew with a new producer."""


class CommitUnknown(Retryable):
    """EndTxn was sent, no answer came: read the log to learn which it was."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Bounds of single steps in seconds, and of a whole transaction from `begin` to the answer.

    `transaction_s` stays below the transaction timeout: who is slow gives up before Kafka does.
    """

    start_s: float = 20.0
    send_s: float = 4.0
    offsets_s: float = 3.0
    commit_s: float = 5.0
    stop_s: float = 5.0
    transaction_s: float = 12.0
    transaction_timeout_ms: int = 15_000
    request_timeout_ms: int = 4_000

    def __post_init__(self) -> None:
        """Raises ValueError if Kafka would end a transaction before this side gives up."""
        if self.transaction_s * 1000 >= self.transaction_timeout_ms:
            raise ValueError("transaction_s must be below transaction_timeout_ms")


class TransactionalProducer:
    """A producer for one transactional id, from InitProducerId until the first doubt."""

    def __init__(
        self,
        client: Mapping[str, Any],
        transactional_id: str,
        deadlines: Deadlines,
        *,
        batch_bytes_max: int,
        compression: str | None = None,
        on_end_txn: Callable[[], None] | None = None,
    ) -> None:
        self._deadlines = deadlines
        self._batch_bytes_max = batch_bytes_max
        self._codec = CODECS[compression]
        self._on_end_txn = on_end_txn
        self._may_end: Callable[[], bool] = _always
        self._end_sent = False
        self._ends_at = math.inf  # by the loop's clock; no transaction is open
        self._open = False
        self._poisoned = False
        self.transactional_id = transactional_id
        self._client = new_client(client, deadlines.request_timeout_ms)
        self._link = TransactionLink(
            self._client,
            transactional_id,
            deadlines.transaction_timeout_ms,
            deadlines.request_timeout_ms,
        )
        self._sends: list[asyncio.Future[RecordMetadata]] = []
        self._queue: list[Write] = []
        self._offsets: list[Offsets] = []
        self._writer: asyncio.Task[None] | None = None
        self._broken: BaseException | None = None  # why nothing more is written

    @property
    def poisoned(self) -> bool:
        """Whether no further transaction may begin here."""
        return self._poisoned or self._link.lost

    @property
    def repeats(self) -> int:
        """How often records or offsets had to be written again so far."""
        return self._link.repeats

    async def start(self) -> None:
        """InitProducerId: fences the predecessor, waits until its transaction has ended.

        Raises Retryable when Kafka does not answer in time.
        """
        await self._bounded(self._start(), self._deadlines.start_s, "start")

    async def _start(self) -> None:
        await self._client.bootstrap()
        await self._link.init()

    async def begin(self) -> None:
        """Open a transaction. Raises TransactionFailed if this producer must not be used again."""
        if self.poisoned:
            raise TransactionFailed("this producer saw a lost request: take a new one")
        if self._open:
            raise TransactionFailed(f"{self.transactional_id}: the last transaction has not ended")
        self._sends = []
        self._open = True
        self._ends_at = asyncio.get_running_loop().time() + self._deadlines.transaction_s

    async def knows(self, topic: str, seconds: float) -> bool:
        """Whether Kafka knows the topic and lets this client see it, as far as it says in time."""
        try:
            async with asyncio.timeout(seconds):
                return bool(await partitions_of(self._client, topic))
        except (KafkaError, TimeoutError):
            return False

    async def send(self, batch: RecordBatch | ColumnBatch) -> Awaitable[RecordMetadata]:
        """Queue one record batch; the awaitable gives its base offset and log-append time.

        What is sent without waiting in between goes to Kafka together. Raises TransactionFailed
        if the batch does not fit into one Kafka record batch, or Kafka does not know its place.
        """
        self._require_open("send")
        tp = TopicPartition(batch.topic, batch.partition)
        if self._client.cluster.leader_for_partition(tp) is None:
            known = await self._bounded(
                partitions_of(self._client, batch.topic), self._deadlines.send_s, "send"
            )
            if batch.partition not in known:
                raise TransactionFailed(f"{batch.topic} has no partition {batch.partition}")
        try:
            builder, count = record_batch(batch, self._codec, self._batch_bytes_max)
        except BatchTooLarge as error:
            raise TransactionFailed(str(error)) from error
        written = self._future()
        self._sends.append(written)
        self._queue.append(Write(tp, builder, count, written))
        self._wake()
        return written

    async def offsets(self, offsets: Mapping[tuple[str, int], int], group: str) -> None:
        """Make next input offsets part of the transaction; (topic, partition) → offset."""
        self._require_open("offsets")
        written = self._future()
        at = {TopicPartition(*tp): offset for tp, offset in offsets.items()}
        self._offsets.append(Offsets(group, at, written))
        self._wake()
        await self._bounded(written, self._deadlines.offsets_s, "offsets")

    async def flush(self) -> None:
        """Wait for every send of this transaction. Raises TransactionFailed if one failed."""
        waiting = [each for each in self._sends if not each.done()]
        if waiting:
            await self._bounded(asyncio.wait(waiting), self._deadlines.send_s, "flush")
        with self._told("flush"):
            for each in self._sends:
                each.result()

    async def commit(self, may_end: Callable[[], bool] | None = None) -> None:
        """Flush, then commit. Raises TransactionFailed before EndTxn, CommitUnknown after.

        `may_end` is asked at the moment EndTxn goes out, and again each time it is repeated: what
        was allowed when commit was called may not be any more after a pause or a reconnect.
        """
        self._require_open("commit")
        await self.flush()
        if self._writer is not None and not self._writer.done():
            await self._bounded(asyncio.wait([self._writer]), self._deadlines.offsets_s, "commit")
        self._require_open("commit")  # offsets that nobody waited for may have failed meanwhile
        self._may_end, self._end_sent = may_end or _always, False
        try:
            async with asyncio.timeout(min(self._deadlines.commit_s, self._left_s())):
                await self._link.end(self._before_end_txn)
        except ProducerFenced as error:
            self._poisoned = True
            raise Fenced(f"{self.transactional_id}: fenced at commit") from error
        except (TimeoutError, KafkaError, _NoLongerAllowed) as error:
            self._poisoned = True
            if not self._end_sent:
                raise TransactionFailed(
                    f"{self.transactional_id}: no longer allowed to commit"
                ) from error
            raise CommitUnknown(f"{self.transactional_id}: commit got no answer") from error
        except asyncio.CancelledError:
            self._poisoned = True
            raise
        self._open, self._ends_at = False, math.inf

    def _before_end_txn(self) -> None:
        if self._left_s() <= 0 or not self._may_end():
            raise _NoLongerAllowed
        self._end_sent = True
        if self._on_end_txn is not None:
            # Runs once the request is in the socket, before its answer can be read.
            asyncio.get_running_loop().call_soon(self._on_end_txn)

    async def close(self) -> None:
        """Let go of the producer within its deadline; an open transaction is left to be aborted."""
        self._poisoned = True
        self._broken = TransactionFailed(f"{self.transactional_id}: closed")
        try:
            async with asyncio.timeout(self._deadlines.stop_s):
                if self._writer is not None:
                    self._writer.cancel()
                    await asyncio.wait([self._writer])
                await self._client.close()
        except (TimeoutError, KafkaError):
            return

    def _wake(self) -> None:
        if self._writer is None or self._writer.done():
            # It starts when the caller waits next: whatever is queued by then goes in one trip.
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        """Write what is queued until nothing is; a fault ends it for this producer."""
        writes: dict[TopicPartition, Write] = {}
        offsets: Offsets | None = None
        try:
            while self._broken is None and (self._queue or self._offsets):
                # Kafka takes one batch of a partition at a time, a second one waits its turn.
                writes, later = {}, []
                for write in self._queue:
                    if write.tp in writes:
                        later.append(write)
                    else:
                        writes[write.tp] = write
                self._queue = later
                offsets = self._offsets.pop(0) if self._offsets else None
                await self._link.write(writes, offsets)
        except BaseException as error:  # whatever it is: who waits learns of it
            self._poisoned = True
            self._broken = error if isinstance(error, Exception) else _ended(self.transactional_id)
            if not isinstance(error, Exception):
                raise
        finally:
            if self._broken is not None:
                for write in (*writes.values(), *self._queue):
                    fail(write.written, self._broken)
                for each in (offsets, *self._offsets):
                    if each is not None:
                        fail(each.written, self._broken)

    def _future(self) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        # What nobody will wait for any more must not end as noise in the log.
        future.add_done_callback(take_exception)
        return future

    def _require_open(self, step: str) -> None:
        if not self._open:
            raise TransactionFailed(f"{self.transactional_id}: {step} without a transaction")
        if self._left_s() <= 0:
            self._poisoned = True
            raise TransactionFailed(f"{self.transactional_id}: {step} failed: TimeoutError")
        if self._broken is not None:
            with self._told(step):
                raise self._broken

    async def _bounded(self, step: Awaitable[_T], seconds: float, name: str) -> _T:
        with self._told(name):
            # Also bounded by what is left of the transaction; nothing left ends it here.
            async with asyncio.timeout(min(seconds, self._left_s())):
                return await step

    @contextlib.contextmanager
    def _told(self, step: str) -> Iterator[None]:
        try:
            yield
        except ProducerFenced as error:
            self._poisoned = True
            raise Fenced(f"{self.transactional_id}: fenced at {step}") from error
        except (TimeoutError, KafkaError) as error:
            self._poisoned = True
            raise TransactionFailed(
                f"{self.transactional_id}: {step} failed: {type(error).__name__}"
            ) from error

    def _left_s(self) -> float:
        return self._ends_at - asyncio.get_running_loop().time()


def _ended(transactional_id: str) -> TransactionFailed:
    return TransactionFailed(f"{transactional_id}: ended while writing")
