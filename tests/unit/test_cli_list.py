"""`shutong list check` and `shutong schema lint`: every problem with its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from unit.cli_runner import clean_logs, shutong

__all__ = ["clean_logs"]
pytestmark = pytest.mark.usefixtures("clean_logs")
STORY = Path(__file__).resolve().parents[2] / "deploy/samples/story"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of the sample list that a test may break."""
    shutil.copytree(STORY, tmp_path / "story")
    return tmp_path / "story" / "list.yaml"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_sample_list_has_no_problem(file: Path) -> None:
    done = shutong("list", "check", str(file))
    assert (done.exit_code, done.stderr) == (0, "")
    assert "no problem found" in done.stdout


def test_every_problem_is_named_with_file_line_and_column(file: Path) -> None:
    edit(file, 'region: "440000000000"', "region: 440000000000")
    edit(file, "purpose: division-reference", "purpos: division-reference")
    done = shutong("list", "check", str(file))
    assert done.exit_code == 2
    assert f"{file}:8:3: bus/bus region" in done.stderr
    assert "purpos" in done.stderr
    assert "加引号" in done.stderr
    assert "quote it" in done.stderr
    assert done.stdout == ""


def test_problems_across_rows_have_their_place_too(file: Path) -> None:
    edit(file, "purpose: division-reference", "purpose: nobody-knows")
    done = shutong("list", "check", str(file), "--json")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert found["ok"] is False
    problem = found["problems"][0]
    assert problem["row"] == "grant/divisions-everyone"
    assert problem["field"] == "purpose"
    line = file.read_text(encoding="utf-8").splitlines()[problem["line"] - 1]
    assert line.strip() == "purpose: nobody-knows"


def test_a_condition_that_the_broker_cannot_compile_is_refused(file: Path) -> None:
    edit(
        file,
        "    purpose: division-reference",
        "    condition: size(code) > 3\n    purpose: division-reference",
    )
    done = shutong("list", "check", str(file))
    assert done.exit_code == 2
    assert "grant/divisions-everyone condition" in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "list.yaml:1:1"),
        (b"bus: [", "list.yaml:2:1"),
        (b"bus:\n  title: \xff\xfe", "list.yaml:2:10"),
        (b"\x00\x01\x02", "list.yaml:1"),
        (b"- 1\n- 2\n", "list.yaml:1:1"),
    ],
    ids=["empty", "unfinished", "not UTF-8", "binary", "a list"],
)
def test_a_file_that_is_no_list_is_refused_with_its_place(
    file: Path, content: bytes, words: str
) -> None:
    file.write_bytes(content)
    done = shutong("list", "check", str(file))
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        done = shutong("list", "check", str(path))
        assert done.exit_code == 2
        assert str(path) in done.stderr


def test_a_schema_file_outside_the_list_directory_is_refused(file: Path, tmp_path: Path) -> None:
    schema = file.parent / "schemas" / "divisions-2023.avsc"
    schema.rename(tmp_path / "elsewhere.avsc")
    schema.symlink_to(tmp_path / "elsewhere.avsc")
    done = shutong("list", "check", str(file))
    assert done.exit_code == 2
    assert "outside the directory" in done.stderr
    assert "dataset/divisions-2023 schema_files" in done.stderr


def test_publishing_a_broken_file_needs_no_kafka_to_refuse_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHUTONG_DATA_DIR", str(tmp_path / "data"))
    file.write_text("bus: {}\n", encoding="utf-8")
    done = shutong("list", "publish", str(file))
    assert done.exit_code == 2
    assert f"{file}:1:6: bus/bus title" in done.stderr
    assert not (tmp_path / "data").exists()


def test_admitted_schemas_pass_the_lint() -> None:
    done = shutong("schema", "lint", *map(str, sorted(STORY.glob("schemas/*.avsc"))))
    assert done.exit_code == 0
    assert done.stdout.count("admitted") == 4


def test_the_lint_names_every_broken_rule_of_every_file(tmp_path: Path) -> None:
    good = STORY / "schemas" / "divisions-2023.avsc"
    bad, broken = tmp_path / "bad.avsc", tmp_path / "broken.avsc"
    schema = json.loads(good.read_text(encoding="utf-8"))
    schema["fields"][0]["type"] = ["string", "null"]
    del schema["fields"][1]["shutong"]
    bad.write_text(json.dumps(schema), encoding="utf-8")
    broken.write_text("{", encoding="utf-8")
    files = [str(good), str(bad), str(broken), str(tmp_path / "none.avsc")]
    done = shutong("schema", "lint", *files)
    assert done.exit_code == 2
    for field in schema["fields"][:2]:
        assert f"{bad}: {field['name']}: " in done.stdout
    assert f"{broken}: schema: " in done.stdout
    assert "does not exist" in done.stdout
    found = json.loads(shutong("schema", "lint", *files, "--json").stdout)
    assert [each["ok"] for each in found] == [True, False, False, False]
    assert {each["path"] for each in found[1]["problems"]} >= {
        field["name"] for field in schema["fields"][:2]
    }
