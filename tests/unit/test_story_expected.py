"""The whole story against stand-ins of both services: exact counts pass, one off is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest

from shutong_story.calls import Endpoints
from shutong_story.cast import TOWNS
from shutong_story.expected import (
    due,
    published_differences,
    pulled_differences,
    sample_expectation,
)
from shutong_story.generate import generate, sample_list, sample_table
from shutong_story.ledger import Ledger, open_ledger
from shutong_story.plan import Plan
from shutong_story.publish import FULL_SPEED, publish_all
from shutong_story.pull import pull_all, reader_id

EXPECTED = sample_expectation()
ENDPOINTS = Endpoints("http://producer", "http://consumer")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return generate(tmp_path_factory.mktemp("story"), sample_table(), sample_list())


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "ledger.json")


def door(plan: Plan) -> httpx2.MockTransport:
    """A producer service that refuses what the plan says is refused at the door."""
    refusals: dict[bytes, str] = {}
    for case in plan.bad:
        if case.door == "http":
            raw = (plan.directory / case.path).read_bytes()
            bodies = raw.splitlines() if case.path.endswith(".ndjson") else [raw]
            refusals.update(dict.fromkeys(bodies, case.reason))

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.content in refusals:
            return httpx2.Response(400, json={"reason": refusals[request.content]})
        results = []
        for line in request.content.splitlines():
            reason = refusals.get(line)
            refused = {"problem": {"reason": reason}}
            results.append(refused if reason else {"partition": 0, "offset": 1})
        return httpx2.Response(200, json={"results": results})

    return httpx2.MockTransport(answer)


async def test_intake_is_exact_when_every_refusal_is_as_planned(plan: Plan, ledger: Ledger) -> None:
    keys = {entry.system: "key" for entry in (*plan.inputs, *plan.bad)}
    async with httpx2.AsyncClient(transport=door(plan), base_url="http://producer") as client:
        published = await publish_all(
            plan, ENDPOINTS, keys, FULL_SPEED, lambda _: None, ledger, client=client
        )
    assert published_differences(EXPECTED, published) == []
    published.accepted["death-certificate"] -= 1
    assert len(published_differences(EXPECTED, published)) == 1


async def test_readers_are_compared_with_what_is_due_to_each(plan: Plan, ledger: Ledger) -> None:
    waiting = due(EXPECTED, plan)
    by_key = {f"key/{r.system}": r.territory for r in plan.readers}

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            return httpx2.Response(202)
        grant = request.url.path.split("/")[3]
        territory = by_key[request.headers["authorization"].removeprefix("Bearer ")]
        name = grant if territory is None else f"{grant}@{territory}"
        start = int(request.url.params.get("cursor", "0"))
        end = min(start + int(request.url.params["limit"]), waiting[name])
        records = [{"key": "", "operation": "put", "data": {}}] * (end - start)
        return httpx2.Response(
            200, json={"records": records, "next_cursor": str(end), "at_end": not records}
        )

    stop = asyncio.Event()
    stop.set()
    transport = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(transport=transport) as client:
        keys = {r.system: f"key/{r.system}" for r in plan.readers}
        await pull_all(plan, ENDPOINTS, keys, lambda _: None, ledger, stop, client=client)
    assert pulled_differences(EXPECTED, plan, ledger) == []
    ledger.reader("divisions-everyone").records -= 1
    assert len(pulled_differences(EXPECTED, plan, ledger)) == 1


def test_a_town_is_due_its_own_records_only(plan: Plan) -> None:
    waiting = due(EXPECTED, plan)
    assert len(waiting) == len(plan.readers)
    for reader in plan.readers:
        if reader.territory is not None:
            assert reader.territory in TOWNS
            assert 0 < waiting[reader_id(reader)] < EXPECTED["grants"][reader.grant]["placed"]
