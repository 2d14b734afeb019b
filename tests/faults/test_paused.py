"""A broker frozen within a transaction while the list changes must not place by the old list.

It is caught where it matters: its records are in the log, not committed, when it stops. The short
pauses end before the deadlines of the transaction, so that only the list lease stands between the
old list and the commit; a broker that does not look at its lease shows that.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import pytest

from faults import visits
from faults.checker import Log, Read, Report, check, read, snapshot
from faults.fault_bus import Bus, Flow, until
from faults.proxied import aside, broker_behind, proxied
from faults.proxy import END_TXN, PRODUCE, KafkaProxy, Rule
from shutong_core.audit.block import parse_block
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SUSPENDED = "visits-meizhou"
#: Longer than the lease (3 s), shorter than a send's or a commit's deadline; and far longer.
SHORT_S, LONG_S = 3.3, 8.0


def _answer_to_sends(proxy: KafkaProxy) -> Rule:
    """Stops when everything was sent and Kafka's answer is awaited."""
    return proxy.hold(PRODUCE, "response")


def _commit_order(proxy: KafkaProxy) -> Rule:
    """Stops when EndTxn was sent and lost on its way; the client would send it again."""
    return proxy.drop(END_TXN, "request")


def _granted(bus: Bus) -> Callable[[Read], list[str]]:
    """Grants in force when an inbound record was decided, by the list that its block names."""
    ranges: list[tuple[int, int, int, int]] = []
    for (_, lane), blocks in read(bus, bus.topics.audit).items():
        for block in blocks:
            header, body = parse_block(block.key or b"", block.value or b"")
            assert body is not None
            ranges += [(lane, part.first, part.next, header.list_number) for part in body.inputs]

    def granted(record: Read) -> list[str]:
        (number,) = (
            number
            for lane, first, end, number in ranges
            if lane == record.partition and first <= record.offset < end
        )
        return [name for name in visits.GRANTS if number == 1 or name != SUSPENDED]

    return granted


def _open(bus: Bus, committed: Log) -> set[int]:
    """Offsets of the grant's deliveries that are in the log and not committed."""
    place = (bus.topics.delivery(SUSPENDED), 0)
    end = max((record.offset for record in committed[place]), default=-1)
    written = read(bus, place[0], committed=False)[place]
    return {record.offset for record in written if record.offset > end}


async def _pause(
    kafka: EmbeddedKafka,
    bus: Bus,
    stop_at: Callable[[KafkaProxy], Rule],
    seconds: float,
    mutant: str | None = None,
) -> tuple[Report, set[int], Log]:
    """Freeze in a transaction, publish list 2, wake; (report, offsets open at the pause, log)."""
    async with proxied(kafka) as proxy:
        with broker_behind(kafka, bus, mutant=mutant) as broker:
            flow = Flow(bus, town=visits.MEIZHOU, repeats=0)
            flow.__enter__()
            await aside(broker.wait_serving)
            await aside(until, lambda: broker.transactions("committed") > 2, 15, "commits")
            await stop_at(proxy).reached()
            # Its requests for offsets run beside: let them finish, they have the first deadline.
            await asyncio.sleep(0.2)
            broker.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            number = await aside(bus.publish_list, frozenset({SUSPENDED}))
            assert number == 2
            before = await aside(snapshot, bus)
            open_offsets = await aside(_open, bus, before)
            assert open_offsets, "it was not within a transaction that places for the grant"
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - stopped)))
            proxy.heal()
            broker.signal(signal.SIGCONT)
            await asyncio.sleep(1)
            flow.__exit__()
            await aside(bus.wait_drained)
            await aside(broker.stop)
    report = await aside(
        lambda: check(bus, flow.acknowledged, snapshots=[before], granted=_granted(bus))
    )
    return report, open_offsets, await aside(read, bus, *_outputs(bus))


def _outputs(bus: Bus) -> tuple[str, str]:
    return bus.topics.delivery(SUSPENDED), bus.topics.audit


@pytest.mark.parametrize(
    ("stop_at", "seconds"),
    [(_answer_to_sends, SHORT_S), (_answer_to_sends, LONG_S), (_commit_order, SHORT_S)],
)
async def test_nothing_is_placed_by_a_list_that_was_replaced_during_a_pause(
    fault_kafka: EmbeddedKafka,
    new_bus: Callable[..., Bus],
    stop_at: Callable[[KafkaProxy], Rule],
    seconds: float,
) -> None:
    bus = await aside(new_bus, "paused", 1)
    report, open_offsets, log = await _pause(fault_kafka, bus, stop_at, seconds)
    report.require()
    placed = {record.offset for record in log[bus.topics.delivery(SUSPENDED), 0]}
    assert not placed & open_offsets
    assert max(placed) < min(open_offsets), "placed for a suspended grant after the pause"
    blocks = log[bus.topics.audit, 0]
    numbers = [parse_block(each.key, each.value)[0].list_number for each in blocks]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 2


async def test_without_the_lease_the_old_list_places_after_the_pause(
    fault_kafka: EmbeddedKafka, new_bus: Callable[..., Bus]
) -> None:
    bus = await aside(new_bus, "no-lease", 1)
    _, open_offsets, log = await _pause(
        fault_kafka, bus, _commit_order, SHORT_S, "place_without_a_lease"
    )
    placed = {record.offset for record in log[bus.topics.delivery(SUSPENDED), 0]}
    assert placed & open_offsets, "the pause did not put the lease to the test"
