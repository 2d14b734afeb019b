"""The story's records at the producer service's door: the planned bad ones stop there, no other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from shutong_control.allot import allot
from shutong_core.domain.listfile import read_list_file
from shutong_core.domain.version import next_version
from shutong_core.wire.schemarecords import Registry
from shutong_core.wire.topics import Topics
from shutong_story.faults import NDJSON
from shutong_story.generate import generate, sample_list, sample_table
from shutong_story.plan import Plan
from unit.intake_http import FrontDoor
from unit.intake_world import Lists

STORY = Path(__file__).resolve().parents[2] / "deploy/samples/story"
LINES_PER_FILE = 400


class SystemIsKey:
    """Every system's key is its id."""

    def lookup(self, key: str) -> str | None:
        return key


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return generate(tmp_path_factory.mktemp("story"), sample_table(), sample_list())


@pytest.fixture(scope="module")
def lists() -> Lists:
    draft = read_list_file(sample_list(), "list.yaml")
    texts = {
        path: (STORY / path).read_bytes() for paths in draft.schema_files.values() for path in paths
    }
    allotted = allot(draft, texts, Registry(), Topics("story"))
    version = next_version(None, allotted.rows, (), 0)
    return Lists(version, {each.id: each.schema for each in allotted.registrations})


async def outcomes(lists: Lists, dataset: str, system: str, body: bytes, kind: str) -> Counter[str]:
    door = FrontDoor(lists, SystemIsKey())
    path = f"/v1/datasets/{dataset}/records"
    answer = await door.post(body, kind, system, path, params={"mode": "per-record"})
    if answer.status_code != 200:
        return Counter([answer.json()["reason"]])
    return Counter(
        each["problem"]["reason"] if each["outcome"] == "refused" else "accepted"
        for each in answer.json()["results"]
    )


async def test_every_good_record_passes(plan: Plan, lists: Lists) -> None:
    for entry in plan.inputs:
        with (plan.directory / entry.path).open("rb") as file:
            body = b"".join(line for line, _ in zip(file, range(LINES_PER_FILE), strict=False))
        found = await outcomes(lists, entry.dataset, entry.system, body, NDJSON)
        assert (entry.path, set(found)) == (entry.path, {"accepted"})


async def test_bad_records_stop_at_the_door_that_the_plan_names(plan: Plan, lists: Lists) -> None:
    for case in plan.bad:
        raw = (plan.directory / case.path).read_bytes()
        bodies = raw.splitlines(keepends=True) if case.content_type == NDJSON else [raw]
        expected = case.reason if case.door == "http" else "accepted"
        for body in bodies:
            found = await outcomes(lists, case.dataset, case.system, body, case.content_type)
            assert (case.name, found) == (case.name, Counter([expected]))
