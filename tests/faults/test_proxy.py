"""The proxy does to real Kafka traffic exactly what its rules say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from faults.proxy import END_TXN, METADATA, PRODUCE, KafkaProxy
from shutong_core.runtime.cluster import ensure_topics
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.wire.topics import TopicSpec

pytestmark = pytest.mark.kafka


@pytest.fixture
async def proxy(kafka: EmbeddedKafka) -> AsyncIterator[KafkaProxy]:
    async with KafkaProxy(kafka.ports.advertised, kafka.ports.proxied) as proxy:
        yield proxy


@pytest.fixture
async def producer(
    kafka: EmbeddedKafka, proxy: KafkaProxy, prefix: str
) -> AsyncIterator[AIOKafkaProducer]:
    direct = {"bootstrap_servers": kafka.bootstrap_servers}
    await ensure_topics(direct, [TopicSpec(f"{prefix}.x", 1, 1)])
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.proxied_bootstrap_servers,
        transactional_id=f"{prefix}.writer",
        request_timeout_ms=1_000,
    )
    await producer.start()
    yield producer
    proxy.heal()
    try:
        async with asyncio.timeout(5):
            await producer.stop()
    except (TimeoutError, KafkaError):
        pass


async def test_a_client_that_follows_advertised_addresses_stays_behind_it(
    producer: AIOKafkaProducer, proxy: KafkaProxy, prefix: str
) -> None:
    async with producer.transaction():
        await producer.send_and_wait(f"{prefix}.x", b"1")
    assert proxy.count(METADATA) >= 1
    assert proxy.count(PRODUCE) == 1
    assert proxy.count(END_TXN) == 1
    assert proxy.count(END_TXN, "response") == 1


async def test_a_held_request_goes_on_only_when_released(
    producer: AIOKafkaProducer, proxy: KafkaProxy, prefix: str
) -> None:
    await producer.begin_transaction()
    await producer.send_and_wait(f"{prefix}.x", b"1")
    held = proxy.hold(END_TXN)
    commit = asyncio.create_task(producer.commit_transaction())
    await held.reached()
    await asyncio.sleep(0.2)
    assert not commit.done()
    held.release()
    await commit


async def test_a_dropped_answer_is_asked_for_again(
    producer: AIOKafkaProducer, proxy: KafkaProxy, prefix: str
) -> None:
    await producer.begin_transaction()
    await producer.send_and_wait(f"{prefix}.x", b"1")
    dropped = proxy.drop(END_TXN)
    await producer.commit_transaction()
    assert dropped.met
    assert proxy.count(END_TXN) >= 2


async def test_a_delay_is_as_long_as_it_says(
    producer: AIOKafkaProducer, proxy: KafkaProxy, prefix: str
) -> None:
    await producer.begin_transaction()
    await producer.send_and_wait(f"{prefix}.x", b"1")
    proxy.delay(END_TXN, 0.5)
    began = time.monotonic()
    await producer.commit_transaction()
    assert time.monotonic() - began >= 0.5


async def test_the_nth_frame_is_the_one_that_is_met(
    producer: AIOKafkaProducer, proxy: KafkaProxy, prefix: str
) -> None:
    rule = proxy.close_at(PRODUCE, "request", nth=2)
    async with producer.transaction():
        await producer.send_and_wait(f"{prefix}.x", b"1")
        assert not rule.met
        await producer.send_and_wait(f"{prefix}.x", b"2")
    assert rule.met
    assert proxy.count(PRODUCE) >= 3


async def test_a_held_request_reaches_the_broker_after_its_client_was_cut_off(
    producer: AIOKafkaProducer, proxy: KafkaProxy, prefix: str
) -> None:
    await producer.begin_transaction()
    await producer.send_and_wait(f"{prefix}.x", b"1")
    held = proxy.hold(END_TXN)
    commit = asyncio.create_task(producer.commit_transaction())
    await held.reached()
    proxy.cut()
    await commit  # sent again on a new connection, as KAFKA-17754 needs it
    answers = proxy.count(END_TXN, "response")
    held.release()
    async with asyncio.timeout(5):
        while proxy.count(END_TXN, "response") == answers:
            await asyncio.sleep(0.02)
