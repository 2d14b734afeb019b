"""The whole bus on one machine: Kafka if none is given, a list in force, every service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shutong_cli.history import require_own_bus
from shutong_cli.publishing import publish_list_file
from shutong_cli.supervisor import ServicePlan, Supervisor
from shutong_cli.voice import Voice
from shutong_core.runtime.freeports import free_ports
from shutong_core.runtime.kafka_jars import KAFKA_VERSION, Toolchain
from shutong_core.runtime.kafka_ports import port_is_free, read_ports
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import Settings, child_environment, toolchain

#: Where people look for Kafka; a node that once got another port keeps it.
USUAL_PORT = 9092
#: Services that `up` starts, in order; whether each has an API.
_SERVICES = (
    ("control", True),
    ("auditor", True),
    ("broker", False),
    ("producer", True),
    ("consumer", True),
)
#: On one machine a person wants to see checkpoints while he watches.
_CHECKPOINT_EVERY_S = "2"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running bus."""

    node: Node
    supervisor: Supervisor

    def url(self, name: str) -> str:
        """Base URL of a service's API."""
        return next(plan.url or "" for plan in self.supervisor.plans if plan.name == name)

    @property
    def admin_urls(self) -> tuple[str, ...]:
        """Admin addresses of all services."""
        return tuple(plan.admin_url for plan in self.supervisor.plans)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What to tell a person: service and address."""
        kafka = str(self.node.client["bootstrap_servers"])
        apis = (f"{plan.name} {plan.url}" for plan in self.supervisor.plans if plan.url)
        admins = (f"{plan.name}-metrics {plan.admin_url}" for plan in self.supervisor.plans)
        return (f"kafka {kafka}", *apis, *admins)

    @property
    def address_line(self) -> str:
        """The same in short: everything listens on this machine."""
        plans = self.supervisor.plans
        apis = [f"{each.name} {urlsplit(each.url).port}" for each in plans if each.url]
        admins = ", ".join(f"{each.name} {urlsplit(each.admin_url).port}" for each in plans)
        kafka = f"kafka {self.node.client['bootstrap_servers']}"
        return f"{' · '.join([kafka, *apis])}\n管理 admin (/readyz /metrics): {admins}"


@contextlib.asynccontextmanager
async def running(
    settings: Settings, list_file: Path | None, voice: Voice, *, any_port: bool = False
) -> AsyncIterator[Stack]:
    """Start everything, stop everything. `any_port`: choose free ports instead of the set ones.

    Raises Fatal, Rejected or Retryable, each with what to do.
    """
    async with contextlib.AsyncExitStack() as stack:
        settings = await _kafka(settings, stack, voice, any_port=any_port)
        node = Node("up", settings)
        await require_own_bus(node)
        keyring_is_new = not settings.keyring_dir.exists()
        if list_file is not None:
            with voice.busy("校验、签名、发布清单", "checking, signing, publishing the list"):
                report = await publish_list_file(node, list_file)
            voice.say(*report.sentence())
        supervisor = Supervisor(settings.data_dir / "logs", child_environment({}))
        stack.push_async_callback(supervisor.stop)
        with voice.busy("启动各服务", "starting the services"):
            for plan in _plans(settings, any_port=any_port):
                await supervisor.start(plan)
            await supervisor.ready()
        if keyring_is_new and not any_port:
            voice.say(
                f"首次运行，已建立密钥环 {settings.keyring_dir}：请备份，丢失后无法恢复",
                f"first run: the keyring {settings.keyring_dir} was made. Back it up: without it"
                " no list can follow this one",
            )
        yield Stack(node, supervisor)


async def _kafka(
    settings: Settings, stack: contextlib.AsyncExitStack, voice: Voice, *, any_port: bool
) -> Settings:
    """The settings with a Kafka that runs."""
    if not settings.kafka.embedded:
        return settings
    data_dir, port = settings.data_dir / "kafka", settings.kafka.port
    if port is None and not any_port and read_ports(data_dir) is None and port_is_free(USUAL_PORT):
        port = USUAL_PORT
    kafka = EmbeddedKafka(data_dir, toolchain(), port=port)
    zh, en = "启动内置 Kafka", "starting the embedded Kafka"
    if not _has_jars(toolchain()):
        zh, en = (
            f"{zh}（首次取 54 MB jar 并核对哈希）",
            f"{en} (first: 54 MB of jars, hashes checked)",
        )
    with voice.busy(zh, en):
        await _start(kafka)
    stack.push_async_callback(asyncio.to_thread, kafka.stop)
    given = settings.kafka.model_copy(
        update={"bootstrap_servers": kafka.bootstrap_servers, "replication": 1, "min_isr": 1}
    )
    return settings.model_copy(update={"kafka": given})


def _has_jars(tools: Toolchain) -> bool:
    return tools.kafka_home is not None or (tools.cache / KAFKA_VERSION).is_dir()


async def _start(kafka: EmbeddedKafka) -> None:
    """Start it; a start that is cancelled leaves no JVM behind."""
    starting = asyncio.ensure_future(asyncio.to_thread(kafka.start))
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A thread cannot be cancelled: once it has a JVM, that is stopped, and it gives up.
        while not starting.done():
            if kafka.pid is not None:
                await asyncio.to_thread(kafka.stop)
            await asyncio.wait({starting}, timeout=0.1)
        if starting.exception() is None:
            await asyncio.to_thread(kafka.stop)
        raise


def _plans(settings: Settings, *, any_port: bool) -> Sequence[ServicePlan]:
    common = {
        "SHUTONG_DATA_DIR": str(settings.data_dir),
        "SHUTONG_PREFIX": settings.prefix,
        "SHUTONG_KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka.bootstrap_servers),
        "SHUTONG_KAFKA_REPLICATION": str(settings.kafka.replication),
        "SHUTONG_KAFKA_MIN_ISR": str(settings.kafka.min_isr),
        "SHUTONG_AUDITOR_CHECKPOINT_EVERY_S": _CHECKPOINT_EVERY_S,
    }
    free = iter(free_ports(2 * len(_SERVICES)) if any_port else ())
    plans = []
    for name, has_api in _SERVICES:
        section = getattr(settings, name)
        http = next(free) if any_port else section.http_port
        admin = next(free) if any_port else section.admin_port
        upper = f"SHUTONG_{name.upper()}"
        plans.append(
            ServicePlan(
                name=name,
                module=f"shutong_{name}",
                environment={
                    **common,
                    f"{upper}_HTTP_PORT": str(http),
                    f"{upper}_ADMIN_PORT": str(admin),
                },
                admin_url=f"http://127.0.0.1:{admin}",
                url=f"http://127.0.0.1:{http}" if has_api else None,
            )
        )
    return plans
