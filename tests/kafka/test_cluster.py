"""Topics are made from their specs, once, however many processes ask; differences are reported."""

from __future__ import annotations

import asyncio

import pytest

from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.runtime.cluster import (
    Difference,
    cluster_id,
    ensure_topics,
    existing_topics,
    partitions_of,
)
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.wire.topics import TopicSpec

pytestmark = pytest.mark.kafka


def client(kafka: EmbeddedKafka) -> dict[str, object]:
    return {"bootstrap_servers": kafka.bootstrap_servers}


async def test_missing_topics_are_made_with_their_settings(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    specs = [
        TopicSpec(f"{prefix}.lanes", 6, 1, {"cleanup.policy": "compact"}),
        TopicSpec(f"{prefix}.audit", 2, 1, {"retention.ms": "-1"}),
    ]
    assert await ensure_topics(client(kafka), specs) == ()
    assert await existing_topics(client(kafka), prefix) == {f"{prefix}.lanes", f"{prefix}.audit"}
    wanted = {f"{prefix}.lanes": 6, f"{prefix}.audit": 2}
    assert await partitions_of(client(kafka), [*wanted, f"{prefix}.none"]) == wanted
    assert await ensure_topics(client(kafka), specs) == ()


async def test_a_topic_that_differs_is_reported_not_changed(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    name = f"{prefix}.x"
    await ensure_topics(client(kafka), [TopicSpec(name, 1, 1, {"retention.ms": "1000000"})])
    found = await ensure_topics(client(kafka), [TopicSpec(name, 2, 1, {"retention.ms": "-1"})])
    assert found == (
        Difference(name, "partitions", "2", "1"),
        Difference(name, "retention.ms", "-1", "1000000"),
    )


async def test_many_may_make_the_same_topics_at_once(kafka: EmbeddedKafka, prefix: str) -> None:
    specs = [TopicSpec(f"{prefix}.t{number}", 2, 1) for number in range(20)]
    found = await asyncio.gather(*(ensure_topics(client(kafka), specs) for _ in range(4)))
    assert found == [(), (), (), ()]


async def test_more_copies_than_nodes_is_fatal_with_the_setting_to_change(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    with pytest.raises(Fatal, match="SHUTONG_KAFKA_REPLICATION"):
        await ensure_topics(client(kafka), [TopicSpec(f"{prefix}.x", 1, 3)])


async def test_the_cluster_says_its_id(kafka: EmbeddedKafka) -> None:
    assert len(await cluster_id(client(kafka))) == 22


async def test_no_kafka_is_a_passing_fault() -> None:
    with pytest.raises(Retryable):
        await cluster_id({"bootstrap_servers": "127.0.0.1:1"})
