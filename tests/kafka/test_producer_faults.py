"""The producer service when Kafka or the process itself goes away: success is never a guess."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from faults.proxy import PRODUCE, KafkaProxy
from kafka.intake_service import NDJSON, PATH, Service, events, lines, prepared, settings
from shutong_core.domain.changes import encode_change, make_change
from shutong_core.runtime.cluster import ensure_topics
from shutong_core.runtime.freeports import free_port
from shutong_core.runtime.kafka_jars import Toolchain
from shutong_core.runtime.kafka_launch import QUICK
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.node import Node
from shutong_core.runtime.transaction import Deadlines, TransactionalProducer
from shutong_core.wire.batches import KafkaRecord, RecordBatch
from shutong_core.wire.schemarecords import Registration, encode_registration
from shutong_core.wire.topics import control_specs, topic_specs
from shutong_producer.service import SERVICE, running
from unit import listing_fixtures as listing
from unit.intake_world import SYSTEM, Keys, Lists, data, world

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def started(
    address: str, prefix: str, tmp_path: Path, own_address: str | None = None
) -> AsyncIterator[Service]:
    """A service that reaches Kafka by `address`, with topics made by `own_address`."""
    it = world()
    lists = Lists(it.version, it.schemas)
    node = Node(SERVICE, settings(address, prefix, tmp_path, ack_s=1.0))
    maker = Node(SERVICE, settings(own_address or address, prefix, tmp_path))
    cluster = await prepared(maker, lists)
    async with running(node, lists, Keys(), cluster) as parts:
        await parts.writer.wait_ready(10)
        async with httpx2.AsyncClient(base_url=parts.http.url, timeout=30) as http:
            yield Service(maker, lists, parts, http, cluster)


async def test_a_lost_acknowledgement_is_an_unknown_outcome_and_the_retry_settles_it(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path
) -> None:
    async with (
        KafkaProxy(kafka.ports.advertised, kafka.ports.proxied) as proxy,
        started(
            kafka.proxied_bootstrap_servers, prefix, tmp_path, kafka.bootstrap_servers
        ) as service,
    ):
        assert (await service.post({"id": "before", "data": data()})).status_code == 200
        lost = proxy.drop(PRODUCE, side="response")
        answer = await service.post({"id": "e-1", "data": data()})
        assert lost.met
        assert (answer.status_code, answer.json()["reason"]) == (503, "KAFKA_UNAVAILABLE")
        assert answer.json()["unknown"] == [0]
        assert int(answer.headers["retry-after"]) >= 1
        assert service.parts.writer.replaced == 1
        await service.parts.writer.wait_ready(10)
        assert (await service.post({"id": "e-1", "data": data()})).status_code == 200
        ids = [dict(each.headers)["ce_id"] for each in await service.inbound()]
        # Written although the answer was lost: the lane takes the first and refuses the second.
        assert ids == [b"before", b"e-1", b"e-1"]


async def test_kafka_away_is_told_in_bounded_time_and_service_resumes_by_itself(
    prefix: str, tmp_path: Path, kafka_tools: Toolchain
) -> None:
    with EmbeddedKafka(tmp_path / "kafka", kafka_tools, profile=QUICK) as own:
        async with started(own.bootstrap_servers, prefix, tmp_path) as service:
            assert (await service.post({"records": events(10)})).status_code == 200
            own.kill9()
            begun = asyncio.get_running_loop().time()
            answers = await asyncio.gather(
                *(service.post({"records": events(5, start=n)}) for n in range(20))
            )
            assert asyncio.get_running_loop().time() - begun < 10
            assert {each.status_code for each in answers} == {503}
            assert service.parts.writer.problem is not None
            # Identity is still checked, and a refusal needs no Kafka to hold.
            assert (await service.post({"data": data()}, key="wrong")).status_code == 401
            await asyncio.to_thread(own.start)
            await service.parts.writer.wait_ready(20)
            assert (await service.post({"records": events(5)})).status_code == 200
            assert service.parts.writer.problem is None


async def test_a_stalled_kafka_costs_no_more_than_the_time_for_an_acknowledgement(
    prefix: str, tmp_path: Path, kafka_tools: Toolchain
) -> None:
    with EmbeddedKafka(tmp_path / "kafka", kafka_tools, profile=QUICK) as own:
        async with started(own.bootstrap_servers, prefix, tmp_path) as service:
            assert (await service.post({"data": data()})).status_code == 200
            own.pause()
            try:
                begun = asyncio.get_running_loop().time()
                answer = await service.post({"id": "late", "data": data()})
                assert answer.json()["reason"] == "KAFKA_UNAVAILABLE"
                assert asyncio.get_running_loop().time() - begun < 5
            finally:
                own.resume()
            await service.parts.writer.wait_ready(20)
            assert (await service.post({"id": "late", "data": data()})).status_code == 200


async def put_in_force(node: Node) -> None:
    """The test's list on control.lists, its schemas on control.schemas, as control writes them."""
    it = world()
    await ensure_topics(node.client, control_specs(node.topics, 1, 1))
    await ensure_topics(node.client, topic_specs(it.version, node.topics, 1, 1))
    _, parts = make_change(None, list(it.version.rows.values()), (), listing.EFFECTIVE_MS)
    signer = node.keyring.signer("control")
    schemas = [
        KafkaRecord(*encode_registration(Registration(number, f"subject-{number}", 1, schema)))
        for number, schema in it.schemas.items()
    ]
    changes = [KafkaRecord(b"list", encode_change(part, signer)) for part in parts]
    writer = TransactionalProducer(
        node.client, node.topics.control_id, Deadlines(), batch_bytes_max=1_000_000
    )
    await writer.start()
    try:
        await writer.begin()
        await writer.send(RecordBatch(node.topics.schemas, 0, schemas))
        await writer.send(RecordBatch(node.topics.lists, 0, changes))
        await writer.commit()
    finally:
        await writer.close()


