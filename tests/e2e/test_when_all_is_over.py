"""After everything that the other tests did to this bus: still no leak, and the audit holds."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import shutong_verify
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from e2e.canaries import search
from e2e.kafka_reading import read_all
from e2e.samples import aid
from e2e.scene import CLEAR, Scene
from e2e.waiting import until
from e2e.whole_bus import DATASETS, LANES, SERVICES, Bus
from shutong_auditor.copyexport import export_copy
from shutong_auditor.copyfiles import AuditCopy
from shutong_auditor.copyverify import verify_copy
from shutong_auditor.index.engine import open_index
from shutong_auditor.index.events import EventQuestion, events
from shutong_auditor.index.questions import Question, last_blocks, spans, sums
from shutong_auditor.kafka_trees import Signed
from shutong_auditor.kafka_verdict import KafkaVerdict
from shutong_auditor.kafka_verify import verify_kafka
from shutong_auditor.prove import make_proof
from shutong_auditor.reconcile import reconcile
from shutong_auditor.service import index_follower
from shutong_auditor.subject import Lawful, Line, subject_report
from shutong_auditor.supply import certificate_body
from shutong_auditor.tally import PLACED
from shutong_broker.policy.interpret import subject_token
from shutong_broker.policy.planning import TOKEN_KEY_ID
from shutong_cli.reading import read_in_force
from shutong_cli.receipt_commands import countersign
from shutong_cli.replay_command import replayed
from shutong_core.audit.access import AccessVerifier
from shutong_core.audit.certificate import encode_certificate, parse_certificate
from shutong_core.audit.proof import check_proof, parse_proof
from shutong_core.audit.receipts import parse_receipt
from shutong_core.audit.rowtree import Fate
from shutong_core.audit.trust import TrustBundle
from shutong_core.domain.errors import Rejected
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


def test_an_agency_with_a_client_of_its_own_countersigns_what_it_read(
    bus: Bus, scene: Scene, tmp_path: Path
) -> None:
    bus.wait_decided()
    node, grant, organisation = bus.up.node, next(iter(CLEAR)), "11440000006940140P"
    private = Ed25519PrivateKey.generate()
    node.keyring.trust(f"agency/{organisation}", private.public_key().public_bytes_raw())
    state = tmp_path / "state.json"
    records = read_all(bus.bootstrap, [bus.topics.delivery(grant)])

    def sign() -> tuple[int, set[int]]:
        return bus.call(countersign(node, grant, f"{organisation}/own", private, state), 60)

    assert sign() == (len(records), set())
    assert sign() == (0, set()), "it goes on where it stood"
    stored = [each.value for each in read_all(bus.bootstrap, [bus.topics.receipts])]
    verify = node.keyring.verifier(f"agency/{organisation}")
    mine = [parse_receipt(each or b"", verify) for each in stored if each and b"/own" in each]
    assert sum(each.last - each.first + 1 for each in mine) == len(records)


def trust_of(bus: Bus) -> TrustBundle:
    node, keyring = bus.up.node, bus.up.node.keyring
    agencies: dict[str, tuple[bytes, ...]] = {}
    for key_id, public in keyring.trusted().items():
        kind, _, organisation = key_id.rpartition("/")[0].partition("/")
        if kind == "agency":
            agencies[organisation] = (*agencies.get(organisation, ()), public)
    cluster = bus.call(bus_name(node.client, node.settings.prefix), 20)
    return TrustBundle(cluster, keyring.publics("auditor")(), (), 0, agencies)


def test_a_copy_of_the_bus_is_verified_elsewhere_by_both_verifiers(
    bus: Bus, scene: Scene, tmp_path: Path
) -> None:
    bus.wait_decided()
    node, trust = bus.up.node, trust_of(bus)
    time.sleep(5)  # the trees are signed every other second
    copy, data = tmp_path / "copy", bus.settings.data_dir
    export = export_copy(node.client, node.topics, node.codec, trust.cluster, copy, data)
    about = bus.call(export, 120)
    assert about.late == frozenset()
    verdict = verify_copy(AuditCopy(copy), trust, node.codec)
    assert verdict.ok, verdict.text("en")
    assert verdict.agreed > about.lanes
    assert min(verdict.totals.rows, verdict.delivered, verdict.events, verdict.checkpoints) > 0
    uncovered = [each.en for each in verdict.not_checked if "after the newest" in each.en]
    assert uncovered == [], "all that was decided is under a checkpoint"
    other = shutong_verify.verify_copy(str(copy), trust.encode())
    assert other.wrong == []
    assert (other.rows, other.records) == (verdict.totals.rows, verdict.delivered)


def test_the_bus_at_work_agrees_with_what_was_signed_of_it(
    bus: Bus, scene: Scene, tmp_path: Path
) -> None:
    node, trust = bus.up.node, trust_of(bus)
    trees = bus.settings.data_dir / "auditor" / "trees"
    verdict = bus.call(
        verify_kafka(
            node.client,
            node.topics,
            node.codec,
            cluster=trust.cluster,
            signed=Signed(trust, trees, tmp_path),
        ),
        120,
    )
    assert verdict.ok, verdict.text("en")
    assert f"{2 * LANES} trees agree with signed checkpoints" in verdict.text("en")


def test_what_became_of_a_record_is_proved_to_who_has_the_trust_bundle_alone(
    bus: Bus, scene: Scene
) -> None:
    node, trust = bus.up.node, trust_of(bus)
    proved = []
    for each in read_all(bus.bootstrap, [bus.topics.inbound(DATASETS[0])])[:6]:
        place = (DATASETS[0], each.partition, each.offset)
        made = bus.call(
            make_proof(node.client, node.topics, bus.settings.data_dir, place), 60
        ).encode()
        assert len(made) <= 10 * 1024
        shown = check_proof(parse_proof(made), trust)
        assert (shown.row.dataset, shown.header.lane, shown.row.offset) == place
        assert shutong_verify.check_proof(made, shutong_verify.Trust(trust.encode()))
        proved += [verdict.fate for verdict in shown.row.verdicts]
    assert Fate.PLACED in proved
    with pytest.raises(Rejected, match="no verdict"):
        bus.call(
            make_proof(node.client, node.topics, bus.settings.data_dir, (DATASETS[0], 0, 10**9)), 60
        )


def test_every_decision_is_made_again_to_what_the_audit_has(bus: Bus, scene: Scene) -> None:
    bus.wait_decided()
    node, refused, told = bus.up.node, 0, ""
    for dataset in DATASETS:
        for each in read_all(bus.bootstrap, [bus.topics.inbound(dataset)])[:8]:
            place = (dataset, each.partition, each.offset)
            verdict = bus.call(replayed(node, place, ""), 60)
            assert verdict.ok, verdict.text("en")
            refused += "refused" in verdict.text("en")
            told += verdict.text("en")
    assert refused
    assert ": placed" in told
    assert Reason.REGION_OUT_OF_SCOPE.en in told or Reason.CONDITION_NOT_MET.en in told


def test_the_index_says_what_the_audit_says_and_every_day_is_reconciled(
    bus: Bus, scene: Scene, tmp_path: Path
) -> None:
    bus.wait_decided()
    node, trust = bus.up.node, trust_of(bus)
    engine = open_index(None, bus.settings.data_dir)  # the auditor keeps it up to date
    verdict = bus.call(
        verify_kafka(node.client, node.topics, node.codec, cluster=trust.cluster), 120
    )
    blocks = {lane: anchor.sequence for lane, anchor in verdict.last_blocks.items()}
    until(lambda: last_blocks(engine) == {n: s for n, s in blocks.items() if s}, 30, "indexed")
    placed = sums(engine, Question(verdict=PLACED), ("grant_id",)).lines
    assert dict(placed) == {grant: count for grant, count in verdict.placed.items() if count}
    days = [line[0] for line in sums(engine, Question(), ("day",)).lines]
    found = [
        each
        for day in days
        for each in bus.call(reconcile(node.client, node.topics, day, spans(engine, day)), 60)
    ]
    assert [each.differences for each in found] == [[]] * len(found)
    assert sum(each.in_topic for each in found) == sum(verdict.placed.values())
    assert 0 < sum(each.acknowledged for each in found) <= sum(each.audited for each in found)

    mine = open_index(f"sqlite:///{tmp_path / 'anew.sqlite3'}", tmp_path)
    lanes = len(verdict.last_blocks)
    assert bus.call(index_follower(node, mine, trust.cluster, lanes).run_once(), 60) == sum(
        blocks.values()
    )
    columns = ("lane", "sequence", "grant_id", "verdict", "direction", "giver", "receiver")
    assert sums(mine, Question(), columns, 10_000) == sums(engine, Question(), columns, 10_000)


def test_a_department_gets_a_certificate_that_the_trust_bundle_verifies(
    bus: Bus, scene: Scene
) -> None:
    node, trust = bus.up.node, trust_of(bus)
    engine = open_index(None, bus.settings.data_dir)
    (first, *_), (last, *_) = (sums(engine, Question(), ("day",)).lines[n] for n in (0, -1))
    provider = sums(engine, Question(verdict=PLACED), ("provider",)).lines[0][0]
    version, _ = bus.call(read_in_force(node), 60)
    asked = (provider, first, last)
    body = certificate_body(engine, version, trust.cluster, bus.settings.data_dir, asked, 1)
    signer = node.keyring.signer("auditor")
    data = encode_certificate(body, signer.key_id, signer.sign)
    said = parse_certificate(data, trust.cluster, trust.auditor)
    assert said == body
    assert sum(each["records"] for each in said["placed"]) > 0
    assert len(said["checkpoints"]) == version.bus.lanes
    for bad in (data.replace(b'"records":1', b'"records":9'), data[:-2], b"", data + b" "):
        if bad != data:
            with pytest.raises(Rejected):
                parse_certificate(bad, trust.cluster, trust.auditor)
    with pytest.raises(Rejected, match="no auditor"):
        parse_certificate(data, trust.cluster, [bytes(32)])
    with pytest.raises(Rejected, match="of bus"):
        parse_certificate(data, "another", trust.auditor)


def test_a_person_is_told_to_whom_records_about_them_went(bus: Bus, scene: Scene) -> None:
    record = aid()
    assert bus.publish("city-civil", "aid-decision", [record]).status == 200
    bus.wait_decided()
    node = bus.up.node
    number = record["data"]["id_number"]
    token = subject_token(node.keyring.secret(TOKEN_KEY_ID), number)
    now_ms = int(time.time() * 1000)

    def report(given: bytes, lawful: Lawful) -> list[Line]:
        work = subject_report(
            node.client,
            node.topics,
            node.keyring.verifier("control"),
            given,
            (now_ms - 600_000, now_ms + 60_000),
            lawful,
        )
        return bus.call(work, 60)

    lines = report(token, Lawful(frozenset(), now_ms + 60_000))
    assert {line.dataset for line in lines} == {"aid-decision"}
    assert {line.grant for line in lines} >= {"aid-city"}
    assert all(line.requester and line.purpose and line.basis for line in lines)
    hidden = Lawful(frozenset(line.purpose for line in lines), now_ms + 60_000)
    assert report(token, hidden) == []
    assert report(subject_token(node.keyring.secret(TOKEN_KEY_ID), "nobody"), hidden) == []


def test_the_audit_is_asked_over_http_by_right_and_each_document_is_on_record(
    bus: Bus, scene: Scene
) -> None:
    bus.wait_decided()
    own = bus.ask("city-civil", "auditor", "/v1/audit/search?by=publisher,provider,requester")
    assert own.status == 200, own.raw
    organisation = bus.call(read_in_force(bus.up.node), 60)[0].system("city-civil").organisation
    assert own.json["lines"]
    for line in own.json["lines"]:
        assert organisation in (line["publisher"], line["provider"], line["requester"])
    engine = open_index(None, bus.settings.data_dir)
    day = sums(engine, Question(), ("day",)).lines[-1][0]
    told = bus.ask("city-civil", "auditor", f"/v1/audit/reconcile?day={day}")
    assert (told.status, told.json["ok"]) == (200, True), told.raw
    assert told.json["grants"]
    body = {"organisation": organisation, "first_day": day, "last_day": day}
    given = bus.ask(
        "city-civil", "auditor", "/v1/audit/certificates", body=json.dumps(body).encode()
    )
    trust = trust_of(bus)
    assert given.status == 201
    said = parse_certificate(given.raw.partition(b"\r\n\r\n")[2], trust.cluster, trust.auditor)
    assert said["organisation"] == organisation
    for other in ("city-water", ""):
        refused = bus.ask(
            other, "auditor", "/v1/audit/certificates", body=json.dumps(body).encode()
        )
        assert refused.status == (403 if other else 401)
    sheet = bus.ask("city-civil", "auditor", "/v1/audit/exports?question=matrix&format=csv")
    assert sheet.status == 200

    def indexed() -> bool:
        found, _ = events(engine, EventQuestion(actor=organisation))
        return {"audit.certify", "audit.sheet"} <= {each["action"] for each in found}

    until(indexed, 20, "the acts are in the index too")
