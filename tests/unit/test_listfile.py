"""List files: what is read, what is refused, and whether the refusal helps its author."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shutong_core.domain.errors import Rejected
from shutong_core.domain.fieldtexts import FORMS
from shutong_core.domain.findings import PROBLEMS_MAX, Finding, ListRefused, Problem
from shutong_core.domain.listfile import list_schema, read_list_file
from shutong_core.domain.yamltree import TEXT_BYTES_MAX
from unit import listing_fixtures as made
from unit.listfile_fixtures import SCHEMA_FILE, entries, text_of

HEAD = f"""bus:
  title: 广东省节点（示例）
  region: "440000000000"
  lanes: 6
  division_table: "2023-06-30"
  division_digest: "{"0" * 64}"
"""
ORGANISATION = f"""organisations:
- id: "{made.PROVIDER}"
  name: 五华县民政局（示例）
  region: "441424000000"
  line: 民政
  roles: [provider]
"""


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ListRefused) as caught:
        read_list_file(text, "list.yaml")
    return caught.value.problems


def only(text: str) -> Problem:
    problems = problems_of(text)
    assert len(problems) == 1, [str(one) for one in problems]
    return problems[0]


def with_grant(**fields: Any) -> str:
    sections = entries()
    sections["grants"][0] |= fields
    return text_of(sections)


def test_the_minimal_list_is_read_and_built_whole() -> None:
    draft = read_list_file(text_of(entries()), "list.yaml")
    assert draft.schema_files == {"minimum-living": (SCHEMA_FILE,)}
    rows = draft.build_rows(
        {"minimum-living": [made.schema_ref()]}, {"minimum-living-meizhou": [made.projection()]}
    )
    assert {row.row_id: row for row in rows} == made.minimal_rows()


def test_rows_keep_the_order_of_the_file() -> None:
    draft = read_list_file(HEAD + ORGANISATION + "...\n", "list.yaml")
    assert [row.kind for row in draft.rows] == ["bus", "organisation"]


def test_rows_are_not_built_without_schemas_or_projections() -> None:
    draft = read_list_file(text_of(entries()), "list.yaml")
    with pytest.raises(Rejected, match="no schema"):
        draft.build_rows({}, {})
    with pytest.raises(Rejected, match="no projection"):
        draft.build_rows({"minimum-living": [made.schema_ref()]}, {})


def test_a_section_may_be_empty() -> None:
    assert len(read_list_file(HEAD + "grants:\ndatasets: []\n...\n", "list.yaml").rows) == 1


def test_a_problem_says_file_line_column_row_field_what_is_wrong_and_the_remedy() -> None:
    text = HEAD + ORGANISATION.replace('"441424000000"', "441424000000") + "...\n"
    assert str(only(text)) == (
        f"list.yaml:10:3: organisation/{made.PROVIDER} region [not-quoted]\n"
        "  441424000000 未加引号，读作数字或逻辑值，此处应为文本。"
        '处理：加引号，写作 "441424000000"。\n'
        "  441424000000 without quotes is a number or a yes/no value, text is needed here. "
        'Remedy: quote it: "441424000000".'
    )


def test_all_problems_are_listed_in_the_order_of_the_file() -> None:
    text = HEAD.replace("lanes: 6", "lanes: 0") + "grant: []\npurposes:\n- id: A b\n...\n"
    problems = problems_of(text)
    assert [(one.line, one.finding.code) for one in problems] == [
        (4, "out-of-range"),
        (7, "section-unknown"),
        (9, "bad-form"),
        (9, "field-missing"),
    ]


def test_no_more_problems_are_listed_than_a_person_reads() -> None:
    text = HEAD + "purposes:\n" + "- x\n" * 200 + "...\n"
    problems = problems_of(text)
    assert len(problems) == PROBLEMS_MAX
    anchors = "purposes:\n" + "- &x 1\n" * 200 + "...\n"
    assert len(problems_of(HEAD + anchors)) == PROBLEMS_MAX


def test_findings_of_the_checks_get_their_lines() -> None:
    text = text_of(entries())
    draft = read_list_file(text, "list.yaml")
    line = next(n for n, one in enumerate(text.splitlines(), 1) if "minimum-living-meizhou" in one)
    assert draft.line_of("grant/minimum-living-meizhou")[0] == line
    row = text.splitlines()[line - 1]
    column = row.index('"town_code"') + 1
    assert draft.line_of("grant/minimum-living-meizhou", ("items", "town_code")) == (line, column)
    assert draft.line_of("grant/nothing") == (1, 1)
    place = draft.line_of("dataset/minimum-living", ("schemas", 0))
    assert text.splitlines()[place[0] - 1][place[1] - 1 :].startswith(f'"{SCHEMA_FILE}"')
    finding = Finding("code", "grant/minimum-living-meizhou", ("quota",), "坏", "bad", "改", "mend")
    with pytest.raises(ListRefused, match=rf"list\.yaml:{line}:3: grant/minimum"):
        draft.refuse_if([finding])
    draft.refuse_if([])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "file-empty"),
        ("# only a comment\n", "file-empty"),
        (HEAD, "file-cut-off"),
        (HEAD + "...\n---\nbus: {}\n...\n", "second-document"),
        ("- a\n...\n", "not-a-mapping"),
        ("purposes: []\n...\n", "bus-missing"),
        (HEAD + "bus: {}\n...\n", "repeated-key"),
        (HEAD + "grants: 5\n...\n", "not-a-list"),
        (HEAD + "5: x\n...\n", "section-unknown"),
        (HEAD + "? [a]\n: x\n...\n", "bad-key"),
        (HEAD + "purposes:\n- <<: {a: b}\n  id: x\n  title: x\n...\n", "bad-key"),
        (HEAD + "purposes:\n- !!map {id: x, title: x}\n...\n", "tag"),
        (HEAD + "purposes:\n- {id: x, title: *y}\n...\n", "anchor"),
        (HEAD + "purposes: [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]\n...\n", "too-deep-or-many"),
        (HEAD + f"purposes: [{{id: x, title: {'x' * 10_001}}}]\n...\n", "text-too-long"),
        (HEAD + "\ud800\n...\n", "not-text"),
        ("#" * (TEXT_BYTES_MAX + 1), "file-too-large"),
        (HEAD + "purposes: {id: x\n...\n", "yaml-syntax"),
        (HEAD + "purposes: a: b\n...\n", "yaml-syntax"),
        (HEAD + "\tpurposes: []\n...\n", "yaml-syntax"),
        (HEAD + "purposes: \x01\n...\n", "yaml-syntax"),
        (HEAD + 'purposes: "x\n', "yaml-syntax"),
        (HEAD + "purposes:\n- {id: x, title: y}\n- {id: x, title: z}\n...\n", "id-repeated"),
        (HEAD + "purposes:\n- {kind: purpose, id: x, title: y}\n...\n", "field-allotted"),
    ],
    ids=lambda value: value if len(value) < 20 and value.replace("-", "").isalpha() else "-",
)
def test_what_makes_a_file_hard_to_review_is_refused(text: str, code: str) -> None:
    assert code in [one.finding.code for one in problems_of(text)]


@pytest.mark.parametrize(
    ("fields", "code", "where"),
    [
        ({"requestor": "x"}, "field-unknown", "requestor"),
        ({"projections": []}, "field-allotted", "projections"),
        ({"basis": ""}, "bad-length", "basis"),
        ({"basis": "长" * 501}, "bad-length", "basis"),
        ({"basis": None}, "not-quoted", "basis"),
        ({"basis": ["x"]}, "not-text", "basis"),
        ({"approvers": "x"}, "not-a-list", "approvers"),
        ({"scope": "x"}, "not-a-mapping", "scope"),
        ({"scope": {"regions": []}}, "field-missing", "scope.role"),
        ({"items": []}, "not-a-mapping", "items"),
        ({"items": {"a b": "clear"}}, "bad-form", "items.a b"),
        ({"items": {"name": "clr"}}, "bad-choice", "items.name"),
        ({"items": {"name": {"mask": "kep"}}}, "bad-choice", "items.name"),
        ({"items": {"name": {}}}, "field-missing", "items.name"),
        ({"items": {"name": {"mask": "keep", "first": "x"}}}, "not-a-number", "items.name.first"),
        ({"items": {"name": {"mask": "keep", "last": 99}}}, "out-of-range", "items.name.last"),
        ({"items": {"name": {"mask": "band"}}}, "bad-mask", "items.name"),
        ({"items": {"name": {"mask": "band", "bounds": [2, 1]}}}, "bad-mask", "items.name"),
        ({"mode": "telepathy"}, "bad-choice", "mode"),
        ({"quota": 1.5}, "not-a-number", "quota"),
        ({"quota": 10**20}, "out-of-range", "quota"),
        ({"minors": "yes"}, "not-true-or-false", "minors"),
        ({"valid_from": "2026-01-01"}, "bad-time", "valid_from"),
        ({"valid_from": "2026-01-01T00:00:00"}, "bad-time", "valid_from"),
        ({"valid_from": "2026-13-01T00:00:00Z"}, "bad-time", "valid_from"),
        ({"valid_from": 1_767_225_600}, "bad-time", "valid_from"),
        ({"requester": "114414240000000015"}, "bad-uscc", "requester"),
        ({"requester": None}, "requester-missing", ""),
        ({"requester_class": {"level": "town", "within": made.WUHUA}}, "requester-missing", ""),
        ({"id": "Bad_Id"}, "bad-form", "id"),
    ],
    ids=lambda value: json.dumps(value, ensure_ascii=False)[:60],
)
def test_a_wrong_field_is_told_once_and_in_plain_words(
    fields: dict[str, Any], code: str, where: str
) -> None:
    problem = only(with_grant(**fields))
    assert (problem.finding.code, problem.finding.field_path) == (code, where)
    assert problem.finding.row_id.startswith("grant/")
    for word in ("Input should", "String should", "Value error", "pydantic", "literal["):
        assert word not in str(problem)


@pytest.mark.parametrize(
    "operation", ["put", 5, {"item": "1"}, {}], ids=["word", "number", "bad name", "empty"]
)
def test_a_wrong_operation_is_told_once(operation: Any) -> None:
    sections = entries()
    sections["datasets"][0]["operation"] = operation
    assert only(text_of(sections)).finding.path[0] == "operation"


@pytest.mark.parametrize(
    "files",
    [None, [], "x.avsc", ["x.json"], ["../x.avsc"], ["/x.avsc"], ["a/../x.avsc"], ["x.avsc"] * 2],
    ids=repr,
)
def test_schema_files_are_relative_paths_downwards(files: Any) -> None:
    sections = entries()
    sections["datasets"][0]["schema_files"] = files
    problem = only(text_of(sections))
    assert (problem.finding.code, problem.finding.row_id) == (
        "schema-files",
        "dataset/minimum-living",
    )


@pytest.mark.parametrize("typed", ["lanes：6", "lanes:6"])
def test_a_colon_that_is_none_is_found_on_its_own_line(typed: str) -> None:
    problem = only(HEAD.replace("lanes: 6", typed) + "...\n")
    assert problem.line == 4
    assert "全角冒号" in problem.finding.remedy_zh


@pytest.mark.parametrize("text", ["\ufeff{}", "{}"], ids=["mark", "plain"])
def test_files_of_windows_editors_are_read(text: str) -> None:
    windows = text.format((HEAD + "...\n").replace("\n", "\r\n"))
    assert len(read_list_file(windows, "list.yaml").rows) == 1


def test_a_close_name_is_suggested() -> None:
    assert "did you mean `requester`" in str(only(with_grant(requestr="x")))


def test_codes_that_look_like_dates_or_yes_stay_text() -> None:
    text = HEAD + "purposes:\n- {id: a, title: 2026-01-01}\n- {id: b, title: NO}\n...\n"
    titles = [row.title for row in read_list_file(text, "l").rows if row.kind == "purpose"]
    assert titles == ["2026-01-01", "NO"]


def test_every_pattern_of_the_rows_has_its_text() -> None:
    patterns = {
        value
        for definition in list_schema()["$defs"].values()
        for value in _patterns(definition)
        if not value.endswith(".avsc$")
    }
    assert patterns == set(FORMS)


def _patterns(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [inner for key, inner in value.items() if key == "pattern"]
        found += list(value.get("patternProperties", ()))
        return found + [one for inner in value.values() for one in _patterns(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in _patterns(inner)]
    return []


def test_the_published_schema_is_the_one_of_the_code() -> None:
    published = Path(__file__).parents[2] / "docs" / "list.schema.json"
    text = json.dumps(list_schema(), ensure_ascii=False, indent=2) + "\n"
    remedy = "write json.dumps(list_schema(), ensure_ascii=False, indent=2) and a newline there"
    assert published.read_text(encoding="utf-8") == text, remedy
