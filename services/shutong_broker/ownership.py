"""Which lanes are this process's: the answer of a consumer group over topic `lanes` alone.

This only spreads work. That no two processes write one lane is held by the lane's transactional
id, never by the group.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from shutong_core.domain.errors import Retryable
from shutong_core.runtime.consumers import stop_consumer

#: A question that takes longer is asked again.
ANSWER_S = 5.0

_log = structlog.stdlib.get_logger(__name__)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    def __init__(self, changed: Callable[[frozenset[int]], None]) -> None:
        self._changed = changed

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing: lanes run through a rebalance, the transactional id keeps them safe."""

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._changed(frozenset(tp.partition for tp in assigned))


class Ownership:
    """Membership of the broker group; tells the lanes assigned at each rebalance."""

    def __init__(
        self,
        client: Mapping[str, Any],
        lanes_topic: str,
        group: str,
        changed: Callable[[frozenset[int]], None],
        *,
        session_timeout_ms: int,
    ) -> None:
        self._client = client
        self._topic = lanes_topic
        self._group = group
        self._changed = changed
        self._consumer = AIOKafkaConsumer(
            **client,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="latest",  # the partitions stay paused: nothing is ever read here
            partition_assignment_strategy=(StickyPartitionAssignor,),
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=session_timeout_ms // 4,
            max_poll_interval_ms=300_000,
        )
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the group. Raises Retryable when Kafka is away."""
        try:
            await self._consumer.start()
        except KafkaError as error:
            raise Retryable(f"cannot join the broker group: {type(error).__name__}") from error
        self._consumer.subscribe([self._topic], listener=_Listener(self._changed))
        self._polling = asyncio.create_task(self._poll(), name="lane ownership")

    async def _poll(self) -> None:
        # Polling keeps the membership; pausing keeps the data away.
        while True:
            try:
                self._consumer.pause(*self._consumer.assignment())
                await self._consumer.getmany(timeout_ms=500, max_records=1)
            except Exception as error:  # a lost membership only spreads work anew
                _log.warning("group membership disturbed", error_type=type(error).__name__)
                await asyncio.sleep(0.5)

    async def confirmed(self) -> frozenset[int] | None:
        """The lanes that the group, asked afresh, says are ours; None while it cannot say."""
        member = self._consumer._coordinator.member_id
        if not member:
            return None  # thrown out and about to join again
        admin = AIOKafkaAdminClient(**self._client)
        try:
            async with asyncio.timeout(ANSWER_S):
                await admin.start()
                responses = await admin.describe_consumer_groups([self._group])
        except (KafkaError, TimeoutError, OSError):
            return None
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await admin.close()
        groups = [group for response in responses for group in response.groups]
        if any(error or state != "Stable" for error, _, state, *_ in groups):
            return None
        return frozenset(
            partition
            for group in groups
            for found in group[5]
            if found[0] == member and found[4]
            for topic, partitions in _assignment(found[4])
            if topic == self._topic
            for partition in partitions
        )

    async def close(self) -> None:
        """Leave the group; never fails."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        await stop_consumer(self._consumer)


def _assignment(data: bytes) -> list[tuple[str, list[int]]]:
    decoded = ConsumerProtocolMemberAssignment.decode(data)
    return list(decoded.assignment)
