"""Fixtures that need a real Kafka: one embedded node per session, one topic prefix per test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # noqa: F401 - imported late, its pytest plugin trips over a CPython 3.11 fault
import pytest

from shutong_core.runtime.kafka_jars import Toolchain
from shutong_core.runtime.kafka_launch import QUICK
from shutong_core.runtime.kafka_server import EmbeddedKafka


def toolchain() -> Toolchain:
    """Where tests find jars and Java: the user's cache, as the product does."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kafka_home, java_home = os.environ.get("KAFKA_HOME"), os.environ.get("JAVA_HOME")
    return Toolchain(
        Path(cache) / "shutong" / "kafka",
        Path(kafka_home) if kafka_home else None,
        Path(java_home) if java_home else None,
    )


@pytest.fixture(scope="session")
def kafka_tools() -> Toolchain:
    """For tests that start a node of their own."""
    return toolchain()


@pytest.fixture(scope="session")
def kafka(
    tmp_path_factory: pytest.TempPathFactory, kafka_tools: Toolchain
) -> Iterator[EmbeddedKafka]:
    """One real Kafka for the whole session; never stop it in a test, start your own for that.

    Clients behind a fault proxy: let the proxy listen on `kafka.ports.advertised`, forward to
    `kafka.ports.proxied`, and bootstrap by `kafka.proxied_bootstrap_servers`.
    """
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), kafka_tools, profile=QUICK) as node:
        yield node


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"
