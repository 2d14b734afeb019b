"""Sender and reader of a steady load, each a process: `load_worker.py send|read`, JSON on stdin.

Sender and reader agree on the order of records in each partition, so the reader need not look into
them: the j-th record of a partition it reads is the j-th that was sent there. A sample of keys
proves it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from confluent_kafka import Consumer, TopicPartition

from bench import flow, job
from shutong_core.wire.framing import frame

TICK_S = 0.001
SAMPLE_EVERY = 997
#: The first seconds of a load warm everything up and are left out of latencies.
WARM_S = 3.0


def send(load: flow.Load) -> dict[str, Any]:
    """Write each record when it is due; tells how late the sender itself was."""
    client = flow.producer(load.bootstrap, 0.5)
    distinct = flow.made(load.distinct)
    topics = [
        (topic, [(key, frame(schema_id, body), lane) for key, body, lane in distinct])
        for topic, schema_id in load.targets.items()
    ]
    mark, turns, size = load.mark.encode(), len(topics), len(distinct)
    publisher = ("shutong_publisher", job.PUBLISHER)
    for topic, _ in topics:
        client.list_topics(topic, 10)
    start = _ready()
    late = array("d")
    n, total = 0, load.total
    while n < total:
        elapsed = (time.monotonic_ns() - start) / 1e9
        due = min(total, int(elapsed * load.rate) + 1) if elapsed >= 0 else 0
        if due > n:
            late.append(elapsed - n / load.rate)
        while n < due:
            topic, records = topics[n % turns]
            key, value, lane = records[n % size]
            client.produce(
                topic, value, key, lane, headers=[publisher, ("ce_id", b"%s-%d" % (mark, n))]
            )
            n += 1
        client.poll(0)
        time.sleep(TICK_S)
    if client.flush(60):
        raise RuntimeError("Kafka did not take all records")
    print("sent", flush=True)
    return {"sent": n, "late_p99_ms": _percentile(late, 0.99) * 1000}


def read(load: flow.Load, topic: str) -> dict[str, Any]:
    """Read what is placed on `topic` as read_committed; latencies from the moment each was due."""
    consumer = Consumer(
        {
            "bootstrap.servers": load.bootstrap,
            "group.id": f"bench-{load.mark}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 100,
            "fetch.min.bytes": 1,
        }
    )
    partitions = sorted(consumer.list_topics(topic, 10).topics[topic].partitions)
    starts = []
    for partition in partitions:
        end = consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[1]
        starts.append(TopicPartition(topic, partition, end))
    consumer.assign(starts)
    keys, due = _expected(load)
    seen, ns = [0] * len(partitions), array("q")
    which = array("q")
    start, left = _ready(), load.total
    deadline = start + int((load.seconds + 60) * 1e9)
    sampled = 0
    while left and time.monotonic_ns() < deadline:
        first = consumer.poll(0.1)
        if first is None:
            continue
        batch = [first, *consumer.consume(10_000, 0)]
        now = time.monotonic_ns()
        for message in batch:
            if message.error():
                raise RuntimeError(str(message.error()))
            partition = int(message.partition())
            at = due[partition][seen[partition]]
            seen[partition] += 1
            which.append(at)
            ns.append(now)
            if at % SAMPLE_EVERY == 0:
                sampled += 1
                if message.key() != keys[at % load.distinct]:
                    raise RuntimeError("records came in another order than they were sent")
        left -= len(batch)
    late = sorted(
        (now - start) / 1e6 - at * 1000 / load.rate
        for at, now in zip(which, ns, strict=True)
        if at >= WARM_S * load.rate
    )
    consumer.close()
    return {
        "read": len(ns),
        "missing": left,
        "sampled": sampled,
        "p50_ms": _at(late, 0.5),
        "p90_ms": _at(late, 0.9),
        "p99_ms": _at(late, 0.99),
        "p999_ms": _at(late, 0.999),
        "max_ms": late[-1] if late else 0.0,
    }


def _expected(load: flow.Load) -> tuple[list[bytes], list[array[int]]]:
    """Keys of the distinct records; per lane the numbers of the records that go there, in order."""
    distinct = flow.made(load.distinct)
    due = [array("q") for _ in range(job.LANES)]
    for n in range(load.total):
        due[distinct[n % load.distinct][2]].append(n)
    return [key for key, _, _ in distinct], due


def _ready() -> int:
    """Say that all is prepared, learn when to begin (nanoseconds of the monotonic clock)."""
    print("ready", flush=True)
    return int(sys.stdin.readline())


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def _percentile(values: Sequence[float], share: float) -> float:
    return _at(sorted(values), share)


def main() -> None:
    role, given = sys.argv[1], json.loads(sys.stdin.readline())
    topic = given.pop("topic", "")
    load = flow.Load(**given)
    began = time.monotonic()
    found = send(load) if role == "send" else read(load, topic)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found["cpu_s"] = used.ru_utime + used.ru_stime
    found["wall_s"] = time.monotonic() - began
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
