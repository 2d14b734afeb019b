"""`shutong up` before it is ready: a stop ends the start, a foreign keyring is refused."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from shutong_cli.publishing import publish_list_file
from shutong_cli.up import up
from shutong_core.domain.errors import Fatal
from shutong_core.runtime.freeports import free_ports
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import KafkaSettings, Settings, load_settings

pytestmark = pytest.mark.kafka
LIST = Path(__file__).resolve().parents[2] / "deploy/samples/story/list.yaml"
SERVICES = ("control", "broker", "producer", "consumer")


def settings(kafka: EmbeddedKafka, prefix: str, data_dir: Path) -> Settings:
    ports = free_ports(2 * len(SERVICES))
    given = {
        name: {"http_port": ports[2 * n], "admin_port": ports[2 * n + 1]}
        for n, name in enumerate(SERVICES)
    }
    server = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, replication=1, min_isr=1)
    return load_settings(prefix=prefix, data_dir=data_dir, kafka=server, **given)


def children() -> set[int]:
    """Process ids of this process's children."""
    path = Path(f"/proc/{os.getpid()}/task")
    return {int(pid) for each in path.glob("*/children") for pid in each.read_text().split()}


async def test_a_stop_while_services_start_ends_the_start_at_once(
    kafka: EmbeddedKafka,
    prefix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, stop = children(), Stop()
    # Without a list no service ever gets ready.
    chosen = settings(kafka, prefix, tmp_path / "data")
    running = asyncio.create_task(up(chosen, None, story=False, stop=stop))
    async with asyncio.timeout(30):
        while len(children() - before) < len(SERVICES):
            await asyncio.sleep(0.05)
    asked = time.monotonic()
    stop.request()
    await running
    assert time.monotonic() - asked < 10
    assert children() == before
    assert "start was cancelled" in " ".join(capsys.readouterr().out.split())


async def test_a_kafka_of_another_keyring_is_refused_before_anything_is_made(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path
) -> None:
    await publish_list_file(Node("cli", settings(kafka, prefix, tmp_path / "first")), LIST)
    fresh = settings(kafka, prefix, tmp_path / "second")
    for list_file in (LIST, None):
        with pytest.raises(Fatal, match="belongs to another keyring"):
            await up(fresh, list_file, story=False, stop=Stop())
    with pytest.raises(Fatal, match="belongs to another keyring"):
        await publish_list_file(Node("cli", fresh), LIST)
    assert not fresh.keyring_dir.exists()

    other = settings(kafka, f"{prefix}-other", tmp_path / "second")
    await publish_list_file(Node("cli", other), LIST)
    assert fresh.keyring_dir.exists()
    with pytest.raises(Fatal, match="SHUTONG_PREFIX"):
        await up(fresh, None, story=False, stop=Stop())
