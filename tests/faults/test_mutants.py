"""The checker can fail: a broker with a fault built in turns the named check red."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from faults.checker import Report, check
from faults.fault_bus import Bus, Flow, until
from faults.processes import BrokerProcess
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
RECORDS = 400
#: Mutant → the checks that must say so (others may, too).
RED = {
    "leak_a_field": {"no-leak", "exact-set"},
    "drop_a_record": {"exact-set"},
    "double_a_record": {"no-duplicate", "audit"},
    "swap_two_records": {"order"},
    "skip_an_audit_row": {"audit-rows"},
    "place_without_audit": {"no-duplicate", "audit"},
    "commit_despite_a_failed_send": {"exact-set", "audit"},
}


def _limit(bus: Bus, topic: str, bytes_max: int) -> None:
    """Change the largest batch that a topic takes."""
    admin = AdminClient({"bootstrap.servers": bus.bootstrap})
    entry = ConfigEntry(
        "max.message.bytes", str(bytes_max), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(10)


def _run(bus: Bus, mutant: str | None) -> Report:
    bus.publish_list()
    failing = mutant == "commit_despite_a_failed_send"
    flow = Flow(bus, seed=11)
    flow.write(RECORDS)
    if failing:
        _limit(bus, bus.topics.delivery("visits-meizhou"), 300)
    with BrokerProcess(bus, mutant=mutant, records_max=50) as broker:
        broker.wait_serving(bus.lanes)
        bus.wait_drained()
        broker.stop()
    return check(bus, flow.acknowledged)


@pytest.fixture(scope="module")
def reports(
    fault_kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str | None, Future[Report]]]:
    """Every mutant and the product itself, side by side."""
    directory = Path(tmp_path_factory.mktemp("mutants"))
    with ThreadPoolExecutor(4) as pool:
        yield {
            name: pool.submit(_run, Bus(fault_kafka.bootstrap_servers, directory / str(name)), name)
            for name in (None, *RED)
        }


def test_without_a_fault_every_check_is_green(reports: dict[str | None, Future[Report]]) -> None:
    report = reports[None].result(120)
    report.require()
    assert (report.inbound, report.blocks > 3, report.refused > 20) == (RECORDS, True, True)


@pytest.mark.parametrize("mutant", RED)
def test_a_fault_turns_its_check_red(
    reports: dict[str | None, Future[Report]], mutant: str
) -> None:
    found = reports[mutant].result(120).problems
    assert RED[mutant] <= found.keys(), found


def test_a_batch_that_kafka_refuses_is_never_committed_around(
    new_bus: Callable[..., Bus],
) -> None:
    """The same fault as the mutant's, met by the product: it waits, then places everything."""
    bus = new_bus("refused-batch")
    topic = bus.topics.delivery("visits-meizhou")
    flow = Flow(bus, seed=11)
    flow.write(RECORDS)
    _limit(bus, topic, 300)
    with BrokerProcess(bus, records_max=50) as broker:
        until(lambda: broker.failures("TransactionFailed"), 30, "a transaction that fails")
        _limit(bus, topic, 2_000_000)
        bus.wait_drained()
        broker.stop()
    check(bus, flow.acknowledged).require()
