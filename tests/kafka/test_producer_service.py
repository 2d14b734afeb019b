"""The producer service on a real Kafka: what is answered is what stands in the topic."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import rfc8785
from aiokafka import AIOKafkaProducer

from kafka.intake_service import AVRO, NDJSON, PATH, Service, events, lines, prepared, settings
from shutong_core.audit.intake import parse_request_receipt
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.node import Node
from shutong_core.wire.cursor import encode_cursor
from shutong_core.wire.quarantine import QuarantineHeaders, Source, quarantine_headers
from shutong_producer.csvfile import publish_file
from shutong_producer.quarantine import QuarantineTail
from shutong_producer.refusals import Page
from shutong_producer.service import SERVICE, running
from unit.intake_world import DATASET, PUBLISHER, Keys, Lists, avro, data, world

pytestmark = pytest.mark.kafka


@pytest.fixture
async def service(kafka: EmbeddedKafka, prefix: str, tmp_path: Path) -> AsyncIterator[Service]:
    it = world()
    lists = Lists(it.version, it.schemas)
    node = Node(SERVICE, settings(kafka.bootstrap_servers, prefix, tmp_path, ack_s=2.0))
    cluster = await prepared(node, lists)
    async with running(node, lists, Keys(), cluster) as parts:
        await parts.writer.wait_ready(10)
        async with httpx2.AsyncClient(base_url=parts.http.url, timeout=30) as http:
            yield Service(node, lists, parts, http, cluster)


def reasons(answer: Any) -> list[tuple[int, str, str]]:
    return [(each["index"], each["path"], each["reason"]) for each in answer.json()["errors"]]


async def test_one_json_record_stands_where_the_answer_says(service: Service) -> None:
    answer = await service.post({"id": "e-1", "operation": "put", "data": data()})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["accepted"] == 1
    (record,) = await service.inbound()
    result = body["results"][0]
    assert (result["id"], result["partition"], result["offset"]) == (
        "e-1",
        record.partition,
        record.offset,
    )
    assert record.value == avro()
    assert dict(record.headers)["shutong_publisher"] == PUBLISHER.encode()
    assert dict(record.headers)["ce_id"] == b"e-1"


async def test_the_receipt_verifies_and_names_places_and_digests(service: Service) -> None:
    answer = await service.post({"records": events(20)})
    receipt = parse_request_receipt(
        rfc8785.dumps(answer.json()["receipt"]), service.node.keyring.verifier("intake")
    )
    assert (receipt.cluster, receipt.publisher) == (service.cluster, PUBLISHER)
    standing = {
        (each.partition, each.offset): hashlib.sha256(each.value[5:]).hexdigest()
        for each in await service.inbound()
    }
    assert {(each.partition, each.offset): each.digest for each in receipt.accepted} == standing
    assert len(standing) == 20


async def test_all_content_types_write_the_same_record(service: Service) -> None:
    assert (await service.post({"records": [{"id": "a", "data": data()}]})).status_code == 200
    assert (
        await service.post(lines([{"id": "a", "data": data()}]), headers=NDJSON)
    ).status_code == 200
    framed = await service.post(avro(), headers={**AVRO, "X-Event-Id": "a"})
    assert framed.status_code == 200
    written = await service.inbound()
    assert len(written) == 3
    assert len({(each.key, each.value, tuple(each.headers)) for each in written}) == 1


async def test_a_missing_id_is_made_and_told(service: Service) -> None:
    answer = await service.post({"data": data()})
    result = answer.json()["results"][0]
    assert result["id_made"] is True
    (record,) = await service.inbound()
    assert dict(record.headers)["ce_id"].decode() == result["id"]


async def test_all_or_nothing_writes_nothing_if_one_record_is_wrong(service: Service) -> None:
    entries = events(5)
    entries[1]["data"]["members"] = "x"
    entries[3]["data"]["agency"] = ""
    for body, headers in (({"records": entries}, {}), (lines(entries), NDJSON)):
        answer = await service.post(body, headers=headers)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert reasons(answer) == [
            (1, "members", "BAD_VALUE"),
            (3, "agency", "REQUIRED_MISSING"),
        ]
        assert all(each["zh"] and each["en"] for each in answer.json()["errors"])
    assert await service.inbound() == []
    event = (await service.access())[0]
    assert (event.action, event.actor, event.target) == ("publish", PUBLISHER, DATASET)
    assert event.detail.endswith("BAD_VALUE=1 REQUIRED_MISSING=1")


async def test_per_record_takes_the_good_and_tells_the_bad(service: Service) -> None:
    entries: list[Any] = events(1200)
    entries[7]["data"]["members"] = "x"
    entries[900] = "no entry"
    body = lines(entries[:1000]) + b'{"id":"\xff"}\n' + lines(entries[1000:])
    answer = await service.post(body, headers=NDJSON, params={"mode": "per-record"})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [each["index"] for each in results] == list(range(1201))
    refused = {each["index"]: each["problem"] for each in results if each["outcome"] == "refused"}
    assert {index: each["reason"] for index, each in refused.items()} == {
        7: "BAD_VALUE",
        900: "BAD_REQUEST",
        1000: "BAD_REQUEST",
    }
    assert answer.json()["accepted"] == 1198
    standing = {(each.partition, each.offset) for each in await service.inbound()}
    assert standing == {
        (each["partition"], each["offset"]) for each in results if each["outcome"] == "accepted"
    }


IDENTITIES: list[tuple[str, str, int, Reason | None]] = [
    ("wrong", DATASET, 401, Reason.UNAUTHENTICATED),
    ("", DATASET, 401, Reason.UNAUTHENTICATED),
    ("key-gone", DATASET, 403, Reason.UNKNOWN_PUBLISHER),
    ("key-reader", DATASET, 403, Reason.NOT_YOUR_DATASET),
    ("key-1", "not-mine", 403, Reason.NOT_YOUR_DATASET),
    ("key-1", "own-client", 403, Reason.NOT_YOUR_DATASET),
    ("key-1", "work-secret", 403, Reason.SECRET),
    ("key-1", "derived", 403, Reason.NOT_YOUR_DATASET),
    ("key-1", "no-such", 404, Reason.DATASET_NOT_IN_FORCE),
    ("key-2", DATASET, 200, None),
]


async def test_identity_and_right(service: Service) -> None:
    refused = 0
    for key, dataset, status, reason in IDENTITIES:
        answer = await service.post(
            {"id": "e", "data": data()}, key=key, path=f"/v1/datasets/{dataset}/records"
        )
        assert (key, dataset, answer.status_code) == (key, dataset, status)
        if reason is None:
            continue
        assert answer.json()["reason"] == reason.name
        assert answer.json()["zh"]
        # The event stands in the topic before the answer does.
        refused += 1
        event = (await service.access())[-1]
        assert (event.sequence, event.reason) == (refused, reason.number)
    assert len(await service.inbound()) == 1


async def test_a_publisher_cannot_speak_for_another(service: Service) -> None:
    await service.post(
        {"id": "e", "data": data()}, key="key-2", headers={"shutong_publisher": PUBLISHER}
    )
    (record,) = await service.inbound()
    assert dict(record.headers)["shutong_publisher"] != PUBLISHER.encode()


async def test_a_right_taken_away_counts_at_the_next_request(service: Service) -> None:
    assert (await service.post({"data": data()})).status_code == 200
    service.lists.without(f"dataset/{DATASET}")
    assert (await service.post({"data": data()})).status_code == 404


async def test_without_a_fresh_list_nothing_is_taken(service: Service) -> None:
    service.lists.word_age_s = 1e9
    answer = await service.post({"data": data()})
    assert (answer.status_code, answer.json()["reason"]) == (503, "LIST_LEASE_LOST")
    assert int(answer.headers["retry-after"]) >= 1
    service.lists.word_age_s, service.lists.version = 0.0, None
    assert (await service.post({"data": data()})).status_code == 503
    assert service.parts.desk.problem() is not None


BOMB = gzip.compress(b"0" * 10_000_000)


HOSTILE: list[tuple[bytes, dict[str, Any], int, str]] = [
    (BOMB, {"Content-Encoding": "gzip", **NDJSON}, 415, "BAD_REQUEST"),
    (b"{}", {"Content-Type": "text/plain"}, 415, "BAD_REQUEST"),
    (b"{}", {"Content-Type": "application/json; charset=gbk"}, 415, "BAD_REQUEST"),
    (b'{"data":"' + b"x" * 5_000_000 + b'"}', {}, 413, "TOO_LARGE"),
    (b"\x00" * 950_000, AVRO, 413, "TOO_LARGE"),
    (lines([1] * 5001), NDJSON, 413, "TOO_LARGE"),
    (b'{"data":{"x":"' + b"x" * 950_000 + b'"}}\n', NDJSON, 422, "TOO_LARGE"),
    (b'{"id":"\xff","data":{}}', {}, 400, "BAD_REQUEST"),
    (b'{"id":"a","id":"b","data":{}}', {}, 400, "BAD_REQUEST"),
    (b"[" * 100_000 + b"]" * 100_000, {}, 400, "BAD_REQUEST"),
    (b'{"data":' * 50_000 + b"1" + b"}" * 50_000, NDJSON, 422, "BAD_REQUEST"),
    (b'{"data":{"members":1e999}}', {}, 422, "REQUIRED_MISSING"),
    (b"", NDJSON, 400, "BAD_REQUEST"),
    (b"", {}, 400, "BAD_REQUEST"),
    (b"\xff" * 200, AVRO, 422, "BAD_FRAMING"),
    (b"\x00\x7f\xff\xff\xff" + b"\x02" * 60, AVRO, 422, "UNKNOWN_SCHEMA"),
    (avro(schema_id=2), AVRO, 422, "UNKNOWN_SCHEMA"),
    (avro(), {**AVRO, "X-Event-Id": "\u200b".encode()}, 422, "BAD_EVENT_ID"),
    (avro(), {**AVRO, "X-Operation": "drop"}, 422, "UNKNOWN_OPERATION"),
]


async def test_hostile_bodies_are_refused_and_the_next_good_record_is_taken(
    service: Service,
) -> None:
    for number, (body, headers, status, reason) in enumerate(HOSTILE):
        answer = await service.post(body, headers={"Content-Type": "application/json", **headers})
        assert (number, answer.status_code, answer.json()["reason"]) == (number, status, reason)
        assert (await service.post({"id": f"good-{number}", "data": data()})).status_code == 200
    found = [dict(each.headers)["ce_id"].decode() for each in await service.inbound()]
    assert found == [f"good-{number}" for number in range(len(HOSTILE))]
    assert service.parts.desk.gate.held_bytes == 0


async def test_an_oversize_line_costs_only_itself_in_per_record_mode(service: Service) -> None:
    body = lines([{"id": "big", "data": {"x": "x" * 950_000}}, {"id": "ok", "data": data()}])
    answer = await service.post(body, headers=NDJSON, params={"mode": "per-record"})
    first, second = answer.json()["results"]
    assert first["problem"]["reason"] == "TOO_LARGE"
    assert (second["id"], second["outcome"]) == ("ok", "accepted")


async def test_what_was_settled_is_told_when_the_rest_of_the_body_is_too_much(
    service: Service,
) -> None:
    body = lines(events(2000)) + b"1\n" * 3001
    answer = await service.post(body, headers=NDJSON, params={"mode": "per-record"})
    assert answer.status_code == 413
    assert answer.json()["accepted"] == len(await service.inbound()) >= 1500


SMUGGLING = [
    b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"X-Event-Id: a\x00b\r\nContent-Length: 2\r\n",
    b"X-Event-Id: " + b"a" * 1_000_000 + b"\r\nContent-Length: 2\r\n",
    b"X-Event-Id: a\r\nX-Event-Id: b\r\nContent-Length: 2\r\n",
]


async def test_headers_that_could_smuggle_are_refused(service: Service) -> None:
    start = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-1\r\n".encode()
    start += b"Content-Type: application/avro\r\n"
    for raw in SMUGGLING:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.parts.http.port)
        writer.write(start + raw + b"\r\n{}xyz")
        status = b""
        with contextlib.suppress(ConnectionError, TimeoutError):  # cut off: refused as well
            async with asyncio.timeout(5):
                await writer.drain()
                status = await reader.readline()
        writer.close()
        assert status.split(b" ")[1:2] in ([], [b"400"], [b"422"], [b"431"]), raw[:40]
    assert await service.inbound() == []


async def test_a_flood_of_refusals_is_counted_not_kept(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.parts.access, "_single_max", 5)
    answers = await asyncio.gather(
        *(service.post({"data": {}}, key=f"wrong-{n % 7}") for n in range(600)),
    )
    assert {each.status_code for each in answers} <= {401, 429}
    await asyncio.sleep(2.5)
    found = await service.access()
    told = sum(
        int(each.detail.split()[0]) if "more of this kind" in each.detail else 1 for each in found
    )
    assert told == 600
    assert len(found) < 600


async def test_refusals_show_only_ones_own(service: Service) -> None:
    topic = service.node.topics.quarantine
    producer = AIOKafkaProducer(**service.node.client)
    await producer.start()
    try:
        for number, publisher in enumerate((PUBLISHER, "x" * 18 + "/other", PUBLISHER, "")):
            told = QuarantineHeaders(
                publisher, f"e-{number}", Reason.UNKNOWN_REGION, "town_code", Source(DATASET, 1, 7)
            )
            await producer.send_and_wait(
                topic, b"sealed", partition=number % 2, headers=quarantine_headers(told)
            )
    finally:
        await producer.stop()
    found: list[Any] = []
    async with asyncio.timeout(10):
        while len(found) < 2:
            answer = await service.get("/v1/refusals")
            found = answer.json().get("refusals", [])
            await asyncio.sleep(0.05)
    assert {each["id"] for each in found} == {"e-0", "e-2"}
    assert found[0]["reason"] == "UNKNOWN_REGION"
    assert (found[0]["path"], found[0]["dataset"], found[0]["offset"]) == ("town_code", DATASET, 7)
    assert "sealed" not in answer.text
    again = await service.get("/v1/refusals", params={"since": answer.json()["next"]})
    assert again.json()["refusals"] == []
    assert (await service.get("/v1/refusals", key="key-2")).json()["refusals"] == []
    anew = QuarantineTail(service.node.client, topic)  # as after a restart
    await anew.start()
    try:
        async with asyncio.timeout(10):
            while not anew.ready:
                await asyncio.sleep(0.02)
        page = anew.index.page(PUBLISHER, None, 10)
        assert isinstance(page, Page)
        assert {each.told.event_id for each in page.records} == {"e-0", "e-2"}
        assert encode_cursor(page.following) == answer.json()["next"]
    finally:
        await anew.close()
    assert (await service.get("/v1/refusals", key="wrong")).status_code == 401
    assert (await service.get("/v1/refusals", params={"since": "x"})).status_code == 400
    assert (await service.get("/v1/refusals", params={"limit": "x"})).status_code == 400


async def test_datasets_show_what_may_be_published_and_how(service: Service) -> None:
    found = (await service.get("/v1/datasets")).json()["datasets"]
    assert [each["id"] for each in found] == [DATASET]
    assert found[0]["data"]["properties"]["decided_on"]["format"] == "date"
    assert (await service.get("/v1/datasets", key="key-reader")).json()["datasets"][0][
        "id"
    ] == "not-mine"


async def test_the_openapi_document_reads_in_both_languages(service: Service) -> None:
    document = (await service.http.get("/openapi.json")).json()
    route = document["paths"]["/v1/datasets/{dataset}/records"]["post"]
    assert route["summary"] == "提交记录 Publish records"
    assert set(route["requestBody"]["content"]) == {
        "application/json",
        "application/x-ndjson",
        "application/avro",
    }
    assert document["components"]["securitySchemes"]
    assert (await service.http.get("/nowhere")).json()["reason"] == "NOT_FOUND"
    assert (await service.http.get(PATH)).status_code == 405


async def test_no_value_of_a_record_is_in_metrics(service: Service) -> None:
    for number in range(20):
        await service.post({"id": f"canary-{number}", "data": data(name="示例金丝雀")})
    shown = service.node.metrics.exposition().decode()
    assert "canary" not in shown
    assert "金丝雀" not in shown
    assert 'outcome="accepted"} 20.0' in shown


async def test_a_csv_file_is_published_and_its_wrong_rows_reported(
    service: Service, tmp_path: Path
) -> None:
    names = [name for name, value in data().items() if value is not None]
    rows = [data(decision_no=f"MZ-{n}", members=9 if n == 3 else 3) for n in range(700)]
    cells = [",".join(str(row[name]) for name in names).replace("True", "true") for row in rows]
    path = tmp_path / "decisions.csv"
    path.write_text("\n".join([",".join(names), *cells]) + "\n", encoding="utf-8")
    done = await publish_file(path, DATASET, service.parts.http.url, "key-1")
    assert (done.accepted, done.refused) == (699, 1)
    assert done.report is not None
    fault = json.loads(done.report.read_text())
    assert (fault["line"], fault["path"], fault["reason"]) == (5, "members", "ITEMS_DISAGREE")
    assert len({dict(each.headers)["ce_id"] for each in await service.inbound()}) == 699
