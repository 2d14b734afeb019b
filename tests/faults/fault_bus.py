"""A bus for one fault test: topics, list, a flow of records.

What is published is written by librdkafka and noted when acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from faults import visits
from shutong_control.publish import Draft, Publisher
from shutong_core.domain.listfile import read_list_file
from shutong_core.domain.regions import parse_table
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import ensure_topics
from shutong_core.runtime.keyring import Keyring
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.node import DIVISIONS_FILE
from shutong_core.runtime.resources import package_file
from shutong_core.wire.topics import Topics, control_specs, topic_specs

DRAIN_S_MAX = 60.0
_DIVISIONS = parse_table(package_file(DIVISIONS_FILE).read_bytes()).digest.hex()


def until(done: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait until `done()` gives something true; AssertionError says what did not happen."""
    end = time.monotonic() + seconds
    while True:
        found = done()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


class Bus:
    """One prefix on a Kafka, with its own keyring and list."""

    def __init__(self, bootstrap: str, directory: Path, lanes: int = 2) -> None:
        self.bootstrap = bootstrap
        self.directory = directory
        self.lanes = lanes
        self.prefix = f"f{uuid.uuid4().hex[:10]}"
        self.topics = Topics(self.prefix)
        self.client = {"bootstrap_servers": bootstrap}
        self.schema_id = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.keyring = Keyring(directory / "keyring")

    def publish_list(self, suspended: frozenset[str] = frozenset()) -> int:
        """Put the list in force; its number."""
        return asyncio.run(self._publish_list(suspended))

    async def _publish_list(self, suspended: frozenset[str]) -> int:
        await ensure_topics(self.client, control_specs(self.topics, 1, 1))
        feed = ListFeed(self.client, self.topics, self.keyring.verifier("control"))
        await feed.start()
        try:
            publisher = Publisher(
                self.client,
                self.topics,
                feed,
                self.keyring.signer("control"),
                lambda *_: (),
                self._ensure,
                lambda: int(time.time() * 1000),
            )
            text = visits.list_file(self.lanes, _DIVISIONS, suspended)
            texts = {"visits.avsc": visits.SCHEMA_TEXT.encode()}
            prepared = await publisher.publish(Draft(read_list_file(text, "list.yaml"), texts))
        finally:
            await feed.stop()
        assert prepared is not None
        (schema,) = prepared.version.dataset(visits.DATASET).schemas
        self.schema_id = schema.id
        return prepared.version.number

    async def _ensure(self, version: ListVersion) -> None:
        await ensure_topics(self.client, topic_specs(version, self.topics, 1, 1))

    def positions(self) -> dict[int, tuple[int, int]]:
        """Lane → (input offset committed, -1 if none; end of the input)."""
        topic = self.topics.inbound(visits.DATASET)
        reader = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": self.topics.lanes_group}
        )
        try:
            wanted = [TopicPartition(topic, lane) for lane in range(self.lanes)]
            found = {}
            for each in reader.committed(wanted, timeout=10):
                _, end = reader.get_watermark_offsets(each, timeout=10)
                found[each.partition] = (max(each.offset, -1), end)
            return found
        finally:
            reader.close()

    def drained(self) -> bool:
        """Whether every published record was decided."""
        return all(end in (0, at) for at, end in self.positions().values())

    def wait_drained(self) -> None:
        """Wait until every published record was decided."""
        until(self.drained, DRAIN_S_MAX, f"all of inbound decided, stands at {self.positions()}")


class Flow:
    """Publishes records until stopped; good ones, refused ones, repeats of earlier ones."""

    def __init__(
        self,
        bus: Bus,
        per_second: float = 80,
        seed: int = 1,
        town: str = "",
        repeats: float = 0.08,
    ) -> None:
        """`town`: all records are of it (""). `repeats`: share of records sent again."""
        self._bus = bus
        self._repeats = repeats
        self._pause_s = 1 / per_second
        self._random = random.Random(seed)
        self._town = town
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._sent: list[dict[str, Any]] = []
        self.acknowledged: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bus.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 2,
                "partitioner": "murmur2_random",
                "message.timeout.ms": 60_000,
            }
        )

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)
        assert self._producer.flush(60) == 0, "the test's own producer could not finish"

    def write(self, count: int) -> None:
        """Publish `count` records now and wait for Kafka's word on them; not while it runs."""
        assert not self._thread.is_alive(), "two writers would give two records one serial"
        for _ in range(count):
            self._send(self._next())
        assert self._producer.flush(30) == 0

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s):
            self._send(self._next())

    def _next(self) -> dict[str, Any]:
        rng = self._random
        good = [each for each in self._sent[-40:] if visits.refusal(each) is None]
        if good and rng.random() < self._repeats:
            return rng.choice(good)
        towns = [visits.MEIZHOU, visits.MEIZHOU, visits.GUANGZHOU, visits.GUANGZHOU]
        serial = f"S{len(self._sent):06d}"
        return {
            "serial": serial,
            "person": f"P{rng.randrange(12)}",
            "town_code": self._town or rng.choice([*towns, visits.BEIJING]),
            "amount": rng.randrange(1000),
            "remarks": f"{visits.CANARY}-{serial}",
        }

    def _send(self, record: dict[str, Any]) -> None:
        self._sent.append(record)
        serial = record["serial"]
        self._producer.produce(
            self._bus.topics.inbound(visits.DATASET),
            key=record["person"].encode(),
            value=visits.encode(record, self._bus.schema_id),
            headers=[("ce_id", serial.encode()), ("shutong_publisher", visits.PUBLISHER)],
            on_delivery=lambda error, _: self.acknowledged.append(serial) if not error else None,
        )
        self._producer.poll(0)
