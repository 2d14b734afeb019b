"""The records of a race: made once, written before each run so that they show all at once.

They are written in one Kafka transaction that stays open: readers of committed records (every
contestant is one) see nothing of them until it is committed, and that moment starts the clock.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from bench import job, reference

#: Records are counted in these; expectations are kept after each.
CHUNK = 1_000
LOAD_S_MAX = 600
Made = tuple[bytes, bytes]  # key, Avro body


@dataclass(frozen=True, slots=True)
class Expected:
    """What one grant gets: how many, and the sum of the digests of what they say."""

    count: int
    digest: int

    def plus(self, other: Expected) -> Expected:
        """Both together."""
        return Expected(self.count + other.count, (self.digest + other.digest) % 2**64)


NOTHING = Expected(0, 0)


def digest_of(value: bytes, key: bytes | None) -> int:
    """Digest of one output without its schema id; `key` where the grant has it in clear."""
    return int.from_bytes(hashlib.blake2b(value + (key or b""), digest_size=8).digest(), "big")


class Records:
    """The first `count` records of the reference job, and what every grant must get of them."""

    def __init__(self, count: int) -> None:
        chunks = range(-(-count // CHUNK))
        self._made: list[Made] = []
        self._expected: list[dict[str, Expected]] = [dict.fromkeys(job.REFERENCE, NOTHING)]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            for made, expected in pool.map(_chunk, chunks, chunksize=4):
                self._made += made
                before = self._expected[-1]
                self._expected.append({g: before[g].plus(expected[g]) for g in job.REFERENCE})

    def __len__(self) -> int:
        return len(self._made)

    def slice(self, first: int, count: int) -> Iterator[tuple[int, Made]]:
        """Numbers and records from `first` on."""
        return zip(range(first, first + count), self._made[first : first + count], strict=True)

    def expected(self, count: int) -> dict[str, Expected]:
        """What each grant gets of the first `count` records, a multiple of CHUNK."""
        return self._expected[count // CHUNK]


def _chunk(number: int) -> tuple[list[Made], dict[str, Expected]]:
    made: list[Made] = []
    expected = dict.fromkeys(job.REFERENCE, NOTHING)
    for message in job.messages(number * CHUNK, CHUNK, 0):
        body = message.value[5:]
        made.append((message.key, body))
        for grant, value in reference.outputs(body).items():
            key = message.key if reference.KEY_IS_CLEAR[grant] else None
            expected[grant] = expected[grant].plus(Expected(1, digest_of(value, key)))
    return made, expected


class Inbound:
    """One inbound topic that is written before a run."""

    def __init__(self, bootstrap: str, topic: str, lanes: int, schema_id: int) -> None:
        self._topic = topic
        self._lanes = lanes
        self._frame = b"\0" + struct.pack(">I", schema_id)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": f"{topic}.load",
                "transaction.timeout.ms": 900_000,
                "partitioner": "murmur2_random",
                "linger.ms": 50,
                "batch.size": 256 * 1024,
                "queue.buffering.max.messages": 500_000,
                "queue.buffering.max.kbytes": 1024 * 1024,
            }
        )
        self._producer.init_transactions(30)
        self._watch = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{topic}.watch",
                "isolation.level": "read_uncommitted",
            }
        )

    def hide(self, records: Records, first: int, count: int) -> list[int]:
        """Write these records so that nobody sees them yet; the offsets after them, by lane."""
        producer, topic = self._producer, self._topic
        producer.begin_transaction()
        for n, (key, body) in records.slice(first, count):
            headers: list[tuple[str, str | bytes | None]]
            headers = [("shutong_publisher", job.PUBLISHER), ("ce_id", b"event-%d" % n)]
            while True:
                try:
                    producer.produce(topic, self._frame + body, key, headers=headers)
                    break
                except BufferError:
                    producer.poll(0.05)
            if not n % 1000:
                producer.poll(0)
        if producer.flush(LOAD_S_MAX):
            raise RuntimeError("Kafka did not take all records in time")
        return [self._end(lane) for lane in range(self._lanes)]

    def show(self) -> float:
        """Let everybody see them; the moment before, by the monotonic clock."""
        began = time.monotonic()
        self._producer.commit_transaction(30)
        return began

    def _end(self, lane: int) -> int:
        _, high = self._watch.get_watermark_offsets(TopicPartition(self._topic, lane), 10)
        return int(high)

    def close(self) -> None:
        """Let go of the clients."""
        self._watch.close()


class Progress:
    """How far a consumer group has committed, asked from outside."""

    def __init__(self, bootstrap: str, group: str, topic: str, lanes: int) -> None:
        self._asked = [TopicPartition(topic, lane) for lane in range(lanes)]
        # read_uncommitted: the answer is what is committed now, not a wait for what is under way.
        self._client = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "isolation.level": "read_uncommitted",
                "enable.auto.commit": False,
            }
        )

    def reached(self, ends: Sequence[int]) -> bool:
        """Whether every lane has committed up to these offsets."""
        try:
            found = self._client.committed(self._asked, timeout=10)
        except KafkaException:
            return False  # a coordinator that is being found; whoever waits has its own limit
        return all(each.offset >= end for each, end in zip(found, ends, strict=True))

    def close(self) -> None:
        """Let go of the client."""
        self._client.close()
