"""Builds the control service (in this stage: the schema registry) and runs it."""

from __future__ import annotations

import structlog

from shutong_control.registry_app import make_registry_app
from shutong_core.runtime.health import admin_server
from shutong_core.runtime.httpserver import HttpServer
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.node import Node

_log = structlog.stdlib.get_logger(__name__)


async def serve(node: Node, stop: Stop) -> None:
    """Run until `stop`. Raises Fatal where a port is taken."""
    settings, feed = node.settings, node.list_feed()
    admin = admin_server(node.health, node.metrics, settings.control.admin)
    app = make_registry_app(feed, node.topics)
    http = HttpServer(app, settings.control.http, settings.limits.drain_s)
    node.health.check("schemas", lambda: feed.problem if feed.word_age_s == float("inf") else None)
    await admin.start()
    try:
        await feed.start()
        await http.start()
        _log.info("listening", url=http.url)
        while not await stop.wait(1.0):
            node.health.beat("main loop", within_s=30)
            if feed.version is not None:
                node.metrics.set("shutong_list_number", feed.version.number)
                node.metrics.set("shutong_list_lease_age_seconds", feed.word_age_s)
    finally:
        await http.stop()
        await feed.stop()
        await admin.stop()
