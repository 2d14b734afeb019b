"""One transactional producer with the discipline that aiokafka lacks.

Why not aiokafka's producer as it is: it commits although a record of the transaction failed
(KAFKA-9279 forbids that in Java); it re-sends EndTxn after a timeout, which can end a *later*
transaction (KAFKA-17754); nothing in it times out by itself. So here: every send is awaited
before commit, every step has a deadline, and after any timeout or disconnect on a transactional
request the producer is thrown away: the next InitProducerId bumps the epoch, which fences
whatever is still under way.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiokafka.producer.sender
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    ProducerFenced,
    RequestTimedOutError,
)
from aiokafka.structs import OffsetAndMetadata, RecordMetadata

from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.runtime.aiokafka_inside import BatchTooLarge, codec_of, record_batch
from shutong_core.wire.batches import ColumnBatch, RecordBatch

#: aiokafka waits this long on CONCURRENT_TRANSACTIONS after each commit; 20 ms by default, which
#: would be most of a small transaction's time. A test pins the aiokafka version this is known for.
CONCURRENT_TRANSACTIONS_BACKOFF_S = 0.002
aiokafka.producer.sender.BACKOFF_OVERRIDE = CONCURRENT_TRANSACTIONS_BACKOFF_S

#: Between attempts when Kafka says "not now"; aiokafka's 100 ms would be many transactions' time.
RETRY_BACKOFF_MS = 20

# API keys whose loss leaves the transaction's state at the coordinator unknown.
_PRODUCE, _ADD_PARTITIONS, _ADD_OFFSETS, _END_TXN, _TXN_OFFSET_COMMIT = 0, 24, 25, 26, 28
_POISONOUS = frozenset({_PRODUCE, _ADD_PARTITIONS, _ADD_OFFSETS, _END_TXN, _TXN_OFFSET_COMMIT})

# What a node asks the coordinator about before it writes: is the partition in the transaction? It
# holds one such question per transactional id; a second one, while the first still waits to be
# asked, makes the first fail (with NOT_ENOUGH_REPLICAS, of all things): so one at a time.
_VERIFIED = frozenset({_PRODUCE, _TXN_OFFSET_COMMIT})

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
        self._on_end_txn = on_end_txn
        self._may_end: Callable[[], bool] = _always
        self._end_sent = False
        self._ends_at = math.inf  # by the loop's clock; no transaction is open
        self.transactional_id = transactional_id
        self.poisoned = False
        self._producer = AIOKafkaProducer(
            **client,
            transactional_id=transactional_id,
            transaction_timeout_ms=deadlines.transaction_timeout_ms,
            request_timeout_ms=deadlines.request_timeout_ms,
            max_batch_size=batch_bytes_max,
            max_request_size=batch_bytes_max + 4096,
            linger_ms=0,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            acks="all",
            compression_type=compression,
        )
        self._verified: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._watch_for_poison()
        self._sends: list[Awaitable[RecordMetadata]] = []

    def _watch_for_poison(self) -> None:
        client = self._producer.client
        original = client.send

        async def send(node_id: int, request: Any, **kwargs: Any) -> Any:
            if getattr(request, "API_KEY", None) == _END_TXN:
                self._before_end_txn()
            try:
                if getattr(request, "API_KEY", None) in _VERIFIED:
                    async with self._verified[node_id]:
                        return await original(node_id, request, **kwargs)
                return await original(node_id, request, **kwargs)
            except (RequestTimedOutError, KafkaConnectionError, asyncio.CancelledError):
                # NodeNotReady is not here: nothing was sent then.
                if getattr(request, "API_KEY", None) in _POISONOUS:
                    self.poisoned = True
                raise

        client.send = send

    def _before_end_txn(self) -> None:
        if self._left_s() <= 0 or not self._may_end():
            # Not a KafkaError: aiokafka would ask again and again, until it may.
            self.poisoned = True
            raise _NoLongerAllowed
        self._end_sent = True
        if self._on_end_txn is not None:
            # Runs once the request is in the socket, before its answer can be read.
            asyncio.get_running_loop().call_soon(self._on_end_txn)

    async def start(self) -> None:
        """InitProducerId: fences the predecessor, waits until its transaction has ended.

        Raises Retryable when Kafka does not answer in time.
        """
        await self._bounded(self._producer.start(), self._deadlines.start_s, "start")

    async def begin(self) -> None:
        """Open a transaction. Raises TransactionFailed if this producer must not be used again."""
        if self.poisoned:
            raise TransactionFailed("this producer saw a lost request: take a new one")
        self._sends = []
        self._ends_at = asyncio.get_running_loop().time() + self._deadlines.transaction_s
        await self._bounded(self._producer.begin_transaction(), self._deadlines.send_s, "begin")

    async def knows(self, topic: str, seconds: float) -> bool:
        """Whether Kafka knows the topic and lets this client see it, as far as it says in time."""
        try:
            async with asyncio.timeout(seconds):
                return bool(await self._producer.partitions_for(topic))
        except (KafkaError, TimeoutError):
            return False

    async def send(self, batch: RecordBatch | ColumnBatch) -> Awaitable[RecordMetadata]:
        """Queue one record batch; the awaitable gives its base offset and log-append time.

        Raises TransactionFailed if the batch does not fit into one Kafka record batch.
        """
        try:
            builder = record_batch(batch, codec_of(self._producer), self._batch_bytes_max)
        except BatchTooLarge as error:
            raise TransactionFailed(str(error)) from error
        future: Awaitable[RecordMetadata] = await self._bounded(
            self._producer.send_batch(builder, batch.topic, partition=batch.partition),
            self._deadlines.send_s,
            "send",
        )
        self._sends.append(future)
        return future

    async def offsets(self, offsets: Mapping[tuple[str, int], int], group: str) -> None:
        """Make next input offsets part of the transaction; (topic, partition) → offset."""
        data = {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in offsets.items()}
        await self._bounded(
            self._producer.send_offsets_to_transaction(data, group),
            self._deadlines.offsets_s,
            "offsets",
        )

    async def flush(self) -> None:
        """Wait for every send of this transaction. Raises TransactionFailed if one failed."""
        for future in self._sends:
            await self._bounded(future, self._deadlines.send_s, "flush")

    async def commit(self, may_end: Callable[[], bool] | None = None) -> None:
        """Flush, then commit. Raises TransactionFailed before EndTxn, CommitUnknown after.

        `may_end` is asked at the moment EndTxn goes out, and again each time aiokafka repeats it:
        what was allowed when commit was called may not be any more after a pause or a reconnect.
        """
        await self.flush()
        self._may_end, self._end_sent = may_end or _always, False
        try:
            async with asyncio.timeout(min(self._deadlines.commit_s, self._left_s())):
                await self._producer.commit_transaction()
            self._ends_at = math.inf
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"{self.transactional_id}: fenced at commit") from error
        except (TimeoutError, KafkaError, AssertionError) as error:
            self.poisoned = True
            if not self._end_sent:
                raise TransactionFailed(
                    f"{self.transactional_id}: no longer allowed to commit"
                ) from error
            raise CommitUnknown(f"{self.transactional_id}: commit got no answer") from error

    async def close(self) -> None:
        """Let go of the producer within its deadline; an open transaction is left to be aborted."""
        try:
            async with asyncio.timeout(self._deadlines.stop_s):
                await self._abandon()
        except (TimeoutError, KafkaError, AssertionError):
            self.poisoned = True

    async def _abandon(self) -> None:
        # producer.stop() would first wait for queued batches, for ever if Kafka is away; what is
        # queued here belongs to a transaction that nobody will commit.
        task = self._producer._sender.sender_task
        if task is not None:
            task.cancel()
        await self._producer.client.close()
        self._producer._closed = True
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
        # What nobody will wait for any more must not end as noise in the log.
        for left in (*self._sends, self._producer._txn_manager._transaction_waiter):
            if isinstance(left, asyncio.Future):
                left.add_done_callback(_take_exception)

    async def _bounded(self, step: Awaitable[_T], seconds: float, name: str) -> _T:
        try:
            # Also bounded by what is left of the transaction; nothing left ends it here.
            async with asyncio.timeout(min(seconds, self._left_s())):
                return await step
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"{self.transactional_id}: fenced at {name}") from error
        except (TimeoutError, KafkaError, NodeNotReadyError, AssertionError) as error:
            self.poisoned = True
            raise TransactionFailed(
                f"{self.transactional_id}: {name} failed: {type(error).__name__}"
            ) from error

    def _left_s(self) -> float:
        return self._ends_at - asyncio.get_running_loop().time()


def _take_exception(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
