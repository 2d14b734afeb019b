"""Errors from Kafka where a lane is not prepared for them: it tries again, it believes nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from faults.checker import check
from faults.fault_bus import Bus, Flow, until
from faults.processes import BrokerProcess
from faults.proxied import aside, broker_behind, proxied
from faults.proxy import LIST_OFFSETS, OFFSET_FETCH
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
COORDINATOR_LOAD_IN_PROGRESS, TOPIC_AUTHORIZATION_FAILED = 14, 29


def _coordinator_loads(frame: bytes) -> bytes:
    """OffsetFetch v7 as Kafka answers it while it loads: no topics, an error for the whole."""
    no_topics, no_tags = b"\x01", b"\0"
    return frame[:9] + no_topics + struct.pack(">h", COORDINATOR_LOAD_IN_PROGRESS) + no_tags


def _not_allowed(frame: bytes) -> bytes:
    """ListOffsets of one partition, which ends by i16 error, i64 timestamp, i64 offset."""
    return frame[:-18] + struct.pack(">h", TOPIC_AUTHORIZATION_FAILED) + frame[-16:]


@pytest.mark.parametrize(
    ("api_key", "change"),
    [(OFFSET_FETCH, _coordinator_loads), (LIST_OFFSETS, _not_allowed)],
    ids=["committed-offsets", "ends-of-topics"],
)
async def test_a_lane_that_gets_errors_for_answers_asks_again(
    fault_kafka: EmbeddedKafka,
    new_bus: Callable[..., Bus],
    api_key: int,
    change: Callable[[bytes], bytes],
) -> None:
    bus = await aside(new_bus, "refused", 1)
    flow = Flow(bus)
    await aside(flow.write, 100)
    with BrokerProcess(bus) as broker:
        await aside(bus.wait_drained)
        await aside(broker.stop)
    await aside(flow.write, 100)

    def of_the_lane(frame: bytes) -> bytes:
        names = (bus.topics.lanes, bus.topics.inbound("visits"))
        return change(frame) if any(name.encode() in frame for name in names) else frame

    async with proxied(fault_kafka) as proxy:
        proxy.edit(api_key, of_the_lane).count = 1_000
        with broker_behind(fault_kafka, bus) as broker:
            await aside(until, lambda: broker.failures("Retryable"), 30, "a refused answer noticed")
            proxy.heal()
            await aside(bus.wait_drained)
            await aside(broker.stop)
            assert not broker.events("input offsets had expired, restored from lane state")
            assert not broker.events("input parked")
    (await aside(check, bus, flow.acknowledged)).require()