class Process:
    """`python -m shutong_producer` with its real list feed and keyring."""

    def __init__(self, node: Node, failpoint: str | None) -> None:
        self.port, self.admin_port = free_port(), free_port()
        kafka = node.settings.kafka
        environment = {
            **os.environ,
            "SHUTONG_PREFIX": node.settings.prefix,
            "SHUTONG_DATA_DIR": str(node.settings.data_dir),
            "SHUTONG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers or "",
            "SHUTONG_PRODUCER_HTTP_PORT": str(self.port),
            "SHUTONG_PRODUCER_ADMIN_PORT": str(self.admin_port),
            **({"SHUTONG_PRODUCER_FAILPOINT": failpoint} if failpoint else {}),
        }
        self._log = node.settings.data_dir / f"producer-{self.port}.log"
        with self._log.open("ab") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "shutong_producer"], env=environment, stdout=out, stderr=out
            )
        self.url = f"http://127.0.0.1:{self.port}"

    async def ready(self, http: httpx2.AsyncClient, headers: dict[str, str]) -> None:
        async with asyncio.timeout(30):
            while True:
                assert self.popen.poll() is None, f"ended by itself:\n{self._log.read_text()}"
                try:
                    answer = await http.get(f"{self.url}/v1/datasets", headers=headers)
                    if answer.status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.1)
        shown = await http.get(f"http://127.0.0.1:{self.admin_port}/readyz?verbose")
        assert shown.json()["checks"].keys() == {"start", "list", "kafka"}
        assert shown.status_code == 200

    async def end(self) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.popen.wait, 20)


@pytest.mark.parametrize("failpoint", ["before-ack:1", "after-ack:2", "between-batches:1"])
async def test_killed_at_any_step_and_sent_again_every_record_is_there(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path, failpoint: str
) -> None:
    node = Node(SERVICE, settings(kafka.bootstrap_servers, prefix, tmp_path))
    await put_in_force(node)
    headers = {"Authorization": f"Bearer {node.keyring.issue_api_key(SYSTEM)}", **NDJSON}
    body = lines(events(1100))
    async with httpx2.AsyncClient(timeout=30) as http:
        first = Process(node, failpoint)
        await first.ready(http, headers)
        with pytest.raises(httpx2.TransportError):
            await http.post(
                first.url + PATH, content=body, headers=headers, params={"mode": "per-record"}
            )
        assert await first.end() == -signal.SIGKILL
        second = Process(node, None)
        await second.ready(http, headers)
        answer = await http.post(
            second.url + PATH, content=body, headers=headers, params={"mode": "per-record"}
        )
        assert answer.json()["accepted"] == 1100
        assert await second.end() == 0
    found: Any = Service(node, None, None, None, "")  # type: ignore[arg-type] - only reads
    written = Counter(dict(each.headers)["ce_id"] for each in await found.inbound())
    assert len(written) == 1100
    assert set(written.values()) <= {1, 2}
