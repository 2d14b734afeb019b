"""What one transactional id says to Kafka, and what Kafka's answers mean.

A transaction is three trips: add all partitions and the group; write records and offsets; end it.
"Not now" is asked again after a short pause, without end: deadlines are the caller's. A request
that got no answer is asked again too, and makes `lost` true: what was sent may still arrive, so
nobody may begin another transaction here (KAFKA-17754).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import RecordMetadata, TopicPartition

from shutong_core.runtime.aiokafka_inside import ask, connection

#: Between attempts when Kafka says "not now".
RETRY_BACKOFF_S = 0.02
#: The same while the last transaction is still being marked as ended, which takes some ms.
CONCURRENT_TRANSACTIONS_BACKOFF_S = 0.002

#: Of one produce request, unless it is a single batch: Kafka cuts off who sends it more than
#: `socket.request.max.bytes` (100 MiB), and the same would be sent again for ever.
PRODUCE_BYTES_MAX = 32 * 1024 * 1024

_ACKS_ALL = -1
_SEQUENCES = 1 << 31
_UNREACHED = (
    errors.NodeNotReadyError,
    errors.RequestTimedOutError,
    errors.KafkaConnectionError,
    errors.StaleMetadata,
)
_COORDINATOR_ELSEWHERE = (
    errors.CoordinatorNotAvailableError,
    errors.NotCoordinatorError,
    errors.RequestTimedOutError,
)
_NOT_NOW = (errors.CoordinatorLoadInProgressError, errors.UnknownTopicOrPartitionError)


@dataclass(slots=True, eq=False)
class Write:
    """One record batch on its way."""

    tp: TopicPartition
    builder: DefaultRecordBatchBuilder
    count: int
    written: asyncio.Future[RecordMetadata]
    data: Any = None  # once it has its sequence number: a repetition must be the same bytes


@dataclass(slots=True, eq=False)
class Offsets:
    """Next input offsets on their way, all of one group."""

    group: str
    at: Mapping[TopicPartition, int]
    written: asyncio.Future[None]


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Tell who waits, unless it is settled."""
    if not future.done():
        future.set_exception(error)


