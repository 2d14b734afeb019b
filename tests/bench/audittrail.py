"""What a run says of itself in the audit: when each lane wrote a block, and of how many records.

Times are Kafka's own (log append), so measuring costs the run nothing.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from shutong_core.audit.header import parse_header

READ_S = 30.0
_PASSING = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
_PASSING |= {KafkaError.UNKNOWN_TOPIC_OR_PART}


@dataclass(frozen=True, slots=True)
class Block:
    """One committed transaction of a lane."""

    lane: int
    sequence: int
    list_number: int
    rows: int
    refused: int
    placed: int
    decided_ms: int
    written_ms: int  # log append time


def ends(bootstrap: str, topic: str) -> list[int]:
    """The end of each partition now."""
    return all_ends(bootstrap, [topic])[topic]


def all_ends(bootstrap: str, topics: Iterable[str]) -> dict[str, list[int]]:
    """The end of each partition of these topics now, asked in one request."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + READ_S
    while True:
        try:
            return _ask_ends(admin, list(topics))
        except KafkaException as error:  # a topic made just now has no leader for a moment
            if time.monotonic() > deadline or error.args[0].code() not in _PASSING:
                raise
            time.sleep(0.1)


def committed_end(bootstrap: str, topic: str) -> int:
    """How far readers of committed records may read partition 0 now."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    asked = {TopicPartition(topic, 0): OffsetSpec.latest()}
    level = IsolationLevel.READ_COMMITTED
    found = admin.list_offsets(asked, isolation_level=level, request_timeout=20)
    return int(next(iter(found.values())).result().offset)


def _ask_ends(admin: AdminClient, topics: Sequence[str]) -> dict[str, list[int]]:
    there = admin.list_topics(timeout=10).topics
    asked = {
        TopicPartition(topic, n): OffsetSpec.latest()
        for topic in topics
        for n in there[topic].partitions
    }
    found: dict[str, list[int]] = {topic: [0] * len(there[topic].partitions) for topic in topics}
    for partition, future in admin.list_offsets(asked, request_timeout=20).items():
        found[partition.topic][partition.partition] = future.result().offset
    return found


def blocks(bootstrap: str, topic: str, since: Sequence[int]) -> list[Block]:
    """Every committed block from these offsets on, in order of each lane."""
    until = ends(bootstrap, topic)
    reader = _reader(bootstrap)
    found = []
    try:
        reader.assign([TopicPartition(topic, n, at) for n, at in enumerate(since)])
        while True:
            for message in reader.consume(1000, 0.1):
                if message.error():
                    raise RuntimeError(str(message.error()))
                head = parse_header(message.key() or b"")
                sizes = (head.rows, head.refused, head.placed)
                when = (head.decided_ms, message.timestamp()[1])
                found.append(Block(head.lane, head.sequence, head.list_number, *sizes, *when))
            there = reader.position([TopicPartition(topic, n) for n in range(len(until))])
            if all(max(tp.offset, since[tp.partition]) >= until[tp.partition] for tp in there):
                return sorted(found, key=lambda block: (block.lane, block.sequence))
    finally:
        reader.close()


def by_lane(found: Sequence[Block]) -> dict[int, list[Block]]:
    """Blocks of each lane in order."""
    lanes: dict[int, list[Block]] = defaultdict(list)
    for block in found:
        lanes[block.lane].append(block)
    return dict(lanes)


def rate(found: Sequence[Block]) -> float:
    """Records decided per second while every lane worked: between the last lane's first block and
    the first lane's last one."""
    lanes = by_lane(found).values()
    begin = max(lane[0].written_ms for lane in lanes)
    end = min(lane[-1].written_ms for lane in lanes)
    rows = sum(block.rows for block in found if begin < block.written_ms <= end)
    if end - begin < 500:
        raise RuntimeError(f"too short to measure: {end - begin} ms of common work")
    return rows * 1000 / (end - begin)


def gaps_ms(found: Sequence[Block], begin_ms: int, end_ms: int) -> dict[int, int]:
    """The longest time between two blocks in a row of each lane within a span of time."""
    longest = {}
    for lane, held in by_lane(found).items():
        times = [each.written_ms for each in held if begin_ms <= each.written_ms <= end_ms]
        longest[lane] = max(
            (later - earlier for earlier, later in itertools.pairwise(times)), default=0
        )
    return longest


def transaction_ms(found: Sequence[Block]) -> float:
    """The median time from one block of a lane to the next."""
    times = [
        later.written_ms - earlier.written_ms
        for held in by_lane(found).values()
        for earlier, later in itertools.pairwise(held)
    ]
    return statistics.median(times)


def _reader(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-audit",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
        }
    )
