"""Builds the producer service from its parts and runs it until asked to stop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from shutong_core.audit.access import Act
from shutong_core.runtime.accesslog import AccessLog
from shutong_core.runtime.ackedwriter import AckedWriter
from shutong_core.runtime.health import admin_server
from shutong_core.runtime.httpserver import HttpServer
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.node import Node, wait_for_bus_name
from shutong_core.runtime.settings import Settings
from shutong_producer.app import make_app
from shutong_producer.desk import Desk, KeyLookup, ListSource
from shutong_producer.failpoint import failpoint_of
from shutong_producer.gate import HELD_BYTES_MAX, Bounds
from shutong_producer.intake import Intake
from shutong_producer.outcome import Outcome, Seal
from shutong_producer.quarantine import QuarantineTail

SERVICE = "producer"
#: Name of the signing key of intake receipts.
SIGNER = "intake"
#: The list feed asks Kafka more than once a second; after this long without an answer not ready.
SILENCE_S_MAX = 5.0
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """The running parts of one producer service; `http` listens once it was started."""

    writer: AckedWriter
    access: AccessLog
    tail: QuarantineTail
    desk: Desk
    http: HttpServer


def bounds_of(settings: Settings) -> Bounds:
    """The door's bounds from the settings."""
    limits = settings.limits
    return Bounds(
        record_bytes_max=limits.record_bytes_max,
        request_bytes_max=limits.request_bytes_max,
        request_records_max=limits.request_records_max,
        requests_at_once_max=limits.requests_at_once_max,
        held_bytes_max=max(4 * limits.request_bytes_max, HELD_BYTES_MAX),
        rate_per_s=float(limits.requests_per_second_max),
    )


@contextlib.asynccontextmanager
async def running(
    node: Node, lists: ListSource, keys: KeyLookup, cluster: str
) -> AsyncIterator[Parts]:
    """The service at work on the node's Kafka: everything but the list feed and the admin port."""
    metrics, settings = node.metrics, node.settings
    failpoint = failpoint_of(settings.producer.failpoint)

    def on_error(error_type: str) -> None:
        metrics.count("shutong_kafka_errors_total", error_type=error_type)

    def on_outcome(outcome: Outcome) -> None:
        counts = {reason.name: count for reason, count in outcome.reasons().items()}
        for name, count in {"accepted": len(outcome.taken), **counts}.items():
            if count:
                metrics.count(
                    "shutong_intake_records_total", count, dataset=outcome.dataset, outcome=name
                )

    def on_request(status: int, seconds: float) -> None:
        metrics.count("shutong_intake_requests_total", status=str(status))
        metrics.observe("shutong_intake_seconds", seconds)

    def on_access(act: Act) -> None:
        reason = act.refused.name if act.refused else ""
        metrics.count("shutong_access_events_total", action=act.action, reason=reason)

    def lanes() -> int:
        # Before any list nobody can be refused with more than "no list", which leaves no event.
        return lists.version.bus.lanes if lists.version is not None else 1

    signer = node.keyring.signer(SIGNER)
    writer = AckedWriter(node.client, ack_s=settings.producer.ack_s, on_error=on_error)
    access = AccessLog(
        SERVICE, writer, node.topics.access, lanes, node.codec.encode, on_written=on_access
    )
    tail = QuarantineTail(node.client, node.topics.quarantine, on_error=on_error)
    desk = Desk(lists, keys, access, bounds_of(settings))
    intake = Intake(
        desk,
        writer,
        node.topics,
        Seal(cluster, signer.key_id, signer.sign),
        failpoint=failpoint,
        on_outcome=on_outcome,
    )
    app = make_app(desk, intake, tail, on_request)
    http = HttpServer(app, settings.producer.http, settings.limits.drain_s)
    parts = Parts(writer, access, tail, desk, http)
    async with contextlib.AsyncExitStack() as stack:
        for part in (writer, access, tail):
            stack.push_async_callback(part.close)
            await part.start()
        stack.push_async_callback(http.stop)
        await http.start()
        yield parts


async def serve(node: Node, stop: Stop) -> None:
    """Run until `stop`. Raises Fatal where a port is taken or the keyring is damaged."""
    health = node.health
    admin = admin_server(health, node.metrics, node.settings.producer.admin)
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
            health.check("kafka", lambda: parts.writer.problem or _silence(feed))
            _log.info("listening", url=parts.http.url)
            await _watch(node, feed, stop)
    finally:
        await feed.stop()
        await admin.stop()


def _silence(lists: ListSource) -> str | None:
    """Where nothing is being written, only the list feed's questions show that Kafka is away."""
    age = lists.word_age_s
    return None if age <= SILENCE_S_MAX else f"no answer from Kafka for {age:.0f} s"


async def _watch(node: Node, lists: ListSource, stop: Stop) -> None:
    while not await stop.wait(1.0):
        if lists.version is not None:
            node.metrics.set("shutong_list_number", lists.version.number)
            node.metrics.set("shutong_list_lease_age_seconds", lists.word_age_s)
