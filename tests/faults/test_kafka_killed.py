"""kill -9 of Kafka while a transaction is open; it starts again on the same data."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.checker import aborted, check, snapshot
from faults.conftest import LOADED
from faults.fault_bus import Bus, Flow, until
from faults.proxied import aside, broker_behind, proxied
from faults.proxy import ADD_OFFSETS_TO_TXN, END_TXN, PRODUCE
from shutong_core.runtime.kafka_jars import Toolchain
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
#: What the open transaction had done when Kafka died: its answer to this was still awaited.
AWAITED = (PRODUCE, ADD_OFFSETS_TO_TXN, END_TXN)


async def test_kafka_killed_within_transactions_loses_and_doubles_nothing(
    tmp_path: Path, kafka_tools: Toolchain
) -> None:
    kafka = EmbeddedKafka(tmp_path / "kafka", kafka_tools, profile=LOADED)
    try:
        await aside(kafka.start)
        bus = Bus(kafka.bootstrap_servers, tmp_path / "bus", 2)
        await aside(bus.publish_list)
        snapshots = []
        async with proxied(kafka) as proxy:
            with broker_behind(kafka, bus) as broker, Flow(bus) as flow:
                await aside(broker.wait_serving, bus.lanes)
                for api_key in AWAITED:
                    await aside(until, lambda: not _behind(bus), 40, "the bus to flow")
                    held = proxy.hold(api_key, "response", nth=5)
                    await held.reached(20)
                    await aside(kafka.kill9)
                    proxy.heal()
                    await aside(kafka.start)
                    snapshots.append(await aside(snapshot, bus))
                flow.__exit__()
                await aside(bus.wait_drained)
                await aside(broker.stop)
        assert await aside(aborted, bus) > 0, "no transaction was open when Kafka died"
        report = await aside(check, bus, flow.acknowledged, snapshots=snapshots)
        report.require()
        assert report.inbound > 200
    finally:
        await aside(kafka.stop)


def _behind(bus: Bus) -> bool:
    return any(end - at > 60 for at, end in bus.positions().values())
