"""Reads everything a contestant delivered, committed only, and holds it against what is due."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, TopicPartition

from bench import reference
from bench.inbound import NOTHING, Expected, digest_of

READ_S_MAX = 120.0
HIDDEN_KEY_BYTES = 16


class WrongOutput(Exception):  # noqa: N818 - told as it is
    """A contestant did not deliver what it should have: its time counts for nothing."""


def delivered(bootstrap: str, topics: Mapping[str, str], lanes: int) -> dict[str, Expected]:
    """What each grant's topic (grant → topic) holds for a read_committed reader."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench.outputs",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 4 * 1024 * 1024,
        }
    )
    grant_of = {topic: grant for grant, topic in topics.items()}
    counts = dict.fromkeys(topics, 0)
    sums = dict.fromkeys(topics, 0)
    left = {(topic, lane) for topic in grant_of for lane in range(lanes)}
    consumer.assign([TopicPartition(topic, lane, 0) for topic, lane in left])
    end = time.monotonic() + READ_S_MAX
    try:
        while left:
            if time.monotonic() > end:
                raise WrongOutput("the outputs could not be read in time")
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    grant = grant_of[str(message.topic())]
                    key = _clear_key(grant, message.key())
                    counts[grant] += 1
                    sums[grant] += digest_of((message.value() or b"")[5:], key)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((message.topic(), message.partition()))
                else:
                    raise WrongOutput(str(error))
    finally:
        consumer.close()
    return {grant: Expected(counts[grant], sums[grant] % 2**64) for grant in topics}


def _clear_key(grant: str, key: bytes | None) -> bytes | None:
    if reference.KEY_IS_CLEAR[grant]:
        return key
    if key is None or len(key) != HIDDEN_KEY_BYTES:
        raise WrongOutput(f"grant {grant}: a delivered key is not a keyed hash of 16 bytes")
    return None


def compare(found: Mapping[str, Expected], due: Mapping[str, Expected]) -> None:
    """Raises WrongOutput unless every grant has exactly what is due, each once."""
    for grant, expected in due.items():
        got = found.get(grant, NOTHING)
        if got.count != expected.count:
            raise WrongOutput(f"grant {grant}: {got.count} records instead of {expected.count}")
        if got.digest != expected.digest:
            raise WrongOutput(f"grant {grant}: {got.count} records, but not those that are due")