class TransactionLink:
    """One transactional id's talk with Kafka, one transaction after the other."""

    def __init__(
        self, client: AIOKafkaClient, transactional_id: str, timeout_ms: int, produce_ms: int
    ) -> None:
        self._client = client
        self._id = transactional_id
        self._timeout_ms = timeout_ms
        self._produce_ms = produce_ms
        self._coordinators: dict[tuple[CoordinationType, str], int] = {}
        self._producer = (-1, -1)  # id and epoch
        self._sequences: dict[TopicPartition, int] = {}
        self._partitions: set[TopicPartition] = set()  # in this transaction
        self._groups: set[str] = set()
        self.lost = False  # a request got no answer
        self.repeats = 0  # how often records or offsets had to be written again

    async def init(self) -> None:
        """InitProducerId: ends what the predecessor left open, and fences it."""
        request = InitProducerIdRequest(self._id, self._timeout_ms)
        while True:
            [answer] = await self._ask_coordinator([request])
            if answer is not None and not self._pause_for(_codes(answer)):
                break
            await asyncio.sleep(RETRY_BACKOFF_S)
        self._producer = (answer.producer_id, answer.producer_epoch)
        self.lost = False  # nothing of this epoch was asked before

    async def write(self, writes: Mapping[TopicPartition, Write], offsets: Offsets | None) -> None:
        """Make record batches and offsets part of the transaction; each is settled when it is.

        What Kafka refuses singly is told singly. Raises KafkaError if it refuses the whole.
        """
        await self._add(writes, offsets)
        for write in writes.values():
            self._number(write)
        while writes or offsets is not None:
            writes, offsets = await self._write_once(writes, offsets)
            if writes or offsets is not None:
                self.repeats += 1
                await asyncio.sleep(RETRY_BACKOFF_S)
                await self._client._maybe_wait_metadata()

    async def end(self, allow: Callable[[], None]) -> None:
        """Commit. `allow` is called as EndTxn is about to be written, each time, and may raise.

        A transaction without anything in it needs no word to Kafka. Raises KafkaError if Kafka
        refuses.
        """
        request = EndTxnRequest(self._id, *self._producer, True)
        while self._partitions or self._groups:
            [answer] = await self._ask_coordinator([request], allow)
            pause = RETRY_BACKOFF_S if answer is None else self._pause_for(_codes(answer))
            if not pause:
                self._partitions.clear()
                self._groups.clear()
                return
            await asyncio.sleep(pause)

    async def _add(self, writes: Iterable[TopicPartition], offsets: Offsets | None) -> None:
        tps = [tp for tp in writes if tp not in self._partitions]
        group = offsets.group if offsets is not None else None
        if group in self._groups:
            group = None
        while tps or group is not None:
            requests: list[Any] = []
            if tps:
                named = _by_topic((tp, tp.partition) for tp in tps)
                requests.append(AddPartitionsToTxnRequest(self._id, *self._producer, named))
            if group is not None:
                requests.append(AddOffsetsToTxnRequest(self._id, *self._producer, group))
            answers = await self._ask_coordinator(requests)
            pauses = [
                RETRY_BACKOFF_S if answer is None else self._pause_for(_codes(answer))
                for answer in answers
            ]
            if group is not None and not pauses[-1]:
                self._groups.add(group)
                group = None
            if tps and not pauses[0]:
                self._partitions.update(tps)
                tps = []
            if any(pauses):
                await asyncio.sleep(max(pauses))

    async def _write_once(
        self, writes: Mapping[TopicPartition, Write], offsets: Offsets | None
    ) -> tuple[dict[TopicPartition, Write], Offsets | None]:
        """Write what can be written now; what is to be asked again comes back."""
        nodes: dict[int, dict[TopicPartition, Write]] = {}
        left: dict[TopicPartition, Write] = {}
        for tp, write in writes.items():
            leader = self._client.cluster.leader_for_partition(tp)
            if leader is None or leader == -1:
                self._client.force_metadata_update()
                left[tp] = write
            else:
                nodes.setdefault(leader, {})[tp] = write
        keeper = None
        if offsets is not None:
            keeper = await self._coordinator(CoordinationType.GROUP, offsets.group)
            if keeper is not None:
                nodes.setdefault(keeper, {})
        answers = await _all(
            self._write_to(node, mine, offsets if node == keeper else None)
            for node, mine in nodes.items()
        )
        for mine in answers:
            left.update(mine)
        return left, offsets if offsets is not None and not offsets.written.done() else None

    async def _write_to(
        self, node: int, writes: dict[TopicPartition, Write], offsets: Offsets | None
    ) -> dict[TopicPartition, Write]:
        # Offsets after the records, on the same connection. A node asks the coordinator whether
        # what it is to write belongs to the transaction, and holds one such question for each
        # transactional id: of two at once one fails (as NOT_ENOUGH_REPLICAS, of all things).
        shares = _shares(writes)
        requests: list[Any] = []
        for share in shares:
            data = _by_topic((tp, (tp.partition, write.data)) for tp, write in share.items())
            requests.append(ProduceRequest(self._id, _ACKS_ALL, self._produce_ms, data))
        if offsets is not None:
            kept = _by_topic((tp, (tp.partition, at, "")) for tp, at in offsets.at.items())
            requests.append(TxnOffsetCommitRequest(self._id, offsets.group, *self._producer, kept))
        answers = await self._ask(node, requests)
        if offsets is not None:
            answer = answers.pop()
            good = answer is not None and not self._pause_for(_codes(answer))
            if good and not offsets.written.done():
                offsets.written.set_result(None)
        left: dict[TopicPartition, Write] = {}
        for share, answer in zip(shares, answers, strict=True):
            left.update(share if answer is None else self._written(share, answer))
        return left

    def _written(
        self, writes: dict[TopicPartition, Write], answer: Any
    ) -> dict[TopicPartition, Write]:
        left = dict(writes)
        for topic, partitions in answer.topics:
            for partition, code, offset, timestamp, *_ in partitions:
                tp = TopicPartition(topic, partition)
                error = errors.for_code(code)
                if error.retriable:
                    if error.invalid_metadata:
                        self._client.force_metadata_update()
                    continue
                future = left.pop(tp).written
                if error is not errors.NoError:
                    fail(future, _fatal(error))
                elif not future.done():
                    kind = 0 if timestamp == -1 else 1
                    future.set_result(
                        RecordMetadata(topic, partition, tp, offset, timestamp, kind, None)
                    )
        return left

    def _number(self, write: Write) -> None:
        if write.data is None:
            first = self._sequences.get(write.tp, 0)
            self._sequences[write.tp] = (first + write.count) % _SEQUENCES
            write.builder.set_producer_state(*self._producer, first)
            write.data = write.builder.build()

    async def _coordinator(self, kind: CoordinationType, key: str) -> int | None:
        """The node that keeps this transaction or group; None if that is not known now."""
        node = self._coordinators.get((kind, key))
        if node is None:
            try:
                node = await self._client.coordinator_lookup(kind, key)
            except (*_UNREACHED, *_COORDINATOR_ELSEWHERE, *_NOT_NOW):
                self._client.force_metadata_update()
                return None
            self._coordinators[kind, key] = node
        return node

    async def _ask_coordinator(
        self, requests: list[Any], allow: Callable[[], None] | None = None
    ) -> list[Any]:
        node = await self._coordinator(CoordinationType.TRANSACTION, self._id)
        return [None] * len(requests) if node is None else await self._ask(node, requests, allow)

    async def _ask(
        self, node: int, requests: list[Any], allow: Callable[[], None] | None = None
    ) -> list[Any]:
        """The answers in order, None for each request that got none."""
        try:
            opened = await connection(self._client, node)
        except _UNREACHED:  # nothing was sent
            self._coordinators.clear()
            return [None] * len(requests)
        if allow is not None:
            allow()
        try:
            answers = await ask(opened, requests)
        except asyncio.CancelledError:
            self.lost = True
            raise
        for number, answer in enumerate(answers):
            if isinstance(answer, _UNREACHED):
                self.lost = True
                self._coordinators.clear()
                answers[number] = None
            elif isinstance(answer, KafkaError):
                self.lost = True
                raise answer
        return answers

    def _pause_for(self, codes: Iterable[int]) -> float:
        """Seconds to wait before asking again, 0 if all went well. Raises KafkaError if refused."""
        pause = 0.0
        for error in {errors.for_code(code) for code in codes}:
            if error is errors.NoError or error is errors.OperationNotAttempted:
                continue
            if error is errors.ConcurrentTransactions:
                pause = max(pause, CONCURRENT_TRANSACTIONS_BACKOFF_S)
            elif error in _NOT_NOW or error in _COORDINATOR_ELSEWHERE:
                if error in _COORDINATOR_ELSEWHERE:
                    self._coordinators.clear()
                pause = RETRY_BACKOFF_S
            else:
                raise _fatal(error)
        return pause


