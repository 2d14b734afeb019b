"""The benchmark's yardstick and its results: what a wrong one would make of every figure."""

from __future__ import annotations

import io
import json
from pathlib import Path

import fastavro
import pytest

from bench import job, reference
from bench.registry import BARS, Result
from shutong_core.wire.codec import decode

BODIES = [message.value[5:] for message in job.messages(0, 800, 1)]


def test_grants_take_three_of_eight_cities_all_rows_and_one_city_active_only():
    found = [reference.outputs(body) for body in BODIES]
    assert {grant: sum(grant in each for each in found) for grant in job.REFERENCE} == {
        "a": 300,
        "b": 800,
        "c": 80,
    }


def test_records_are_strictly_canonical_and_about_150_bytes():
    for body in BODIES[:50]:
        decode(job.schema(), body)
    assert 130 < sum(map(len, BODIES)) / len(BODIES) < 160


def test_no_two_records_share_an_identity_number():
    assert len({job.id_number(n) for n in range(100_000)}) == 100_000


def test_masked_grant_shows_ends_of_the_identity_number_only():
    schema = reference.plain(json.loads(job.schema_text()))
    schema["fields"] = [
        each for each in schema["fields"] if each["name"] in job.REFERENCE["a"]["items"]
    ]
    (body, value) = next((b, out["a"]) for b in BODIES if "a" in (out := reference.outputs(b)))
    shown = fastavro.schemaless_reader(io.BytesIO(value), fastavro.parse_schema(schema), None)
    number = reference.decode(body)["id_number"]
    assert shown["id_number"] == f"{number[:6]}********{number[-4:]}"
    assert number.encode() not in value


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [(1.4, ">= 1.4", True), (1.39, ">= 1.4", False), (50, "<= 50", True), (51, "<= 50", False)],
)
def test_goal_is_met_at_its_bound(value: float, goal: str, met: bool):
    assert Result("x", value, "times", goal).met is met


def test_every_bar_of_the_table_has_its_module():
    directory = Path(job.__file__).parent
    for place in BARS.values():
        module = place.partition(":")[0].removeprefix("bench.")
        assert (directory / f"{module}.py").exists(), module
