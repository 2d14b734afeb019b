"""Datasets whose inbound topic an operator makes: read once it is there, not before."""

from __future__ import annotations

from typing import cast

import pytest

from shutong_broker.inbounds import InboundTopics
from shutong_broker.policies import PolicyBook
from shutong_core.runtime.cluster import ensure_topics
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.wire.topics import Topics, TopicSpec

pytestmark = pytest.mark.kafka


class Book:
    """What the lanes would be told."""

    listed = frozenset({"births", "deaths", "visits"})
    readable = frozenset[str]()

    def read_only(self, datasets: frozenset[str]) -> None:
        self.readable = datasets


async def test_a_dataset_is_read_once_its_topic_is_there(kafka: EmbeddedKafka, prefix: str) -> None:
    client = {"bootstrap_servers": kafka.bootstrap_servers}
    topics, book = Topics(prefix), Book()
    looking = InboundTopics(client, topics, cast(PolicyBook, book))
    await looking.look()
    assert book.readable == frozenset()
    await ensure_topics(client, [TopicSpec(topics.inbound(name), 2, 1) for name in ("births", "x")])
    await looking.look()
    assert book.readable == {"births"}
    await ensure_topics(client, [TopicSpec(topics.inbound("visits"), 2, 1)])
    await looking.look()
    assert book.readable == {"births", "visits"}
