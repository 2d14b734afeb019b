"""The HTTP interface without Kafka: whatever comes in, the answer is a result or a problem."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import httpx2
from hypothesis import given, settings
from hypothesis import strategies as st

from shutong_core.audit.access import Act
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.accesslog import AccessLog
from shutong_core.runtime.ackedwriter import AckedWriter, Unacknowledged
from shutong_core.wire.batches import RecordBatch
from shutong_core.wire.topics import Topics
from shutong_producer.app import make_app
from shutong_producer.desk import Desk
from shutong_producer.gate import Bounds
from shutong_producer.intake import Intake
from shutong_producer.outcome import Seal
from shutong_producer.quarantine import QuarantineTail
from unit.intake_world import DATASET, Keys, Lists, avro, data, world
from unit.test_intake_outcome import KEY

WORLD = world()
PATH = f"/v1/datasets/{DATASET}/records"
KINDS = ["application/json", "application/x-ndjson", "application/avro"]


class Writer:
    """Takes everything, or nothing."""

    def __init__(self) -> None:
        self.batches: list[RecordBatch] = []
        self.away = False

    async def write(self, batches: Sequence[RecordBatch], on_sent: Callable[[], None]) -> list[int]:
        if self.away:
            raise Unacknowledged("away")
        on_sent()
        self.batches += batches
        return [0 for _ in batches]

    @property
    def records(self) -> int:
        return sum(len(each.records) for each in self.batches)


class Access:
    """Remembers the acts."""

    def __init__(self) -> None:
        self.acts: list[Act] = []

    async def record(self, act: Act) -> bool:
        self.acts.append(act)
        return True


class Door:
    """The interface in memory."""

    def __init__(self, **bounds: Any) -> None:
        self.writer, self.access = Writer(), Access()
        self.lists = Lists(WORLD.version, WORLD.schemas)
        bounds.setdefault("rate_per_s", 1e6)
        self.desk = Desk(self.lists, Keys(), cast(AccessLog, self.access), Bounds(**bounds))
        seal = Seal("cluster-1", "intake/1", KEY.sign)
        intake = Intake(self.desk, cast(AckedWriter, self.writer), Topics("t"), seal)
        self.app = make_app(self.desk, intake, QuarantineTail({}, "t.quarantine"))

    def client(self) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://bus")

    async def post(self, body: Any, kind: str = KINDS[0], key: str = "key-1", **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
        headers |= more.pop("headers", {})
        async with self.client() as http:
            return await http.post(PATH, content=body, headers=headers, **more)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=400)
    | st.builds(lambda n, x: avro()[:n] + x, st.integers(0, 200), st.binary(max_size=20))
    | st.builds(lambda v: json.dumps(v).encode(), st.dictionaries(st.text(), st.text())),
    st.sampled_from(KINDS),
    st.sampled_from(["all-or-nothing", "per-record", "x"]),
)
def test_any_bytes_get_a_result_or_a_problem(body: bytes, kind: str, mode: str) -> None:
    door = Door()
    answer = asyncio.run(door.post(body, kind, params={"mode": mode}))
    assert answer.status_code in {200, 400, 413, 422}
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["reason"] in Reason.__members__
        assert door.writer.batches == []
    assert answer.headers["cache-control"] == "no-store"
    assert door.desk.gate.requests == door.desk.gate.held_bytes == 0


async def test_no_success_without_an_acknowledgement() -> None:
    door = Door()
    door.writer.away = True
    lines = b"".join(
        json.dumps({"id": f"e-{n}", "data": data() if n else {}}).encode() + b"\n" for n in range(5)
    )
    answer = await door.post(lines, KINDS[1], params={"mode": "per-record"})
    assert (answer.status_code, answer.json()["reason"]) == (503, "KAFKA_UNAVAILABLE")
    assert answer.json()["unknown"] == [1, 2, 3, 4]
    # What is certain is told all the same: the refused record, with a receipt.
    assert [each["index"] for each in answer.json()["results"]] == [0]
    assert "retry with the same ids" in answer.json()["en"]


async def test_a_parsed_document_counts_many_times_its_length() -> None:
    door = Door(held_bytes_max=10_000)
    body = json.dumps({"id": "e", "data": data(remarks="x" * 2000)}).encode()
    assert (await door.post(body)).status_code == 429
    assert (await door.post(body, KINDS[1])).status_code == 200
    assert door.desk.gate.held_bytes == 0


async def test_a_slow_sender_is_cut_off() -> None:
    door = Door(body_s=0.05)

    async def slowly() -> Any:
        yield b'{"data"'
        await asyncio.sleep(1)
        yield b":1}"

    answer = await door.post(slowly())
    assert answer.status_code == 408
    assert door.desk.gate.requests == 0


async def test_too_many_wrong_keys_are_slowed_down() -> None:
    door = Door()
    codes = [(await door.post(b"{}", key="wrong")).status_code for _ in range(15)]
    assert codes[:10] == [401] * 10
    assert 429 in codes[10:]
    assert (await door.post(json.dumps({"data": data()}).encode())).status_code == 200


async def test_one_system_sending_too_much_does_not_stop_another() -> None:
    door = Door(rate_per_s=1)
    body = json.dumps({"data": data()}).encode()
    assert (await door.post(body)).status_code == 200
    second = await door.post(body)
    assert (second.status_code, second.headers["retry-after"]) == (429, "1")
    assert (await door.post(body, key="key-2")).status_code == 200


async def test_an_access_event_never_holds_a_value_of_the_record() -> None:
    door = Door()
    await door.post(json.dumps({"data": data(name=7, amount="canary")}).encode())
    (act,) = door.access.acts
    assert act.refused is Reason.BAD_VALUE
    assert "canary" not in repr(act)


async def test_a_defect_is_an_unknown_outcome_and_shows_nothing_of_itself() -> None:
    door = Door()
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
    door = Door()
    headers: Any = {"X-Event-Id": "事件-1".encode()}
    answer = await door.post(avro(), KINDS[2], headers=headers)
    assert answer.json()["results"][0]["id"] == "事件-1"
    async with door.client() as http:
        twice = [("Authorization", "Bearer key-1"), ("Content-Type", KINDS[2])]
        twice += [("X-Event-Id", "a"), ("X-Event-Id", "b")]
        answer = await http.post(PATH, content=avro(), headers=twice)
    assert answer.status_code == 400