def _fatal(error: type[KafkaError]) -> KafkaError:
    # What Kafka calls an old epoch: another producer took the id, or the transaction timed out.
    return ProducerFenced() if error is errors.InvalidProducerEpoch else error()


def _codes(answer: Any) -> list[int]:
    """Every error code of an answer about partitions, or about a whole."""
    if hasattr(answer, "error_code"):
        return [answer.error_code]
    return [code for _, partitions in answer.errors for _, code in partitions]


def _by_topic(entries: Iterable[tuple[TopicPartition, Any]]) -> list[tuple[str, list[Any]]]:
    topics: dict[str, list[Any]] = {}
    for tp, entry in entries:
        topics.setdefault(tp.topic, []).append(entry)
    return list(topics.items())


def _shares(writes: Mapping[TopicPartition, Write]) -> list[dict[TopicPartition, Write]]:
    """`writes` cut into what one request may hold each."""
    shares: list[dict[TopicPartition, Write]] = []
    room = 0
    for tp, write in writes.items():
        size = len(write.data)
        if size > room:
            shares.append({})
            room = PRODUCE_BYTES_MAX
        shares[-1][tp] = write
        room -= size
    return shares


async def _all(steps: Iterable[Any]) -> list[Any]:
    """What all give; the first fault is raised once all have ended."""
    waiting = list(steps)
    if len(waiting) == 1:  # one node: no task is needed
        return [await waiting[0]]
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    return ended
