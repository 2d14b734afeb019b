"""Commits of which no word comes back, and a commit order that arrives far too late (KAFKA-17754).

aiokafka sends EndTxn again with the same epoch after a timeout. If the first one is still on its
way, it ends whatever transaction is open when it arrives. So after any lost request the producer
must be thrown away; a broker built without that rule shows here what the rule is for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from faults.checker import Report, check, snapshot
from faults.fault_bus import Bus, Flow, until
from faults.processes import BrokerProcess
from faults.proxied import aside, broker_behind, cut_held, proxied
from faults.proxy import END_TXN, INIT_PRODUCER_ID, TXN_OFFSET_COMMIT
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def _finish(bus: Bus, flow: Flow, broker: BrokerProcess, before: dict) -> Report:
    flow.__exit__()
    await aside(bus.wait_drained)
    await aside(broker.stop)
    return await aside(check, bus, flow.acknowledged, snapshots=[before])


@pytest.mark.parametrize(("lost", "unknown"), [(1, False), (2, True)])
async def test_a_commit_without_an_answer_is_neither_lost_nor_done_again(
    fault_kafka: EmbeddedKafka,
    new_bus: Callable[..., Bus],
    sightings: Counter[str],
    lost: int,
    unknown: bool,
) -> None:
    bus = await aside(new_bus, "in-doubt", 1)
    async with proxied(fault_kafka) as proxy:
        with broker_behind(fault_kafka, bus) as broker, Flow(bus) as flow:
            await aside(broker.wait_serving)
            await aside(until, lambda: broker.transactions("committed") > 2, 15, "commits")
            started = proxy.count(INIT_PRODUCER_ID)
            rule = proxy.drop(END_TXN, "response", count=lost)
            await rule.reached()
            await aside(until, lambda: len(broker.events("lane taken")) > 1, 20, "a new tenure")
            assert proxy.count(INIT_PRODUCER_ID) > started, "the producer was not replaced"
            in_doubt = await aside(broker.transactions, "unknown")
            assert (in_doubt > 0) is unknown
            assert bool(broker.failures("CommitUnknown")) is unknown
            sightings["in-doubt"] += int(in_doubt)
            report = await _finish(bus, flow, broker, await aside(snapshot, bus))
    report.require()


async def _late_end_txn(
    kafka: EmbeddedKafka, bus: Bus, mutant: str | None
) -> tuple[Report, BrokerProcess]:
    """EndTxn is held, its repetition commits; it is let go while the next transaction is open."""
    async with proxied(kafka) as proxy:
        with broker_behind(kafka, bus, mutant=mutant) as broker, Flow(bus) as flow:
            await aside(broker.wait_serving)
            await aside(until, lambda: broker.transactions("committed") > 2, 15, "commits")
            late = proxy.hold(END_TXN)
            await late.reached()
            next_one = proxy.hold(TXN_OFFSET_COMMIT)
            cut_held(proxy)
            await next_one.reached(20)
            # The next transaction has sent what it places and waits for its offsets.
            await asyncio.sleep(0.3)
            late.release()
            await asyncio.sleep(0.5)
            proxy.heal()
            before = await aside(snapshot, bus)
            if mutant is None:
                return await _finish(bus, flow, broker, before), broker
            flow.__exit__()
            await asyncio.sleep(8)
            broker.kill9()
            return await aside(check, bus, flow.acknowledged), broker


async def test_a_late_commit_order_does_not_end_a_later_transaction(
    fault_kafka: EmbeddedKafka, new_bus: Callable[..., Bus]
) -> None:
    bus = await aside(new_bus, "late", 1)
    report, broker = await _late_end_txn(fault_kafka, bus, None)
    report.require()
    assert any(
        "saw a lost request" in each["error"] for each in broker.failures("TransactionFailed")
    )


async def test_without_the_rule_the_late_commit_order_tears_a_transaction(
    fault_kafka: EmbeddedKafka, new_bus: Callable[..., Bus]
) -> None:
    bus = await aside(new_bus, "torn", 1)
    report, broker = await _late_end_txn(fault_kafka, bus, "reuse_after_a_lost_request")
    assert {"offsets", "audit"} & report.problems.keys(), report.problems
    # The broken broker's successor in the lane sees the tear and does not go on.
    assert broker.events("input parked") or broker.failures("Fatal")
