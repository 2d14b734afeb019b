"""Fault tests have a Kafka of their own: they load it, and put a proxy before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.fault_bus import Bus
from shutong_core.runtime.kafka_jars import Toolchain
from shutong_core.runtime.kafka_launch import Profile
from shutong_core.runtime.kafka_server import EmbeddedKafka

#: Many broker processes at once: more heap than the one of quick tests.
LOADED = Profile(512, ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"))
_SIGHTINGS: Counter[str] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What was met is asked when everything was tried."""
    items.sort(key=lambda item: item.path.name == "test_sightings.py")


@pytest.fixture(scope="session")
def fault_kafka(
    tmp_path_factory: pytest.TempPathFactory, kafka_tools: Toolchain
) -> Iterator[EmbeddedKafka]:
    """One real Kafka for the fault tests that do not kill it."""
    with EmbeddedKafka(tmp_path_factory.mktemp("faults"), kafka_tools, profile=LOADED) as node:
        yield node


@pytest.fixture
def new_bus(fault_kafka: EmbeddedKafka, tmp_path: Path) -> Callable[..., Bus]:
    """Makes a bus of its own with the list in force: `new_bus("name", lanes=2)`."""

    def make(name: str, lanes: int = 2) -> Bus:
        bus = Bus(fault_kafka.bootstrap_servers, tmp_path / name, lanes)
        bus.publish_list()
        return bus

    return make


@pytest.fixture(scope="session")
def sightings() -> Counter[str]:
    """Which faults were really met in this run: fenced, aborted, in-doubt."""
    return _SIGHTINGS
