"""Reads a bus's topics with librdkafka: what any Kafka client can see, committed or not."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from e2e.waiting import until


@dataclass(frozen=True)
class Stored:
    """One record as librdkafka gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def raw(self) -> bytes:
        """Key, value, header names and values, one after the other."""
        parts = [self.key or b"", self.value or b""]
        for name, value in self.headers:
            parts += [name.encode("utf-8", "surrogateescape"), value or b""]
        return b"\x00\xff\x00".join(parts)


def topic_names(bootstrap: str, prefix: str) -> list[str]:
    """Every topic under the prefix."""
    found = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=15).topics
    return sorted(name for name in found if name.startswith(f"{prefix}."))


def read_all(bootstrap: str, topics: Iterable[str], *, committed: bool = True) -> list[Stored]:
    """Everything in `topics` now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"scan-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
        }
    )
    try:
        wanted = _partitions(consumer, topics)
        consumer.assign(wanted)
        open_ = {(each.topic, each.partition) for each in wanted}
        found: list[Stored] = []

        def step() -> bool:
            for message in consumer.consume(500, timeout=0.1):
                fault = message.error()
                if fault is None:
                    found.append(_stored(message))
                elif fault.code() == KafkaError._PARTITION_EOF:
                    open_.discard((message.topic(), message.partition()))
                else:
                    raise AssertionError(fault)
            return not open_

        if wanted:
            until(step, 40, "topics read to their ends")
        return found
    finally:
        consumer.close()


def _partitions(consumer: Consumer, topics: Iterable[str]) -> Sequence[TopicPartition]:
    known = consumer.list_topics(timeout=15).topics
    return [TopicPartition(name, number, 0) for name in topics for number in known[name].partitions]


def _stored(message: Any) -> Stored:
    return Stored(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )
