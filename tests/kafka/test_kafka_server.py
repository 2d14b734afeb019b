"""The embedded Kafka keeps its data and its ports, guards its directory, explains its failures."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.kafka_jars import Toolchain, fetch_jars, find_jars, read_lock
from shutong_core.runtime.kafka_launch import QUICK
from shutong_core.runtime.kafka_ports import answers_metadata
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = pytest.mark.kafka


async def create(node: EmbeddedKafka, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=node.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def committed(node: EmbeddedKafka, topic: str, count: int) -> list[bytes | None]:
    """The first `count` committed values; waits for them, as markers follow a commit's answer."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=node.bootstrap_servers, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        found: list[bytes | None] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += [record.value for record in batch]
        return found
    finally:
        await consumer.stop()


async def write(node: EmbeddedKafka, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=node.bootstrap_servers, transactional_id=f"{topic}-writer"
    )
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def test_committed_records_and_ports_survive_stop_and_kill9(
    tmp_path: Path, kafka_tools: Toolchain
) -> None:
    node = EmbeddedKafka(tmp_path / "k", kafka_tools, profile=QUICK)
    node.start()
    ports = node.ports
    await create(node, "kept")
    await write(node, "kept", b"before the stop")
    node.stop()
    node.start()
    await write(node, "kept", b"before the kill")
    node.kill9()
    again = EmbeddedKafka(tmp_path / "k", kafka_tools, profile=QUICK)
    again.start()
    try:
        assert again.ports == ports
        assert await committed(again, "kept", 2) == [b"before the stop", b"before the kill"]
    finally:
        again.stop()


async def test_every_transaction_committed_right_before_a_kill_is_readable_after_it(
    tmp_path: Path, kafka_tools: Toolchain
) -> None:
    node = EmbeddedKafka(tmp_path / "k", kafka_tools, profile=QUICK)
    node.start()
    try:
        await create(node, "x")
        for count in range(1, 4):
            await write(node, "x", b"v")
            # The commit is decided, its marker often not yet written.
            node.kill9()
            node.start()
            assert await committed(node, "x", count) == [b"v"] * count
    finally:
        node.stop()


def test_a_second_start_on_one_data_directory_is_refused_with_advice(
    tmp_path: Path, kafka_tools: Toolchain
) -> None:
    with EmbeddedKafka(tmp_path / "k", kafka_tools, profile=QUICK):
        code = textwrap.dedent(f"""
            from pathlib import Path
            from shutong_core.domain.errors import Fatal
            from shutong_core.runtime.kafka_jars import Toolchain
            from shutong_core.runtime.kafka_server import EmbeddedKafka
            try:
                EmbeddedKafka(Path({str(tmp_path / "k")!r}),
                              Toolchain(Path({str(kafka_tools.cache)!r}))).start()
            except Fatal as fault:
                print(fault)
        """)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert "in use by another process" in done.stdout
        assert "SHUTONG_DATA_DIR" in done.stdout


def test_a_kafka_left_by_a_killed_parent_is_stopped_and_started_anew(
    tmp_path: Path, kafka_tools: Toolchain
) -> None:
    code = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from shutong_core.runtime.kafka_jars import Toolchain
        from shutong_core.runtime.kafka_launch import QUICK
        from shutong_core.runtime.kafka_server import EmbeddedKafka
        node = EmbeddedKafka(Path({str(tmp_path / "k")!r}),
                             Toolchain(Path({str(kafka_tools.cache)!r})), profile=QUICK)
        node.start()
        print(node.pid, node.ports.port, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    orphan, port = map(int, done.stdout.split())
    assert answers_metadata("127.0.0.1", port)
    with EmbeddedKafka(tmp_path / "k", kafka_tools, profile=QUICK) as node:
        assert node.pid != orphan
        assert node.ports.port == port


def test_a_paused_node_answers_nothing_until_resumed(
    tmp_path: Path, kafka_tools: Toolchain
) -> None:
    with EmbeddedKafka(tmp_path / "k", kafka_tools, profile=QUICK) as node:
        node.pause()
        assert not answers_metadata("127.0.0.1", node.ports.port, timeout_s=0.3)
        node.resume()
        assert answers_metadata("127.0.0.1", node.ports.port, timeout_s=10)


def test_a_failed_start_shows_the_last_log_lines_and_what_to_do(
    tmp_path: Path, kafka_tools: Toolchain
) -> None:
    node = EmbeddedKafka(
        tmp_path / "k", kafka_tools, profile=QUICK, overrides={"num.io.threads": "0"}
    )
    with pytest.raises(Fatal) as fault:
        node.start()
    assert "num.io.threads" in str(fault.value)
    assert "启动失败" in str(fault.value)
    assert node.pid is None


def test_a_kept_port_that_is_taken_is_named_with_the_remedy(
    tmp_path: Path, kafka_tools: Toolchain, kafka: EmbeddedKafka
) -> None:
    node = EmbeddedKafka(tmp_path / "k", kafka_tools, profile=QUICK, port=kafka.ports.port)
    with pytest.raises(Fatal, match=f"Port {kafka.ports.port} is taken"):
        node.start()


def test_it_listens_on_loopback_only(kafka: EmbeddedKafka) -> None:
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    ours = {f"{port:04X}" for port in (kafka.ports.port, kafka.ports.controller)}
    listening = [
        line.split()[1].split(":")
        for table in tables
        if table.exists()
        for line in table.read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    addresses = {address for address, port in listening if port in ours}
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    assert addresses
    assert addresses <= loopback


def test_jars_copied_from_a_directory_are_compared_with_the_lock(
    tmp_path: Path, kafka_tools: Toolchain
) -> None:
    source = tmp_path / "source"
    shutil.copytree(find_jars(kafka_tools).jars[0].parent, source)
    directory = fetch_jars(tmp_path / "good", source)
    assert len(list(directory.iterdir())) == len(find_jars(kafka_tools).jars)
    with (source / "kafka-clients-4.3.1.jar").open("ab") as jar:
        jar.write(b"x")
    with pytest.raises(Fatal, match=r"kafka-clients-4\.3\.1\.jar"):
        fetch_jars(tmp_path / "bad", source)
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["fetch.lock"]


def test_a_lock_file_with_another_line_is_refused() -> None:
    with pytest.raises(Fatal):
        read_lock("0" * 64 + "  ../evil.jar")


def test_kafka_home_without_kafka_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="KAFKA_HOME"):
        find_jars(Toolchain(tmp_path, kafka_home=tmp_path))
