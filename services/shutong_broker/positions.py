"""Asks Kafka where inputs stand and where they begin, all of a lane's in one request each."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import GroupLoadInProgressError, KafkaError, for_code
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from shutong_broker.fetchwire import READ_COMMITTED
from shutong_broker.stableoffsets import UNSTABLE, StableOffsetFetch, offsets_told
from shutong_core.domain.errors import Retryable

#: A question that takes longer is given up.
ANSWER_S = 10.0
#: So long a topic may take to become known; others do not wait for one that does not exist.
TOPIC_KNOWN_S = 3.0
ASK_AGAIN_S = 0.1
EARLIEST = -2


async def committed_offsets(
    client: AIOKafkaClient, group: str, topics: Sequence[str], partition: int
) -> dict[str, int | None]:
    """The offsets `group` committed, by topic, asked afresh; None where there is none.

    Raises Retryable if Kafka does not say. A transaction under way is waited for.
    """
    told = "no answer"
    try:
        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    return await _ask_committed(client, group, topics, partition)
                except KafkaError as error:
                    told = type(error).__name__
                    if not error.retriable:
                        break
                    if error.invalid_metadata:
                        client.force_metadata_update()
                await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError:
        pass
    raise Retryable(f"no committed offset told: {told}")


async def _ask_committed(
    client: AIOKafkaClient, group: str, topics: Sequence[str], partition: int
) -> dict[str, int | None]:
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    request = StableOffsetFetch(group, list(topics), partition)
    answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
    offsets, codes = offsets_told(answer)
    if UNSTABLE in codes:
        raise GroupLoadInProgressError  # as good as: ask again
    if codes:
        error: KafkaError = for_code(codes[0])()
        raise error
    if offsets.keys() != set(topics):
        raise KafkaError("not every offset asked for was told")
    return {topic: offset if offset >= 0 else None for topic, offset in offsets.items()}


async def first_offsets(
    client: AIOKafkaClient, topics: Sequence[str], partition: int
) -> dict[str, int]:
    """The first offset still kept, by topic; a topic that does not answer in time is left out."""
    found: dict[str, int] = {}
    try:
        async with asyncio.timeout(TOPIC_KNOWN_S):
            for topic in topics:
                client.add_topic(topic)
            while missing := [topic for topic in topics if topic not in found]:
                await _ask_first(client, missing, partition, found)
                if len(found) < len(topics):
                    await client.force_metadata_update()
                    await asyncio.sleep(ASK_AGAIN_S)
    except (KafkaError, TimeoutError):
        pass
    return found


async def _ask_first(
    client: AIOKafkaClient, topics: Sequence[str], partition: int, found: dict[str, int]
) -> None:
    by_node: dict[int, list[str]] = defaultdict(list)
    for topic in topics:
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        if leader is not None and leader >= 0:
            by_node[leader].append(topic)
    for node, asked in by_node.items():
        request = OffsetRequest(
            -1, READ_COMMITTED, [(topic, [(partition, EARLIEST)]) for topic in asked]
        )
        answer = await client.send(node, request)
        for topic, partitions in answer.topics:
            for _, code, _, offset in partitions:
                if not code:
                    found[topic] = offset
