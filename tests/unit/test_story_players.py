"""The players: what they send and pull over HTTP, once each, also across interruptions."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shutong_core.domain.errors import Rejected
from shutong_story.calls import Endpoints, reason_in
from shutong_story.ledger import Ledger, open_ledger
from shutong_story.narrate import Narrator
from shutong_story.plan import BadFile, InputFile, Plan, Reader
from shutong_story.progress import BadSent, Progress, ReaderRefused, ResidentArrived
from shutong_story.publish import FULL_SPEED, Pace, publish_all
from shutong_story.pull import pull_all

ENDPOINTS = Endpoints("http://producer", "http://consumer")
KEYS = {"gz-health": "key-1", "wuhua-police": "key-2", "shuizhai-town": "key-3"}
QUICK = Pace(records_per_s=None, batch_records=7, step_delay_s=0.0)
RESIDENT = "791424195603126859"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    lines = [
        json.dumps({"id": f"e{n}", "data": {"id_number": RESIDENT if n == 0 else str(n)}}) + "\n"
        for n in range(50)
    ]
    (tmp_path / "in.ndjson").write_text("".join(lines))
    (tmp_path / "dup.ndjson").write_text(lines[1])
    (tmp_path / "raw.bin").write_bytes(b"\xff\x00garbage\n\n")
    bad = {"dataset": "death-certificate", "system": "gz-health", "records": 1, "number": 1}
    return Plan(
        directory=tmp_path,
        seed=1,
        resident={"id_number": RESIDENT, "name": "测试甲0001"},
        inputs=(InputFile(4, "death-certificate", "gz-health", "in.ndjson", 50),),
        bad=(
            BadFile("dup", path="dup.ndjson", content_type="application/x-ndjson", door="lane",
                    reason="DUPLICATE", zh="重复", en="repeated", **bad),
            BadFile("raw", path="raw.bin", content_type="application/avro", door="http",
                    reason="BAD_FRAMING", zh="格式", en="form", **bad),
        ),
        readers=(
            Reader(4, "death-wuhua-police", "death-certificate", "wuhua-police", "公安", None),
            Reader(5, "death-towns", "death-certificate", "shuizhai-town", "水寨镇",
                   "441424100000"),
        ),
    )  # fmt: skip


class StoppedError(Exception):
    """The process is stopped while a request is under way."""


class FakeBus:
    """Answers as the two services do; can fail the n-th publishing request on its way back."""

    def __init__(self, lose_answer_of: int = 0) -> None:
        self.taken: list[str] = []
        self.requests = 0
        self.receipts: Counter[str] = Counter()
        self.lose_answer_of = lose_answer_of
        self.closed: set[str] = set()

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer))

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.startswith("/v1/datasets/"):
            return self._publish(request)
        if request.method == "POST":
            self.receipts[request.url.path.split("/")[3]] += 1
            return httpx2.Response(202)
        return self._pull(request)

    def _publish(self, request: httpx2.Request) -> httpx2.Response:
        assert request.headers["authorization"] == "Bearer key-1"
        assert request.url.params["mode"] == "per-record"
        self.requests += 1
        if request.headers["content-type"] == "application/avro":
            return httpx2.Response(400, json={"reason": "BAD_FRAMING"})
        ids = [json.loads(line)["id"] for line in request.content.splitlines()]
        if self.requests == self.lose_answer_of:
            self.lose_answer_of = 0
            raise StoppedError
        self.taken += ids
        results = [{"id": each, "partition": 0, "offset": 1} for each in ids]
        return httpx2.Response(200, json={"results": results, "receipt": {}})

    def _pull(self, request: httpx2.Request) -> httpx2.Response:
        grant = request.url.path.split("/")[3]
        if grant in self.closed:
            return httpx2.Response(403, json={"reason": "SUSPENDED"})
        start = int(request.url.params.get("cursor", "0"))
        ids = self.taken[start : start + int(request.url.params["limit"])]
        data = [{"key": i, "operation": "put", "data": {"id_number": RESIDENT}} for i in ids]
        body: dict[str, Any] = {
            "records": data,
            "next_cursor": str(start + len(ids)),
            "at_end": not ids,
        }
        return httpx2.Response(200, json=body)


async def publish(plan: Plan, bus: FakeBus, ledger: Ledger, pace: Pace = QUICK) -> list[Progress]:
    told: list[Progress] = []
    async with bus.client() as client:
        await publish_all(plan, ENDPOINTS, KEYS, pace, told.append, ledger, client=client)
    return told


async def test_every_line_is_sent_once_in_order_and_bad_cases_after_their_originals(
    plan: Plan,
) -> None:
    bus = FakeBus()
    told = await publish(plan, bus, open_ledger(plan.directory / "ledger.json"))
    good = list(bus.taken)
    good.remove("e1")  # the first of two: the second is the bad case
    assert sorted(bus.taken) == sorted([f"e{n}" for n in range(50)] + ["e1"])
    assert [each for each in good if each != "e1"] == [f"e{n}" for n in range(50) if n != 1]
    assert {e.case.name: e.as_expected for e in told if isinstance(e, BadSent)} == {
        "dup": True,
        "raw": True,
    }


async def test_a_second_run_repeats_nothing(plan: Plan) -> None:
    bus = FakeBus()
    path = plan.directory / "ledger.json"
    await publish(plan, bus, open_ledger(path))
    before = list(bus.taken)
    await publish(plan, bus, open_ledger(path), FULL_SPEED)
    assert bus.taken == before


async def test_an_interrupted_run_goes_on_where_it_stopped(plan: Plan) -> None:
    bus = FakeBus(lose_answer_of=4)
    path = plan.directory / "ledger.json"
    with pytest.RaisesGroup(StoppedError, flatten_subgroups=True):
        await publish(plan, bus, open_ledger(path))
    await publish(plan, bus, open_ledger(path))
    assert Counter(bus.taken) == Counter([f"e{n}" for n in range(50)] + ["e1"])


async def test_an_answer_without_results_is_not_taken_for_success(plan: Plan) -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json={}))
    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.RaisesGroup(Rejected, flatten_subgroups=True, allow_unwrapped=True):
            await publish_all(
                Plan(plan.directory, 1, plan.resident, plan.inputs, (), ()),
                ENDPOINTS,
                KEYS,
                QUICK,
                lambda _: None,
                open_ledger(plan.directory / "ledger.json"),
                client=client,
            )


async def test_pulling_gets_every_record_once_and_countersigns_each_page(plan: Plan) -> None:
    bus = FakeBus()
    ledger = open_ledger(plan.directory / "ledger.json")
    await publish(plan, bus, ledger)
    told: list[Progress] = []
    stop = asyncio.Event()
    stop.set()
    for _ in range(2):
        async with bus.client() as client:
            counts = await pull_all(plan, ENDPOINTS, KEYS, told.append, ledger, stop, client=client)
        assert counts == {"death-wuhua-police": 51, "death-towns@441424100000": 51}
    assert bus.receipts == {"death-wuhua-police": 1, "death-towns": 1}
    assert sum(isinstance(each, ResidentArrived) for each in told) == 102


async def test_a_stopped_grant_is_told_once_and_does_not_hold_up_the_others(plan: Plan) -> None:
    bus = FakeBus()
    bus.taken, bus.closed = ["e0"], {"death-towns"}
    told: list[Progress] = []
    stop = asyncio.Event()
    stop.set()
    async with bus.client() as client:
        counts = await pull_all(
            plan,
            ENDPOINTS,
            KEYS,
            told.append,
            open_ledger(plan.directory / "l.json"),
            stop,
            client=client,
        )
    assert counts["death-wuhua-police"] == 1
    assert [e.reason for e in told if isinstance(e, ReaderRefused)] == ["SUSPENDED"]


async def test_effects_of_a_certificate_of_death_are_told_as_to_be_checked(plan: Plan) -> None:
    said: list[tuple[str, str]] = []
    narrator = Narrator(plan, lambda zh, en: said.append((zh, en)))
    narrator.tell(ResidentArrived(plan.readers[0], "put", ("name", "id_number"), 1.0))
    narrator.tell(ResidentArrived(plan.readers[1], "put", ("name", "id_number"), 1.0))
    lines = [zh for zh, _ in said if "收到" in zh and "项" in zh]
    assert len(lines) == 2
    assert all("待核" in line for line in lines)
    assert not any("注销成功" in zh or "cancelled" in en for zh, en in said)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"reason": "BAD_VALUE"}, "BAD_VALUE"),
        ({"problem": {"reason": "TOO_LARGE", "path": ""}}, "TOO_LARGE"),
        ({"errors": [{"reason": "UNKNOWN_ITEM", "path": "x"}]}, "UNKNOWN_ITEM"),
        ({"detail": "not a reason"}, ""),
        ({}, ""),
    ],
)
def test_a_reason_is_found_wherever_the_answer_puts_it(body: dict[str, Any], reason: str) -> None:
    assert reason_in(body) == reason
