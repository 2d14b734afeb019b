"""Builds the auditor's HTTP interface from its parts and lets it answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from shutong_auditor.actroutes import Office, act_routes
from shutong_auditor.app import Desk, make_app
from shutong_auditor.index.follow import IndexFollower
from shutong_auditor.index.questions import Span
from shutong_auditor.reconcile import GrantDay, reconcile
from shutong_auditor.userecords import UseRecords
from shutong_auditor.useroutes import use_routes
from shutong_core.audit.access import Act
from shutong_core.audit.rotation import SIGNER
from shutong_core.runtime.accesslog import AccessLog
from shutong_core.runtime.ackedwriter import AckedWriter
from shutong_core.runtime.httpserver import HttpServer
from shutong_core.runtime.node import Node

SERVICE = "auditor"
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenBus:
    """What of the running auditor the interface asks."""

    cluster: str
    lanes: int
    engine: Engine
    index: IndexFollower
    writer: AckedWriter


@contextlib.asynccontextmanager
async def open_desk(node: Node, bus: OpenBus) -> AsyncIterator[HttpServer]:
    """The interface, listening. Raises Fatal where the port is taken."""

    def on_access(act: Act) -> None:
        reason = act.refused.name if act.refused else ""
        node.metrics.count("shutong_access_events_total", action=act.action, reason=reason)

    async def compare(day: str, spans: Sequence[Span]) -> list[GrantDay]:
        return await reconcile(node.client, node.topics, day, spans)

    settings, feed = node.settings, node.list_feed()
    access = AccessLog(
        SERVICE,
        bus.writer,
        node.topics.access,
        lambda: bus.lanes,
        node.codec.encode,
        on_written=on_access,
    )
    desk = Desk(feed, node.keyring.api_keys().lookup, bus.engine, settings.data_dir, access)
    signer = node.keyring.signer(SIGNER)
    office = Office(desk, bus.cluster, signer.key_id, signer.sign, bus.index.caught_up, compare)
    records = await asyncio.to_thread(UseRecords, bus.engine)
    routes = [*act_routes(office), *use_routes(desk, records, node.table)]
    http = HttpServer(make_app(desk, routes), settings.auditor.http, settings.limits.drain_s)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(feed.stop)
        await feed.start()
        stack.push_async_callback(access.close)
        await access.start()
        stack.push_async_callback(http.stop)
        await http.start()
        _log.info("listening", url=http.url)
        yield http
