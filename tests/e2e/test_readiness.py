"""Readiness tells the truth: before the first list, without Kafka, and when it is back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from e2e.waiting import until
from e2e.whole_bus import LIST
from shutong_cli.publishing import publish_list_file
from shutong_core.runtime.freeports import free_ports
from shutong_core.runtime.kafka_jars import Toolchain
from shutong_core.runtime.kafka_launch import QUICK
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import Settings

SERVICES = ("control", "auditor", "broker", "producer", "consumer")
NEED_A_LIST = ("broker", "producer", "consumer")
DRAIN_S = 10.0
_http = httpx.Client(timeout=3, trust_env=False)


@dataclass
class Process:
    """One service as a process."""

    name: str
    admin: str
    child: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str) -> tuple[int, Any]:
        answer = _http.get(self.admin + path)
        return answer.status_code, answer.json()

    def ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except httpx.TransportError:
            return False

    def answers(self) -> bool:
        try:
            return self.get("/livez")[0] == 200
        except httpx.TransportError:
            return False

    def problems(self) -> dict[str, str]:
        """What /readyz?verbose says is wrong."""
        status, body = self.get("/readyz?verbose")
        found = {name: each["problem"] for name, each in body["checks"].items() if not each["ok"]}
        assert (status == 200) == body["ready"] == (not found)
        return found


@dataclass
class Place:
    """A Kafka of its own, and the services on it."""

    kafka: EmbeddedKafka
    node: Node
    services: dict[str, Process]

    def all_ready(self) -> bool:
        return all(each.ready() for each in self.services.values())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, kafka_tools: Toolchain) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("ready")
    with EmbeddedKafka(directory / "kafka", kafka_tools, profile=QUICK) as kafka:
        given = {"bootstrap_servers": kafka.bootstrap_servers, "replication": 1, "min_isr": 1}
        settings = Settings(data_dir=directory, prefix="ready", kafka=given)  # type: ignore[arg-type]
        services = {name: _start(name, settings) for name in SERVICES}
        try:
            yield Place(kafka, Node("test", settings), services)
        finally:
            for each in services.values():
                each.child.kill()
                each.child.wait()


def _start(name: str, settings: Settings) -> Process:
    http, admin = free_ports(2)
    environment = {key: value for key, value in os.environ.items() if "SHUTONG" not in key} | {
        "SHUTONG_DATA_DIR": str(settings.data_dir),
        "SHUTONG_PREFIX": settings.prefix,
        "SHUTONG_KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka.bootstrap_servers),
        "SHUTONG_KAFKA_REPLICATION": "1",
        "SHUTONG_KAFKA_MIN_ISR": "1",
        f"SHUTONG_{name.upper()}_HTTP_PORT": str(http),
        f"SHUTONG_{name.upper()}_ADMIN_PORT": str(admin),
    }
    log = settings.data_dir / f"{name}.log"
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", f"shutong_{name}"], env=environment, stdout=out, stderr=out
        )
    return Process(name, f"http://127.0.0.1:{admin}", child, log)


def test_before_the_first_list_all_live_and_none_that_needs_it_is_ready(place: Place) -> None:
    for each in place.services.values():
        until(each.answers, 30, f"{each.name} answers")
    time.sleep(1.5)  # whoever would claim to be ready too early has had the time
    for name in NEED_A_LIST:
        problems = place.services[name].problems()
        assert "list" in problems, (name, problems)
        assert "list" in problems["list"]


def test_with_the_first_list_all_become_ready(place: Place) -> None:
    asyncio.run(publish_list_file(place.node, LIST))
    until(place.all_ready, 30, "all ready")
    assert all(each.problems() == {} for each in place.services.values())


@pytest.mark.parametrize("name", NEED_A_LIST)
def test_without_kafka_none_that_needs_it_is_ready_but_all_live(place: Place, name: str) -> None:
    if place.kafka.pid is not None:
        place.kafka.stop()
    service = place.services[name]
    until(lambda: not service.ready(), 15, f"{name} says that it is not ready")
    problems = service.problems()
    assert any("Kafka" in text or "list" in text for text in problems.values()), problems
    assert service.get("/livez") == (200, {"alive": True, "tasks": {}})


def test_when_kafka_is_back_all_are_ready_again_by_themselves(place: Place) -> None:
    place.kafka.start()
    until(place.all_ready, 45, "all ready again")
    assert all(each.child.poll() is None for each in place.services.values())


@pytest.mark.parametrize("name", SERVICES)
def test_sigterm_ends_a_service_in_time_even_without_kafka(place: Place, name: str) -> None:
    if place.kafka.pid is not None:
        place.kafka.stop()
        time.sleep(2)
    service = place.services[name]
    asked = time.monotonic()
    service.child.send_signal(signal.SIGTERM)
    assert service.child.wait(DRAIN_S + 5) == 0, service.log.read_text()[-2000:]
    assert time.monotonic() - asked <= DRAIN_S + 1
