"""Records for the benchmarks: built before, written by librdkafka in bulk or at a steady rate.

The steady load is an open loop: record `i` is due at start + i / rate, whatever became of those
before, and a latency counts from that moment. Sender and reader are processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Producer

from bench import job
from shutong_core.wire.framing import frame
from shutong_core.wire.keys import partition_of

#: Unacknowledged records that librdkafka may hold.
QUEUE_MAX = 1_000_000
Made = tuple[bytes, bytes, int]
"""Key, Avro body, lane of one record."""


def made(count: int, towns: Sequence[str] | None = None) -> list[Made]:
    """`count` records of the reference job; `towns`: instead of their own towns these in turn."""
    schema = fastavro.parse_schema(json.loads(job.schema_text()))
    found = []
    for n in range(count):
        values = job.datum(n)
        if towns is not None:
            values["town_code"] = towns[n % len(towns)]
        body = BytesIO()
        fastavro.schemaless_writer(body, schema, values)
        key = values["id_number"].encode()
        found.append((key, body.getvalue(), partition_of(key, job.LANES)))
    return found


def producer(bootstrap: str, linger_ms: float) -> Producer:
    """The client that writes inbound records, as a department's would."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": linger_ms,
            "queue.buffering.max.messages": QUEUE_MAX,
            "queue.buffering.max.kbytes": 1024 * 1024,
            "batch.size": 512 * 1024,
            "partitioner": "murmur2_random",
        }
    )


def fill(
    bootstrap: str, targets: Mapping[str, int], records: Sequence[Made], mark: str, total: int
) -> None:
    """Write `total` records as fast as Kafka takes them, over topics (→ schema id) in turn.

    `mark` makes their event ids different from those of other rounds.
    """
    client = producer(bootstrap, 20)
    topics = list(targets.items())
    for n in range(total):
        key, body, lane = records[n % len(records)]
        topic, schema_id = topics[n % len(topics)]
        headers: list[tuple[str, Any]] = [("shutong_publisher", job.PUBLISHER)]
        headers.append(("ce_id", b"%s-%d" % (mark.encode(), n)))
        while True:
            try:
                client.produce(topic, frame(schema_id, body), key, lane, headers=headers)
                break
            except BufferError:
                client.poll(0.05)
        if n % 5000 == 0:
            client.poll(0)
    if client.flush(120):
        raise RuntimeError("Kafka did not take all records")


@dataclass(frozen=True, slots=True)
class Load:
    """A steady load: `rate` records per second for `seconds`, over topics (→ schema id) in turn."""

    bootstrap: str
    targets: Mapping[str, int]
    rate: float
    seconds: float
    mark: str
    distinct: int = 20_000

    @property
    def total(self) -> int:
        """Number of records."""
        return int(self.rate * self.seconds)


class Worker:
    """One half of the load in a process of its own: `send` or `read`."""

    def __init__(self, role: str, load: Load, **arguments: Any) -> None:
        """`role` is send or read; `arguments` are what that role needs beside the load."""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("load_worker.py")), role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**asdict(load), **arguments}) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the {role} process did not get ready")

    def go(self, at_ns: int) -> None:
        """Let it begin at this moment of the monotonic clock."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{at_ns}\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_sent(self) -> None:
        """Wait until a sender said that every record is acknowledged."""
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "sent":
            raise RuntimeError("the sender failed")

    def result(self) -> dict[str, Any]:
        """What it found, once it is done."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if self._process.wait(60) != 0 or not line:
            raise RuntimeError("a process of the load failed")
        return dict(json.loads(line))

    def end(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def soon_ns() -> int:
    """A moment of the monotonic clock in a second."""
    return time.monotonic_ns() + 1_000_000_000
