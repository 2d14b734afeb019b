"""`shutong kafka …`: get, run, look at the embedded Kafka."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from shutong_cli.foreground import run_foreground
from shutong_cli.output import AsJson, examples, new_app, print_json, say
from shutong_cli.session import open_session, open_settings
from shutong_core.domain.errors import Fatal, Rejected, Retryable
from shutong_core.runtime.cluster import cluster_id, existing_topics
from shutong_core.runtime.kafka_jars import KAFKA_VERSION, fetch_jars
from shutong_core.runtime.kafka_ports import answers_metadata, read_ports
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.lifecycle import EXIT_FATAL, Stop
from shutong_core.runtime.settings import Settings, toolchain

STOP_S = 60.0
app = new_app("内置 Kafka：单节点，仅限本机。 The embedded Kafka: one real node on loopback.")


@app.command(epilog=examples("shutong kafka fetch", "shutong kafka fetch --from /media/usb/jars"))
def fetch(
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="从此目录复制 Copy the jars from there."),
    ] = None,
) -> None:
    """取得 Kafka 的 jar 并逐一核对 SHA-256。

    Get Kafka's jars by Maven, or from a directory, each compared with its pinned SHA-256.
    """
    open_settings()
    if source is not None and not source.is_dir():
        raise Rejected(f"{source}: 不是目录 is not a directory")
    directory = fetch_jars(toolchain().cache, source)
    say(f"Kafka {KAFKA_VERSION} 已就绪：{directory}", f"Kafka {KAFKA_VERSION} is in {directory}")


@app.command(epilog=examples("shutong kafka start"))
def start() -> None:
    """在前台运行内置 Kafka，Ctrl-C 停止；数据保留。

    Run the embedded Kafka in the foreground until Ctrl-C; its data are kept. `shutong up` does
    this by itself.
    """
    settings = open_settings()
    if not settings.kafka.embedded:
        raise Rejected(
            "已设置 SHUTONG_KAFKA_BOOTSTRAP_SERVERS，不使用内置 Kafka。"
            " SHUTONG_KAFKA_BOOTSTRAP_SERVERS is set, so the embedded Kafka is not used: unset it."
        )
    run_foreground(lambda stop: _serve(settings, stop), STOP_S)


async def _serve(settings: Settings, stop: Stop) -> None:
    node = EmbeddedKafka(_directory(settings), toolchain(), port=settings.kafka.port)
    try:
        await asyncio.to_thread(node.start)
        say(
            f"内置 Kafka 运行在 {node.bootstrap_servers}，Ctrl-C 停止",
            f"the embedded Kafka runs on {node.bootstrap_servers}, Ctrl-C stops it",
        )
        await stop.wait()
    finally:
        await asyncio.to_thread(node.stop)


@app.command(epilog=examples("shutong kafka status", "shutong kafka status --json"))
def status(as_json: AsJson = False) -> None:
    """说明使用哪个 Kafka、是否应答；不应答时退出码为 1。

    Say which Kafka is used and whether it answers; exit code 1 if it does not.
    """
    settings = open_settings()
    found = _embedded(settings) if settings.kafka.embedded else _cluster(settings)
    if found["running"]:
        try:
            found |= asyncio.run(_inside())
        except Retryable as error:
            setting = "" if found["embedded"] else " SHUTONG_KAFKA_BOOTSTRAP_SERVERS"
            raise Fatal(
                f"Kafka 在 {found['address']} 没有应答，请检查它是否运行、地址是否正确{setting}。"
                f" Kafka does not answer on {found['address']}: does it run, is the address right?"
                f"{setting} ({error})"
            ) from error
    if as_json:
        print_json(found)
    elif found["running"]:
        say(
            f"Kafka 在 {found['address']} 运行，集群 {found['cluster']}，{found['topics']} 个主题",
            f"Kafka answers on {found['address']}: cluster {found['cluster']},"
            f" {found['topics']} topics of {settings.prefix}",
        )
    else:
        say(
            f"内置 Kafka 未运行（{_directory(settings)}）：shutong up 或 shutong kafka start",
            f"the embedded Kafka of {_directory(settings)} is not running: `shutong up`"
            " or `shutong kafka start`",
        )
    if not found["running"]:
        raise typer.Exit(EXIT_FATAL)


async def _inside() -> dict[str, object]:
    node = open_session()
    topics = await existing_topics(node.client, node.topics.prefix)
    return {"cluster": await cluster_id(node.client), "topics": len(topics)}


def _cluster(settings: Settings) -> dict[str, object]:
    return {"running": True, "embedded": False, "address": settings.kafka.bootstrap_servers}


def _embedded(settings: Settings) -> dict[str, object]:
    directory = _directory(settings)
    ports = read_ports(directory)
    running = ports is not None and answers_metadata("127.0.0.1", ports.port)
    found: dict[str, object] = {
        "running": running,
        "embedded": True,
        "address": f"127.0.0.1:{ports.port}" if ports else None,
        "data_dir": str(directory),
    }
    if running:
        found["pid"] = _pid(directory)
    return found


def _pid(directory: Path) -> int | None:
    try:
        return int(json.loads((directory / "server.pid").read_text()))
    except (OSError, ValueError):
        return None


def _directory(settings: Settings) -> Path:
    return settings.data_dir / "kafka"
