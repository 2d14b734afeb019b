"""Builds the consumer service from its parts and runs it until asked to stop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from shutong_consumer.app import Interface, make_app
from shutong_consumer.countersign import Bus, Countersigner
from shutong_consumer.frontdesk import FrontDesk, KeyLookup, ListSource
from shutong_consumer.pull import Pull
from shutong_consumer.readers import Readers
from shutong_consumer.receiptbook import ReceiptBook
from shutong_consumer.rights import Rights
from shutong_core.audit.access import Act
from shutong_core.runtime.accesslog import AccessLog
from shutong_core.runtime.ackedwriter import AckedWriter
from shutong_core.runtime.health import admin_server
from shutong_core.runtime.httpserver import HttpServer
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.node import Node, wait_for_bus_name

SERVICE = "consumer"
#: Id of the secret that seals how far an agency has countersigned.
STAND_KEY_ID = "receipts/1"
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """The running parts of one consumer service; `http` listens."""

    desk: FrontDesk
    readers: Readers
    writer: AckedWriter
    book: ReceiptBook
    http: HttpServer


@contextlib.asynccontextmanager
async def running(
    node: Node, lists: ListSource, keys: KeyLookup, cluster: str
) -> AsyncIterator[Parts]:
    """The service at work on the node's Kafka: everything but the list feed and the admin port."""
    metrics, settings, topics = node.metrics, node.settings, node.topics

    def on_error(error_type: str) -> None:
        metrics.count("shutong_kafka_errors_total", error_type=error_type)

    def on_access(act: Act) -> None:
        reason = act.refused.name if act.refused else ""
        metrics.count("shutong_access_events_total", action=act.action, reason=reason)

    def lanes() -> int:
        return lists.version.bus.lanes if lists.version is not None else 1

    writer = AckedWriter(node.client, on_error=on_error)
    access = AccessLog(
        SERVICE, writer, topics.access, lanes, node.codec.encode, on_written=on_access
    )
    readers = Readers(node.client)
    book = ReceiptBook(node.client, topics.receipts, cluster, node.keyring.secret(STAND_KEY_ID))
    desk = FrontDesk(lists, keys, Rights(node.table), access)
    pull = Pull(desk, readers, topics)
    bus = Bus(cluster, topics.receipts, writer, node.keyring, metrics)
    app = make_app(Interface(desk, pull, Countersigner(bus, desk, pull, book), metrics))
    http = HttpServer(app, settings.consumer.http, settings.limits.drain_s)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(writer.close)
        await writer.start()
        stack.push_async_callback(access.close)
        await access.start()
        stack.push_async_callback(readers.close)
        readers.start()
        stack.push_async_callback(book.close)
        book.start()
        stack.push_async_callback(http.stop)
        await http.start()
        # First of all at the end: whoever waits for news would hold up the stop.
        stack.callback(pull.finish)
        yield Parts(desk, readers, writer, book, http)


async def serve(node: Node, stop: Stop) -> None:
    """Run until `stop`. Raises Fatal where a port is taken or the keyring is damaged."""
    health = node.health
    admin = admin_server(health, node.metrics, node.settings.consumer.admin)
    feed = node.list_feed()
    health.check("start", lambda: "no connection to Kafka yet")
    await admin.start()
    try:
        await feed.start()
        cluster = await wait_for_bus_name(node, stop)
        if cluster is None:
            return
        async with running(node, feed, node.keyring.api_keys(), cluster) as parts:
            health.check("start", lambda: None)
            health.check("list", parts.desk.problem)
            health.check("kafka", lambda: parts.writer.problem)
            health.check("receipts", parts.book.problem)
            _log.info("listening", url=parts.http.url)
            await _watch(node, feed, stop)
    finally:
        await feed.stop()
        await admin.stop()


async def _watch(node: Node, feed: ListFeed, stop: Stop) -> None:
    while not await stop.wait(1.0):
        node.health.beat("main loop", within_s=30)
        if feed.version is not None:
            node.metrics.set("shutong_list_number", feed.version.number)
            node.metrics.set("shutong_list_lease_age_seconds", feed.word_age_s)
