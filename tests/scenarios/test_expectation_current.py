"""The committed expectation of the story is what an independent reading of the files gives."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shutong_story.generate import generate, sample_list, sample_table

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("story_expectation.py")
STORY = ROOT / "deploy/samples/story"
REMEDY = "write the output of story_expectation.py to deploy/samples/story/expected.json"


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the independent script says of freshly generated files."""
    directory = tmp_path_factory.mktemp("story")
    generate(directory, sample_table(), sample_list())
    command = [
        sys.executable,
        str(SCRIPT),
        str(STORY / "list.yaml"),
        str(ROOT / "services/shutong_core/files/divisions-2023-06-30.tsv.xz"),
        str(ROOT / "schemas/samples"),
        str(directory),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def test_the_script_imports_only_the_standard_library_and_pyyaml() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"yaml"}


def test_the_committed_expectation_is_current(computed: dict[str, Any]) -> None:
    committed = json.loads((STORY / "expected.json").read_text(encoding="utf-8"))
    assert computed == committed, REMEDY


def test_the_division_table_goes_to_everyone_and_each_place_gets_its_own(
    computed: dict[str, Any],
) -> None:
    step = computed["facts"]["step_1"]
    assert (step["everyone"], step["guangdong"]) == (41_352, 1_757)


def test_one_certificate_of_death_arrives_in_seven_places(computed: dict[str, Any]) -> None:
    arrivals = [
        (each["grant"], each["direction"])
        for each in computed["resident"]["arrivals"]
        if each["dataset"] == "death-certificate"
    ]
    assert arrivals == [
        ("death-wuhua-police", "跨区域"),
        ("death-wuhua-civil", "跨区域"),
        ("death-meizhou-labour", "跨区域"),
        ("death-meizhou-insurance", "跨区域"),
        ("death-province-health", "上行"),
        ("death-nation-health", "上行"),
        ("death-towns", "下行回流"),
    ]


def test_another_county_sees_nothing_of_the_resident(computed: dict[str, Any]) -> None:
    assert computed["facts"]["step_2"]["xingning_sees_the_resident"] is False
    assert all("xingning" not in each["grant"] for each in computed["resident"]["arrivals"])


def test_every_direction_of_flow_occurs(computed: dict[str, Any]) -> None:
    directions = {cell["direction"] for cell in computed["level_matrix"]}
    assert directions == {"横向", "上行", "斜向", "下行回流", "下行共享", "跨区域"}


def test_every_level_gives_or_takes(computed: dict[str, Any]) -> None:
    levels = {cell[side] for cell in computed["level_matrix"] for side in ("from", "to")}
    assert levels == {"nation", "province", "city", "county", "town"}


def test_each_decided_record_has_one_verdict_per_grant(computed: dict[str, Any]) -> None:
    decided = {name: each["decided"] for name, each in computed["datasets"].items()}
    dataset_of = {flow["grant"]: flow["dataset"] for flow in computed["flows"]}
    for grant, verdicts in computed["grants"].items():
        total = verdicts["placed"] + sum(verdicts["withheld"].values())
        assert total == decided[dataset_of[grant]], grant
