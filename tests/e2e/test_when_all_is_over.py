"""After everything that the other tests did to this bus: still no leak, and the audit holds."""

from __future__ import annotations

from e2e.canaries import search
from e2e.kafka_reading import read_all
from e2e.scene import CLEAR, Scene
from e2e.whole_bus import DATASETS, SERVICES, Bus
from shutong_auditor.kafka_verdict import KafkaVerdict
from shutong_auditor.kafka_verify import verify_kafka
from shutong_cli.reading import read_in_force
from shutong_core.audit.access import AccessVerifier
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.cluster import bus_name
from shutong_core.wire.busrecords import AccessEvent


def test_no_canary_has_come_out_since(scene: Scene) -> None:
    scene.refuse_leaks(search(scene.hay(), scene.mint.made))


def test_the_audit_is_verified_without_any_finding(bus: Bus, scene: Scene) -> None:
    bus.wait_decided()

    async def verify() -> KafkaVerdict:
        node = bus.up.node
        version, _ = await read_in_force(node)
        return await verify_kafka(
            node.client,
            node.topics,
            node.codec,
            cluster=await bus_name(node.client, node.settings.prefix),
            lists={version.number: version.digest},
        )

    verdict = bus.call(verify(), 120)
    assert verdict.ok, verdict.text("en")
    assert list(verdict.findings) == []
    inbound = [bus.topics.inbound(dataset) for dataset in DATASETS]
    assert verdict.totals.rows == len(read_all(bus.bootstrap, inbound))
    on_topics = {
        grant: len(read_all(bus.bootstrap, [bus.topics.delivery(grant)])) for grant in CLEAR
    }
    assert verdict.placed == on_topics
    assert min(on_topics.values()) > 0


def test_the_acts_of_all_services_are_chained_without_a_gap(bus: Bus, scene: Scene) -> None:
    codec = bus.up.node.codec
    verifier = AccessVerifier(lambda raw: codec.decode_as(AccessEvent, raw))
    events = read_all(bus.bootstrap, [bus.topics.access])
    assert [verifier.feed(each.value or b"") for each in events] == [None] * len(events)
    numbers = {codec.decode_as(AccessEvent, each.value or b"").reason for each in events}
    assert numbers >= {
        each.number
        for each in (Reason.NOT_YOUR_GRANT, Reason.NOT_YOUR_DATASET, Reason.UNAUTHENTICATED)
    }


def test_every_record_was_decided_and_every_service_is_ready(bus: Bus, scene: Scene) -> None:
    bus.wait_decided()
    for service in SERVICES:
        status, checks = bus.readiness(service)
        assert (status, [each for each in checks.values() if not each["ok"]]) == (200, [])
