"""The consumer service on a real Kafka: who gets what, when, how often, and who signs for it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from faults.proxy import KafkaProxy
from kafka.inbox_world import (
    HOST_ORG,
    SHUIZHAI,
    SHUIZHAI_ORG,
    TOWNS_GRANT,
    ZHUANSHUI,
    ZHUANSHUI_ORG,
    Inbox,
    inbox,
    node_at,
    world,
)
from shutong_consumer import countersign
from shutong_core.audit.chain import extend, genesis, territory_genesis
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.wire.cursor import encode_cursor
from unit import listing_fixtures as listing
from unit.policy_world import MEIZHOU_GRANT

pytestmark = pytest.mark.kafka


@pytest.fixture
async def bus(kafka: EmbeddedKafka, prefix: str, tmp_path: Path) -> AsyncIterator[Inbox]:
    async with inbox(kafka.bootstrap_servers, prefix, tmp_path) as service:
        yield service


def reason(answer: object) -> tuple[int, str]:
    body = answer.json()  # type: ignore[attr-defined]
    assert body["zh"]
    assert body["en"]
    return answer.status_code, body["reason"]  # type: ignore[attr-defined]


async def test_pages_give_each_record_once_and_in_order(bus: Inbox) -> None:
    await bus.place(*[SHUIZHAI] * 5)
    await bus.place(*[SHUIZHAI] * 4, lane=1)
    records, cursor = await bus.read_all(MEIZHOU_GRANT, "key-city", limit=2)
    assert [each["data"]["decision_no"] for each in records] == [
        f"MZ-{n:05d}" for n in range(1, 10)
    ]
    assert [each["key"] for each in records] == [f"MZ-{n:05d}" for n in range(1, 10)]
    first = records[0]
    assert set(first["data"]) == {
        "decision_no",
        "id_number",
        "name",
        "category",
        "decided_on",
        "town_code",
    }
    assert (first["partition"], first["offset"], first["operation"]) == (0, 0, "put")
    # Later records come to who goes on from the cursor, also to one who starts in the middle.
    await bus.place(SHUIZHAI)
    answer = (await bus.get(MEIZHOU_GRANT, cursor=cursor, wait_ms=5000)).json()
    assert [each["data"]["decision_no"] for each in answer["records"]] == ["MZ-00010"]
    middle = encode_cursor({0: records[6]["offset"]})
    again = (await bus.get(MEIZHOU_GRANT, cursor=middle)).json()["records"]
    assert [each["data"]["decision_no"] for each in again][:2] == ["MZ-00007", "MZ-00008"]
    fetched = f'shutong_fetched_total{{grant="{MEIZHOU_GRANT}",mode="pull"}}'
    assert bus.metric(fetched) == 9 + 1 + len(again)


async def test_ndjson_gives_a_line_for_each_record_and_one_with_the_cursor(bus: Inbox) -> None:
    await bus.place(SHUIZHAI, SHUIZHAI)
    answer = await bus.get(MEIZHOU_GRANT, headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [line["data"]["decision_no"] for line in lines[:2]] == ["MZ-00001", "MZ-00002"]
    assert set(lines[2]) == {"next_cursor", "at_end"}


async def test_a_long_poll_hears_of_a_record_at_once_and_else_ends_in_time(bus: Inbox) -> None:
    _, cursor = await bus.read_all(MEIZHOU_GRANT, "key-city")
    begun = time.monotonic()
    empty = await bus.get(MEIZHOU_GRANT, cursor=cursor, wait_ms=300)
    assert empty.json()["records"] == []
    assert 0.25 < time.monotonic() - begun < 3
    waiting = asyncio.create_task(bus.get(MEIZHOU_GRANT, cursor=cursor, wait_ms=20_000))
    await asyncio.sleep(0.5)
    begun = time.monotonic()
    await bus.place(SHUIZHAI)
    answer = await asyncio.wait_for(waiting, 5)
    assert len(answer.json()["records"]) == 1
    assert time.monotonic() - begun < 2


async def test_uncommitted_records_are_not_seen(bus: Inbox) -> None:
    from aiokafka import AIOKafkaProducer

    await bus.place(SHUIZHAI)
    producer = AIOKafkaProducer(**bus.node.client, transactional_id=f"{bus.node.topics.prefix}.x")
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(bus.node.topics.delivery(MEIZHOU_GRANT), b"half", partition=0)
    records, _ = await bus.read_all(MEIZHOU_GRANT, "key-city")
    assert len(records) == 1
    await producer.abort_transaction()
    await producer.stop()
    await bus.place(SHUIZHAI)
    # Kafka answers an abort before its marker stands; until then nothing behind it is stable.
    async with asyncio.timeout(10):
        while len((await bus.read_all(MEIZHOU_GRANT, "key-city"))[0]) < 2:
            await asyncio.sleep(0.05)
    records, _ = await bus.read_all(MEIZHOU_GRANT, "key-city")
    assert len(records) == 2


async def test_a_class_grant_is_split_among_towns_and_no_one_sees_another(bus: Inbox) -> None:
    await bus.place(SHUIZHAI, ZHUANSHUI, ZHUANSHUI, SHUIZHAI, ZHUANSHUI)
    await bus.place(*[ZHUANSHUI] * 4)
    one, end_one = await bus.read_all(TOWNS_GRANT, "key-shuizhai", limit=1)
    two, end_two = await bus.read_all(TOWNS_GRANT, "key-zhuanshui", limit=2)
    assert {each["data"]["town_code"] for each in one} == {SHUIZHAI}
    assert {each["data"]["town_code"] for each in two} == {ZHUANSHUI}
    assert (len(one), len(two)) == (2, 7)
    # Both cursors went on over the other's records.
    assert end_one == end_two
    for key in ("key-city", "key-other"):
        assert reason(await bus.get(TOWNS_GRANT, key)) == (403, "NOT_YOUR_GRANT")


async def test_a_host_reads_for_the_town_it_hosts_and_that_is_noted(bus: Inbox) -> None:
    await bus.place(SHUIZHAI, ZHUANSHUI)
    records, cursor = await bus.read_all(TOWNS_GRANT, "key-host")
    assert {each["data"]["town_code"] for each in records} == {ZHUANSHUI}
    asked = await bus.get(TOWNS_GRANT, "key-host", territory=SHUIZHAI)
    assert reason(asked) == (403, "NOT_YOUR_GRANT")
    signed = await bus.countersign(TOWNS_GRANT, cursor, "key-host")
    assert signed.json()["receipts"][0]["body"]["agency"] == f"{ZHUANSHUI_ORG}/wuhua-data"
    noted = [each for each in await bus.access() if each.reason == 0]
    assert [(each.actor, each.target) for each in noted] == [
        (f"{HOST_ORG}/wuhua-data", f"grant/{TOWNS_GRANT}")
    ]


async def test_without_a_right_nothing_is_let_out_and_it_leaves_a_trace(bus: Inbox) -> None:
    await bus.place(SHUIZHAI)
    assert reason(await bus.get(MEIZHOU_GRANT, "wrong")) == (401, "UNAUTHENTICATED")
    assert reason(await bus.get(MEIZHOU_GRANT, "key-gone")) == (401, "UNAUTHENTICATED")
    assert reason(await bus.get(MEIZHOU_GRANT, "key-other")) == (403, "NOT_YOUR_GRANT")
    assert reason(await bus.get("no-such-grant", "key-city")) == (403, "NOT_YOUR_GRANT")
    row = f"grant/{MEIZHOU_GRANT}"
    bus.lists.change(row, valid_until="2026-02-01T00:00:00+08:00")
    assert reason(await bus.get(MEIZHOU_GRANT)) == (403, "EXPIRED")
    bus.lists.change(row, valid_until="2099-02-01T00:00:00+08:00")
    bus.lists.change(row, suspended={"since": "2026-02-01T00:00:00+08:00", "reason": "核查"})
    assert reason(await bus.get(MEIZHOU_GRANT)) == (403, "SUSPENDED")
    bus.lists.revoke(row)
    assert reason(await bus.get(MEIZHOU_GRANT)) == (403, "NOT_YOUR_GRANT")
    refused = [Reason.of(each.reason).name for each in await bus.access()]
    assert sorted(refused) == sorted(
        ["UNAUTHENTICATED"] * 2 + ["NOT_YOUR_GRANT"] * 3 + ["EXPIRED", "SUSPENDED"]
    )
    actors = {each.actor for each in await bus.access()}
    assert f"{listing.REQUESTER}/meizhou-civil" in actors


async def test_the_trace_of_a_refusal_holds_no_text_of_the_client(bus: Inbox) -> None:
    for asked in ("110105194912310021", "a%0Ab", "%1B%5B2J" + "x" * 600, "no-such-grant"):
        assert reason(await bus.get(asked)) == (403, "NOT_YOUR_GRANT")
    targets = [each.target for each in await bus.access()]
    assert targets == ["grant/(no id)"] * 3 + ["grant/no-such-grant"]


async def test_a_replay_from_an_old_offset_is_refused_after_the_revocation(bus: Inbox) -> None:
    await bus.place(SHUIZHAI)
    assert (await bus.get(MEIZHOU_GRANT)).status_code == 200
    bus.lists.revoke(f"grant/{MEIZHOU_GRANT}")
    old = await bus.get(MEIZHOU_GRANT, cursor=encode_cursor({0: 0}))
    assert reason(old) == (403, "NOT_YOUR_GRANT")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("lease", (503, "LIST_LEASE_LOST")),
        ("revoked", (403, "NOT_YOUR_GRANT")),
        ("suspended", (403, "SUSPENDED")),
    ],
)
async def test_what_happens_while_a_request_waits_closes_its_answer(
    bus: Inbox, event: str, expected: tuple[int, str]
) -> None:
    _, cursor = await bus.read_all(MEIZHOU_GRANT, "key-city")
    waiting = asyncio.create_task(bus.get(MEIZHOU_GRANT, cursor=cursor, wait_ms=20_000))
    await asyncio.sleep(0.2)
    if event == "lease":
        bus.lists.lease = False
    elif event == "revoked":
        bus.lists.revoke(f"grant/{MEIZHOU_GRANT}")
    else:
        stopped = {"since": "2026-02-01T00:00:00+08:00", "reason": "核查"}
        bus.lists.change(f"grant/{MEIZHOU_GRANT}", suspended=stopped)
    await bus.place(SHUIZHAI)
    assert reason(await asyncio.wait_for(waiting, 5)) == expected
    assert bus.metric(f'shutong_fetched_total{{grant="{MEIZHOU_GRANT}",mode="pull"}}') == 0


async def test_receipts_cover_each_segment_once_and_verify(bus: Inbox) -> None:
    await bus.place(SHUIZHAI, SHUIZHAI, SHUIZHAI)
    await bus.place(SHUIZHAI, SHUIZHAI, lane=1)
    await bus.place(SHUIZHAI, SHUIZHAI)
    records, end = await bus.read_all(MEIZHOU_GRANT, "key-city")
    # In the middle of lane 0's second segment: only the first segments are whole.
    middle = encode_cursor({0: records[-1]["offset"]})
    first = (await bus.countersign(MEIZHOU_GRANT, middle)).json()
    assert [(r["body"]["lane"], r["body"]["from"], r["body"]["to"]) for r in first["receipts"]] == [
        (0, 1, 3),
        (1, 1, 2),
    ]
    second = (await bus.countersign(MEIZHOU_GRANT, end)).json()
    assert [
        (r["body"]["lane"], r["body"]["from"], r["body"]["to"]) for r in second["receipts"]
    ] == [(0, 4, 5)]
    assert (await bus.countersign(MEIZHOU_GRANT, end)).json()["receipts"] == []
    kept = await bus.receipts(listing.REQUESTER)
    assert [(each.lane, each.first, each.last) for each in kept] == [
        (0, 1, 3),
        (1, 1, 2),
        (0, 4, 5),
    ]
    assert kept[-1].chain == bus.chains[(MEIZHOU_GRANT, 0)][1].hex()
    assert kept[1].chain == bus.chains[(MEIZHOU_GRANT, 1)][1].hex()
    assert {each.agency for each in kept} == {f"{listing.REQUESTER}/meizhou-civil"}
    assert bus.metric(f'shutong_acknowledged_total{{grant="{MEIZHOU_GRANT}"}}') == 7


async def test_each_town_countersigns_its_own_chain(bus: Inbox) -> None:
    await bus.place(SHUIZHAI, ZHUANSHUI, SHUIZHAI)
    await bus.place(ZHUANSHUI)
    raw = await bus.topic(bus.node.topics.delivery(TOWNS_GRANT))
    _, cursor = await bus.read_all(TOWNS_GRANT, "key-shuizhai")
    await bus.countersign(TOWNS_GRANT, cursor, "key-shuizhai")
    await bus.countersign(TOWNS_GRANT, cursor, "key-zhuanshui")
    (one,) = await bus.receipts(SHUIZHAI_ORG)
    (two,) = await bus.receipts(ZHUANSHUI_ORG)
    assert (one.territory, one.first, one.last) == (SHUIZHAI, 1, 2)
    c0 = territory_genesis(bus.cluster, TOWNS_GRANT, SHUIZHAI, 0)
    assert one.chain == extend(c0, [(raw[0].key, raw[0].value), (raw[2].key, raw[2].value)]).hex()
    assert (two.territory, two.first, two.last) == (ZHUANSHUI, 1, 2)


async def test_a_town_behind_many_records_of_others_comes_to_its_own_in_bounded_requests(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(countersign, "RECORDS_MAX", 4)
    async with inbox(kafka.bootstrap_servers, prefix, tmp_path) as bus:
        for _ in range(5):
            await bus.place(ZHUANSHUI, ZHUANSHUI, ZHUANSHUI)
        await bus.place(SHUIZHAI)
        _, cursor = await bus.read_all(TOWNS_GRANT, "key-shuizhai")
        first = await bus.countersign(TOWNS_GRANT, cursor, "key-shuizhai")
        assert first.json() == {"receipts": [], "complete": False}
    async with inbox(
        kafka.bootstrap_servers, prefix, tmp_path
    ) as bus:  # the place outlives the process
        found, complete = [], False
        for _ in range(6):
            if not complete:
                answer = (await bus.countersign(TOWNS_GRANT, cursor, "key-shuizhai")).json()
                found += answer["receipts"]
                complete = answer["complete"]
        assert complete
        assert [(each["body"]["from"], each["body"]["to"]) for each in found] == [(1, 1)]
        assert len(await bus.receipts(SHUIZHAI_ORG)) == 1
        again = await bus.countersign(TOWNS_GRANT, cursor, "key-shuizhai")
        assert again.json() == {"receipts": [], "complete": True}


async def test_after_a_restart_countersigning_goes_on_where_it_was(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path
) -> None:
    async with inbox(kafka.bootstrap_servers, prefix, tmp_path) as bus:
        await bus.place(SHUIZHAI, ZHUANSHUI)
        for grant, key in ((MEIZHOU_GRANT, "key-city"), (TOWNS_GRANT, "key-shuizhai")):
            _, cursor = await bus.read_all(grant, key)
            assert len((await bus.countersign(grant, cursor, key)).json()["receipts"]) == 1
        chains, written = bus.chains, bus.written
    async with inbox(kafka.bootstrap_servers, prefix, tmp_path) as bus:
        bus.chains, bus.written = chains, written
        await bus.place(SHUIZHAI)
        for grant, key, expected in (
            (MEIZHOU_GRANT, "key-city", (3, 3)),
            (TOWNS_GRANT, "key-shuizhai", (2, 2)),
        ):
            _, cursor = await bus.read_all(grant, key)
            (receipt,) = (await bus.countersign(grant, cursor, key)).json()["receipts"]
            assert (receipt["body"]["from"], receipt["body"]["to"]) == expected


async def test_a_chain_that_does_not_match_is_told_and_nothing_is_signed(bus: Inbox) -> None:
    await bus.place(SHUIZHAI, SHUIZHAI, spoil=MEIZHOU_GRANT)
    await bus.place(SHUIZHAI)
    _, cursor = await bus.read_all(MEIZHOU_GRANT, "key-city")
    answer = await bus.countersign(MEIZHOU_GRANT, cursor)
    assert reason(answer) == (409, "CHAIN_MISMATCH")
    body = answer.json()
    c0 = genesis(bus.cluster, MEIZHOU_GRANT, 0)
    assert (body["lane"], body["k"], body["wrong"]) == (0, 1, "chain")
    raw = await bus.topic(bus.node.topics.delivery(MEIZHOU_GRANT))
    assert body["expected"] == extend(c0, [(r.key, r.value) for r in raw[:2]]).hex()
    assert body["found"] != body["expected"]
    assert await bus.topic(bus.node.topics.receipts) == []
    assert bus.metric(f'shutong_chain_mismatches_total{{grant="{MEIZHOU_GRANT}"}}') == 1


async def test_a_cursor_past_its_retention_is_gone_with_the_oldest_one(bus: Inbox) -> None:
    await bus.place(SHUIZHAI, SHUIZHAI)
    await bus.place(SHUIZHAI, ZHUANSHUI)
    admin = AIOKafkaAdminClient(**bus.node.client)
    await admin.start()
    # The first batch and its marker.
    for grant in (MEIZHOU_GRANT, TOWNS_GRANT):
        place = TopicPartition(bus.node.topics.delivery(grant), 0)
        await admin.delete_records({place: RecordsToDelete(before_offset=3)})
    await admin.close()
    answer = await bus.get(MEIZHOU_GRANT, cursor=encode_cursor({0: 1}))
    assert reason(answer) == (410, "CURSOR_GONE")
    oldest = answer.json()["oldest_cursor"]
    records = (await bus.get(MEIZHOU_GRANT, cursor=oldest)).json()["records"]
    assert [each["data"]["decision_no"] for each in records] == ["MZ-00003", "MZ-00004"]
    # The chain is taken up at what the first segment claims, and `from` says so.
    _, cursor = await bus.read_all(MEIZHOU_GRANT, "key-city")
    (receipt,) = (await bus.countersign(MEIZHOU_GRANT, cursor)).json()["receipts"]
    assert (receipt["body"]["from"], receipt["body"]["to"]) == (3, 4)
    assert receipt["body"]["chain"] == bus.chains[(MEIZHOU_GRANT, 0)][1].hex()
    _, cursor = await bus.read_all(TOWNS_GRANT, "key-zhuanshui")
    assert reason(await bus.countersign(TOWNS_GRANT, cursor, "key-zhuanshui")) == (
        410,
        "CURSOR_GONE",
    )


async def test_a_cursor_that_nobody_was_given_is_refused(bus: Inbox) -> None:
    for cursor in (
        "",
        "x",
        "%00",
        "A" * 5000,
        base64.urlsafe_b64encode(b"v2;p0:1").decode(),
        base64.urlsafe_b64encode(b"v1;p0:01").decode(),
        encode_cursor({0: 2**62}),
        encode_cursor({1: 0}),
        encode_cursor({0: 0, 1: 0}),
    ):
        assert reason(await bus.get(MEIZHOU_GRANT, cursor=cursor)) == (400, "BAD_CURSOR")
        assert reason(await bus.countersign(MEIZHOU_GRANT, cursor)) == (400, "BAD_CURSOR")


async def test_garbage_is_answered_with_a_reason_and_nothing_breaks(bus: Inbox) -> None:
    for params in (
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "١"},
        {"limit": "1e3"},
        {"wait_ms": "-1"},
        {"wait_ms": "30001"},
        {"territory": SHUIZHAI},
    ):
        assert reason(await bus.get(MEIZHOU_GRANT, **params)) == (400, "BAD_REQUEST")
    for grant in ("..%2f..", "Ω", "a" * 500):
        assert (await bus.get(grant)).status_code in (403, 404)
    headers = {"Authorization": "Bearer key-city"}
    path = f"/v1/grants/{MEIZHOU_GRANT}/receipts"
    for body in (b"", b"{", b"[]", b"{}", b'{"cursor":1}', b'{"cursor":"x","more":"y"}', b"\xff"):
        answer = await bus.http.post(path, content=body, headers=headers)
        assert reason(answer) == (400, "BAD_REQUEST")
    deep = b"[" * 10_000
    assert reason(await bus.http.post(path, content=deep, headers=headers))[0] == 400
    large = await bus.http.post(path, content=b"x" * 100_000, headers=headers)
    assert reason(large) == (413, "TOO_LARGE")
    assert reason(await bus.http.get("/nothing")) == (404, "NOT_FOUND")
    assert (await bus.get(MEIZHOU_GRANT)).status_code == 200


async def test_many_waiting_requests_of_one_system_are_turned_away(bus: Inbox) -> None:
    _, cursor = await bus.read_all(MEIZHOU_GRANT, "key-city")
    waiting = [
        asyncio.create_task(bus.get(MEIZHOU_GRANT, cursor=cursor, wait_ms=3000)) for _ in range(20)
    ]
    answers = [answer.status_code for answer in await asyncio.gather(*waiting)]
    assert sorted(set(answers)) == [200, 429]
    assert answers.count(200) == 16


async def test_a_long_backlog_over_several_partitions_comes_once_while_others_read_elsewhere(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path
) -> None:
    given = world(partitions="lanes")
    async with inbox(kafka.bootstrap_servers, prefix, tmp_path, given) as bus:
        # More than a window holds, so that readers really stand at different places.
        for n in range(6):
            await bus.place(*([SHUIZHAI] * 300 + [ZHUANSHUI] * 100), lane=n % 3)
        readers = (
            (MEIZHOU_GRANT, "key-city", 1000, 2400),
            (MEIZHOU_GRANT, "key-city", 313, 2400),
            (MEIZHOU_GRANT, "key-city", 171, 2400),
            (TOWNS_GRANT, "key-shuizhai", 500, 1800),
            (TOWNS_GRANT, "key-zhuanshui", 7, 600),
        )
        found = await asyncio.gather(
            *(bus.read_all(grant, key, limit) for grant, key, limit, _ in readers)
        )
        for (records, _), (_, _, _, expected) in zip(found, readers, strict=True):
            numbers = [each["data"]["decision_no"] for each in records]
            assert len(numbers) == len(set(numbers)) == expected
            for partition in range(3):
                offsets = [r["offset"] for r in records if r["partition"] == partition]
                assert offsets == sorted(offsets)
        for (grant, key, _, expected), (_, cursor) in list(zip(readers, found, strict=True))[2:]:
            receipts = (await bus.countersign(grant, cursor, key)).json()["receipts"]
            covered = [each["body"]["to"] - each["body"]["from"] + 1 for each in receipts]
            assert (len(covered), sum(covered)) == (3, expected)


async def test_without_kafka_there_is_a_passing_fault_in_bounded_time_then_all_is_well(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path
) -> None:
    async with KafkaProxy(kafka.ports.advertised, kafka.ports.proxied) as proxy:
        maker = node_at(kafka.bootstrap_servers, prefix, tmp_path)
        address = kafka.proxied_bootstrap_servers
        async with inbox(address, prefix, tmp_path, direct=maker.client) as bus:
            await bus.place(SHUIZHAI)
            _, cursor = await bus.read_all(MEIZHOU_GRANT, "key-city")
            await proxy.refuse()
            begun = time.monotonic()
            fresh = await bus.get(MEIZHOU_GRANT)
            assert reason(fresh) == (503, "KAFKA_UNAVAILABLE")
            assert reason(await bus.countersign(MEIZHOU_GRANT, cursor))[0] == 503
            assert time.monotonic() - begun < 25
            await proxy.accept_again()
            await bus.place(SHUIZHAI)
            async with asyncio.timeout(20):
                while (await bus.get(MEIZHOU_GRANT)).status_code != 200:
                    await asyncio.sleep(0.2)
            answer = await bus.get(MEIZHOU_GRANT, cursor=cursor, wait_ms=10_000)
            assert len(answer.json()["records"]) == 1
