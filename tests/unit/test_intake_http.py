"""The HTTP interface without Kafka: whatever comes in, the answer is a result or a problem."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import httpx2
from hypothesis import given, settings
from hypothesis import strategies as st

from shutong_core.domain.reasons import Reason
from shutong_core.wire.quarantine import QuarantineHeaders, Source
from unit.intake_http import AVRO, JSON, NDJSON, PATH, FrontDoor
from unit.intake_world import DATASET, avro, data

KINDS = [JSON, NDJSON, AVRO]


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=400)
    | st.builds(lambda n, x: avro()[:n] + x, st.integers(0, 200), st.binary(max_size=20))
    | st.builds(lambda v: json.dumps(v).encode(), st.dictionaries(st.text(), st.text())),
    st.sampled_from(KINDS),
    st.sampled_from(["all-or-nothing", "per-record", "x"]),
)
def test_any_bytes_get_a_result_or_a_problem(body: bytes, kind: str, mode: str) -> None:
    door = FrontDoor()
    answer = asyncio.run(door.post(body, kind, params={"mode": mode}))
    assert answer.status_code in {200, 400, 413, 422}
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["reason"] in Reason.__members__
        assert door.writer.batches == []
    assert answer.headers["cache-control"] == "no-store"
    assert door.desk.gate.requests == door.desk.gate.held_bytes == 0


async def test_no_success_without_an_acknowledgement() -> None:
    door = FrontDoor()
    door.writer.away = True
    lines = b"".join(
        json.dumps({"id": f"e-{n}", "data": data() if n else {}}).encode() + b"\n" for n in range(5)
    )
    answer = await door.post(lines, NDJSON, params={"mode": "per-record"})
    assert (answer.status_code, answer.json()["reason"]) == (503, "KAFKA_UNAVAILABLE")
    assert answer.json()["unknown"] == [1, 2, 3, 4]
    # What is certain is told all the same: the refused record, with a receipt.
    assert [each["index"] for each in answer.json()["results"]] == [0]
    assert "retry with the same ids" in answer.json()["en"]


async def test_a_parsed_document_counts_many_times_its_length() -> None:
    door = FrontDoor(held_bytes_max=10_000)
    body = json.dumps({"id": "e", "data": data(remarks="x" * 2000)}).encode()
    assert (await door.post(body)).status_code == 429
    assert (await door.post(body, NDJSON)).status_code == 200
    assert door.desk.gate.held_bytes == 0


async def test_a_slow_sender_is_cut_off() -> None:
    door = FrontDoor(body_s=0.05)

    async def slowly() -> Any:
        yield b'{"data"'
        await asyncio.sleep(1)
        yield b":1}"

    answer = await door.post(slowly())
    assert answer.status_code == 408
    assert door.desk.gate.requests == 0


async def test_too_many_wrong_keys_are_slowed_down() -> None:
    door = FrontDoor()
    codes = [(await door.post(b"{}", key="wrong")).status_code for _ in range(15)]
    assert codes[:10] == [401] * 10
    assert 429 in codes[10:]
    assert (await door.post(json.dumps({"data": data()}).encode())).status_code == 200


async def test_one_system_sending_too_much_does_not_stop_another() -> None:
    door = FrontDoor(rate_per_s=1)
    body = json.dumps({"data": data()}).encode()
    assert (await door.post(body)).status_code == 200
    second = await door.post(body)
    assert (second.status_code, second.headers["retry-after"]) == (429, "1")
    assert (await door.post(body, key="key-2")).status_code == 200


async def test_an_access_event_never_holds_a_value_of_the_record() -> None:
    door = FrontDoor()
    await door.post(json.dumps({"data": data(name=7, amount="canary")}).encode())
    (act,) = door.access.acts
    assert act.refused is Reason.BAD_VALUE
    assert "canary" not in repr(act)


async def test_an_access_event_names_no_dataset_that_cannot_be_one() -> None:
    door = FrontDoor()
    for asked in (
        "11010519491231002X",
        "110105194912310021",
        "a%0Ab",
        "%1B%5B2J",
        "no-such-dataset",
    ):
        await door.post(b"{}", path=f"/v1/datasets/{asked}/records")
    assert [act.target for act in door.access.acts] == ["(no id)"] * 4 + ["no-such-dataset"]


async def test_a_defect_is_an_unknown_outcome_and_shows_nothing_of_itself() -> None:
    door = FrontDoor()
    door.lists.schemas = cast(Any, None)
    transport = httpx2.ASGITransport(app=door.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bus") as http:
        answer = await http.post(
            PATH,
            content=json.dumps({"data": data()}),
            headers={"Authorization": "Bearer key-1", "Content-Type": "application/json"},
        )
    assert answer.status_code == 500
    assert "NoneType" not in answer.text
    assert "same ids" in answer.json()["en"]


async def test_an_event_id_in_a_header_may_be_chinese_and_stands_there_once() -> None:
    door = FrontDoor()
    headers: Any = {"X-Event-Id": "事件-1".encode()}
    answer = await door.post(avro(), AVRO, headers=headers)
    assert answer.json()["results"][0]["id"] == "事件-1"
    async with door.client() as http:
        twice = [("Authorization", "Bearer key-1"), ("Content-Type", AVRO)]
        twice += [("X-Event-Id", "a"), ("X-Event-Id", "b")]
        answer = await http.post(PATH, content=avro(), headers=twice)
    assert answer.status_code == 400


async def test_refusals_are_filtered_by_reason_and_an_unknown_reason_is_refused() -> None:
    door = FrontDoor()
    door.tail.problem = None
    door.tail.index.begin({0: 0})
    for offset, reason in enumerate((Reason.DUPLICATE, Reason.BAD_USCC, Reason.RULE_ERROR)):
        source = Source(DATASET, 0, offset)
        told = QuarantineHeaders(door.publisher, "e", reason, "", source)
        door.tail.index.add(0, offset, 0, told)

    async def reasons(**params: Any) -> list[str]:
        async with door.client() as http:
            headers = {"Authorization": "Bearer key-1"}
            answer = await http.get("/v1/refusals", params=params, headers=headers)
        return [each["reason"] for each in answer.json().get("refusals", [answer.json()])]

    assert await reasons() == ["DUPLICATE", "BAD_USCC", "RULE_ERROR"]
    assert await reasons(exclude="DUPLICATE") == ["BAD_USCC", "RULE_ERROR"]
    assert await reasons(reason=["BAD_USCC", "DUPLICATE"]) == ["DUPLICATE", "BAD_USCC"]
    assert await reasons(reason="BAD_USCC,DUPLICATE", exclude="DUPLICATE") == ["BAD_USCC"]
    assert await reasons(reason="nonsense") == ["BAD_REQUEST"]


async def test_the_wrong_method_names_the_right_one() -> None:
    async with FrontDoor().client() as http:
        answer = await http.get(PATH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (answer.json()["zh"], answer.json()["en"]) == ("此地址请用 POST", "use POST here")
