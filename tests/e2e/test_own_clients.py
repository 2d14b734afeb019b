"""Clients that know nothing of the bus: Confluent's own, as README shows them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from e2e.samples import gauge
from e2e.scene import ITEMS
from e2e.whole_bus import Bus

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def readings(bus: Bus) -> dict[str, dict[str, Any]]:
    """Readings written by an unmodified serializer and producer, by gauge."""
    topic = bus.topics.inbound("gauge-reading")
    registry = SchemaRegistryClient({"url": bus.url("control")})
    latest = registry.get_latest_version(f"{topic}-value")
    encode = AvroSerializer(
        registry,
        latest.schema.schema_str,
        conf={"auto.register.schemas": False, "use.latest.version": True},
    )
    producer = Producer({"bootstrap.servers": bus.bootstrap, "partitioner": "murmur2_random"})
    made = [gauge(level=n / 8) for n in range(20)]
    for reading in made:
        value = encode(reading, SerializationContext(topic, MessageField.VALUE))
        producer.produce(topic, value, reading["gauge_id"])
    assert producer.flush(20) == 0
    bus.wait_decided()
    return {reading["gauge_id"]: reading for reading in made}


def test_the_readme_s_subscriber_reads_what_was_published(
    bus: Bus, readings: dict[str, dict[str, Any]]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    for shown, here in (
        (r"shutong\.delivery\.[a-z0-9-]+", bus.topics.delivery("gauge-open")),
        (r"http://127\.0\.0\.1:\d+", bus.url("control")),
        (r"127\.0\.0\.1:9092", bus.bootstrap),
    ):
        block, count = re.subn(rf'"{shown}"', f'"{here}"', block)
        assert count == 1, f"README shows no {shown}"
    printed: list[dict[str, Any]] = []
    names: dict[str, Any] = {"print": printed.append}
    exec(compile(block, "README.md", "exec"), names)
    names["consumer"].close()
    ours = [each for each in printed if each["gauge_id"] in readings]
    assert len(ours) == len(readings)
    for each in ours:
        published = readings[each["gauge_id"]]
        assert each == {item: published[item] for item in ITEMS["gauge-open"]}


def test_the_registry_gives_every_schema_by_id(bus: Bus) -> None:
    registry = SchemaRegistryClient({"url": bus.url("control")})
    for schema_id, parsed in bus.schemas().items():
        given = json.loads(registry.get_schema(schema_id).schema_str)
        assert given["name"] == parsed["name"].rpartition(".")[2]
        assert [each["name"] for each in given["fields"]] == [
            each["name"] for each in parsed["fields"]
        ]


def test_the_registry_takes_no_schema_from_a_stranger(bus: Bus) -> None:
    registry = SchemaRegistryClient({"url": bus.url("control")})
    topic = bus.topics.inbound("gauge-reading")
    latest = registry.get_latest_version(f"{topic}-value").schema
    before = bus.schemas().keys()
    stranger = Schema(latest.schema_str.replace("GaugeReading", "Intruder"), "AVRO")
    with pytest.raises(SchemaRegistryError):
        registry.register_schema(f"{topic}-value", stranger)
    assert bus.schemas().keys() == before


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
def test_kcat_reads_a_delivery_topic(bus: Bus, readings: dict[str, dict[str, Any]]) -> None:
    # Debian's kcat is built without Avro: keys and sizes are what it can tell.
    topic = bus.topics.delivery("gauge-open")
    command = ["kcat", "-C", "-e", "-q", "-b", bus.bootstrap, "-t", topic, "-o", "beginning"]
    command += ["-X", "isolation.level=read_committed", "-f", "%k\\t%S\\n"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told = dict(line.split("\t") for line in done.stdout.splitlines())
    assert told.keys() >= readings.keys()
    assert all(int(size) > 5 for size in told.values())
