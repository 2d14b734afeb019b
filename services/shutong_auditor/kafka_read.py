"""Reads what a verification needs from Kafka: committed records only, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
)

from shutong_auditor.lane_checks import LaneRows
from shutong_core.audit.follow import Position
from shutong_core.audit.verify import Anchor
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.consumers import committed_consumer
from shutong_core.wire.busrecords import (
    HEAD_KEY,
    BusCodec,
    DatasetPosition,
    GrantPosition,
    LaneHead,
)
from shutong_core.wire.topics import Topics

#: No single message is larger (topic limit 2 MiB); a fetch of one partition holds a few of them.
_FETCH_BYTES_MAX = 4 * 1024 * 1024
_POLL_MS = 50
#: A waiting fetch holds up every other request on its connection.
_FETCH_WAIT_MS = 10
_POLL_RECORDS_MAX = 2000
#: Nothing read for so long before the end known to be there: give up.
STALL_S_MAX = 30.0
COORDINATOR_S_MAX = 15.0
_COORDINATOR_POLL_S = 0.25
#: Rows of one lane in the compacted topic: one a dataset and a grant.
_LANE_ROWS_MAX = 200_000


@dataclass(slots=True)
class _Rows:
    kept: dict[bytes, bytes] = field(default_factory=dict)

    def put(self, key: bytes | None, value: bytes | None) -> None:
        if key is None:
            raise Rejected("a row of topic lanes has no key")
        if value is None:
            self.kept.pop(key, None)
            return
        self.kept[key] = value
        if len(self.kept) > _LANE_ROWS_MAX:
            raise Rejected(f"topic lanes has more than {_LANE_ROWS_MAX} rows for one lane")


class KafkaReading:
    """One reader for a whole verification; see `open_reading`."""

    def __init__(
        self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, codec: BusCodec, group: str
    ) -> None:
        self._consumer = consumer
        self._admin = admin
        self._codec = codec
        self._group = group
        self._partitions: dict[str, tuple[int, ...]] = {}

    async def load_topics(self) -> frozenset[str]:
        """The names of all topics the reader may see, as they are now."""
        self._partitions = {
            topic["topic"]: tuple(sorted(each["partition"] for each in topic["partitions"]))
            for topic in await self._admin.describe_topics()
        }
        return frozenset(self._partitions)

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Partition numbers of a topic, ascending; empty if there was no such topic."""
        return self._partitions.get(topic, ())

    async def ends(self, *topics: str) -> dict[tuple[str, int], tuple[int, int]]:
        """(topic, partition) → (first offset kept, end of what is committed), for all of them."""
        found = [TopicPartition(name, at) for name in topics for at in self.partitions(name)]
        if not found:
            return {}
        first = await self._consumer.beginning_offsets(found)
        end = await self._consumer.end_offsets(found)
        return {(tp.topic, tp.partition): (first[tp], end[tp]) for tp in found}

    async def records(self, topic: str, partition: int, first: int, end: int) -> AsyncIterator[Any]:
        """Committed records of offsets `first` … `end` - 1, in order.

        Raises Retryable if they stop coming before `end`.
        """
        if first >= end:
            return
        tp = TopicPartition(topic, partition)
        self._consumer.assign([tp])
        self._consumer.seek(tp, first)
        loop = asyncio.get_running_loop()
        position, moved = first, loop.time()
        while position < end:
            found = await self._consumer.getmany(
                tp, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS_MAX
            )
            for record in found.get(tp, ()):
                if record.offset < end:
                    yield record
            after = await self._consumer.position(tp)
            if after > position:
                position, moved = after, loop.time()
            elif loop.time() - moved > STALL_S_MAX:
                raise Retryable(f"{topic}-{partition}: nothing comes after offset {position}")

    async def lane(self, topics: Topics, lane: int) -> LaneRows:
        """The lane's rows now. Raises Rejected if one cannot be read."""
        rows = _Rows()
        limits = await self.ends(topics.lanes)
        async for record in self.records(topics.lanes, lane, *limits[topics.lanes, lane]):
            rows.put(record.key, record.value)
        head: Anchor | None = None
        positions: dict[str, int] = {}
        grants: dict[str, Position] = {}
        for key, value in rows.kept.items():
            kind, _, name = key.decode("ascii", "replace").partition("/")
            if key == HEAD_KEY:
                found = self._codec.decode_as(LaneHead, value)
                head = Anchor(found.sequence, found.header_hash)
            elif kind == "p":
                positions[name] = self._codec.decode_as(DatasetPosition, value).next_offset
            elif kind == "g":
                place = self._codec.decode_as(GrantPosition, value)
                grants[name] = Position(place.k, place.chain)
        return LaneRows(head, positions, grants, await self._committed(topics, lane))

    async def _committed(self, topics: Topics, lane: int) -> dict[str, int]:
        found = await self._group_offsets()
        committed = {}
        for tp, place in found.items():
            dataset = topics.dataset_of(tp.topic)
            if dataset is not None and tp.partition == lane and place.offset >= 0:
                committed[dataset] = place.offset
        return committed

    async def _group_offsets(self) -> Mapping[Any, Any]:
        """Committed offsets of the group; waits for its coordinator.

        Kafka makes its own offsets topic when the first group asks for its coordinator, and has
        none to name until then.
        """
        for _ in range(int(COORDINATOR_S_MAX / _COORDINATOR_POLL_S)):
            try:
                found: Mapping[Any, Any] = await self._admin.list_consumer_group_offsets(
                    self._group
                )
            except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
                await asyncio.sleep(_COORDINATOR_POLL_S)
            else:
                return found
        raise Retryable(f"group {self._group} has no coordinator yet")


@asynccontextmanager
async def open_reading(
    client: Mapping[str, Any], codec: BusCodec, group: str
) -> AsyncIterator[KafkaReading]:
    """`client`: arguments of every aiokafka client (bootstrap_servers, security …).

    `group`: the consumer group that holds the lanes' input offsets; it is only looked at.
    Raises Retryable if Kafka cannot be reached.
    """
    consumer = committed_consumer(
        client,
        max_partition_fetch_bytes=_FETCH_BYTES_MAX,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    admin = AIOKafkaAdminClient(**client)
    try:
        await consumer.start()
        await admin.start()
        yield KafkaReading(consumer, admin, codec, group)
    except KafkaError as error:
        raise Retryable(f"Kafka cannot be read: {type(error).__name__}") from error
    finally:
        await admin.close()
        await consumer.stop()
