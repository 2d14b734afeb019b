"""The list file: YAML in which people write a responsibility list, read whole or not at all.

An entry is a row without `kind`; a dataset names its schema files in place of registered schemas,
a grant has no projections: both are allotted at publishing, which puts them in by `build_rows`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shutong_core.domain.catalogue import Dataset, SchemaRef
from shutong_core.domain.errors import Rejected
from shutong_core.domain.fieldtexts import findings_of
from shutong_core.domain.findings import PROBLEMS_MAX, Finding, ListRefused, Path, Problem
from shutong_core.domain.grants import Bus, Grant, Projection
from shutong_core.domain.listschema import (
    ALLOTTED,
    SECTIONS,
    field_names,
    list_schema,
    schema_files_problem,
)
from shutong_core.domain.version import AnyRow
from shutong_core.domain.yamltree import Node, read_yaml

__all__ = ["DraftList", "list_schema", "read_list_file"]


@dataclass(frozen=True, slots=True)
class DraftList:
    """A list file that was read: rows in file order, datasets and grants not yet complete.

    `schema_files` are by dataset id the paths of its schema versions, ascending, relative to the
    list file. Until `build_rows`, datasets have no schemas and grants no projections.
    """

    name: str
    rows: tuple[AnyRow, ...]
    schema_files: Mapping[str, tuple[str, ...]]
    _nodes: Mapping[str, Node]

    def build_rows(
        self,
        schema_refs: Mapping[str, Sequence[SchemaRef]],
        projections: Mapping[str, Sequence[Projection]],
    ) -> tuple[AnyRow, ...]:
        """The complete rows: schema versions by dataset id, projections by grant id.

        Raises Rejected if a dataset or a grant has none.
        """
        return tuple(self._complete(row, schema_refs, projections) for row in self.rows)

    def line_of(self, row_id: str, path: Path = ()) -> tuple[int, int]:
        """Line and column (from 1) of a row or of a field in it.

        A field that the file does not write has the place of what is around it; an unknown row
        the beginning of the file.
        """
        node = self._nodes.get(row_id)
        if node is None:
            return (1, 1)
        return _place_of(node, _in_file(path))

    def problems(self, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        """Findings of the checks across rows, each with its place in this file."""
        return tuple(
            Problem(self.name, *self.line_of(found.row_id, found.path), found) for found in findings
        )

    def refuse_if(self, findings: Iterable[Finding]) -> None:
        """Raises ListRefused with all `findings` and their places, if there are any."""
        if problems := self.problems(findings):
            raise ListRefused(problems)

    def _complete(
        self,
        row: AnyRow,
        schema_refs: Mapping[str, Sequence[SchemaRef]],
        projections: Mapping[str, Sequence[Projection]],
    ) -> AnyRow:
        if isinstance(row, Dataset):
            if not (refs := schema_refs.get(row.id)):
                raise Rejected(f"no schema was registered for dataset {row.id}")
            return row.model_copy(update={"schemas": tuple(refs)})
        if isinstance(row, Grant):
            if not (made := projections.get(row.id)):
                raise Rejected(f"no projection was registered for grant {row.id}")
            return row.model_copy(update={"projections": tuple(made)})
        return row


def read_list_file(text: str, name: str) -> DraftList:
    """The list in `text`; `name` is the file's name in messages.

    Raises ListRefused (a Rejected) with every problem, at most PROBLEMS_MAX, if there is any.
    """
    root, problems = read_yaml(text, name)
    if root is None:
        raise ListRefused(problems)
    reading = _Reading(name, problems)
    reading.file(root)
    if reading.problems:
        raise ListRefused(sorted(reading.problems, key=lambda one: (one.line, one.column)))
    return DraftList(name, tuple(reading.rows), reading.schema_files, reading.nodes)


class _Reading:
    """The state of one reading; ends early once there are PROBLEMS_MAX problems."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self._name = name
        self.problems = problems
        self.rows: list[AnyRow] = []
        self.nodes: dict[str, Node] = {}
        self.schema_files: dict[str, tuple[str, ...]] = {}

    def file(self, root: Node) -> None:
        if not isinstance(root.value, dict):
            self._note(root, Finding("not-a-mapping", "", (), *_NO_SECTIONS))
            return
        for section, place in root.key_places.items():
            if section not in SECTIONS:
                finding = Finding("section-unknown", "", (section,), *_UNKNOWN_SECTION)
                self.problems.append(Problem(self._name, *place, finding))
        bus = root.value.get("bus")
        if bus is None:
            self._note(root, Finding("bus-missing", "bus/bus", (), *_NO_BUS))
        else:
            self._entry("bus", bus, Bus)
        for section, model in SECTIONS.items():
            node = root.value.get(section)
            if node is not None and model is not Bus:
                self._section(section, node, model)

    def _section(self, section: str, node: Node, model: type[AnyRow]) -> None:
        if node.value is None:  # the name of the section with nothing below
            return
        if not isinstance(node.value, list):
            self._note(node, Finding("not-a-list", "", (section,), *_NOT_A_LIST))
            return
        for index, entry in enumerate(node.value):
            if len(self.problems) >= PROBLEMS_MAX:
                return
            self._entry(f"{section}[{index}]", entry, model)

    def _entry(self, label: str, node: Node, model: type[AnyRow]) -> None:
        if not isinstance(node.value, dict):
            self._note(node, Finding("not-a-mapping", label, (), *_NOT_AN_ENTRY))
            return
        row_id = _row_id(label, node, model)
        before = len(self.problems)
        body: dict[str, Any] = {key: inner.plain() for key, inner in node.value.items()}
        self._refuse_allotted(body, node, row_id, model)
        files: tuple[str, ...] = ()
        if model is Dataset:
            files = self._take_schema_files(body, node, row_id)
        if model in ALLOTTED:
            body[ALLOTTED[model]] = []
        row = self._validated(body, node, row_id, model)
        if row is None or len(self.problems) > before:
            return
        if row.row_id in self.nodes:
            first = self.nodes[row.row_id].line
            self._note(node, Finding("id-repeated", row.row_id, ("id",), *_repeated(first)))
            return
        self.rows.append(row)
        self.nodes[row.row_id] = node
        if files:
            self.schema_files[row.id] = files

    def _refuse_allotted(
        self, body: dict[str, Any], node: Node, row_id: str, model: type[AnyRow]
    ) -> None:
        for field in ("kind", ALLOTTED.get(model, "kind")):
            if field in body:
                del body[field]
                self._note(node, Finding("field-allotted", row_id, (field,), *_allotted(field)))

    def _take_schema_files(self, body: dict[str, Any], node: Node, row_id: str) -> tuple[str, ...]:
        files = body.pop("schema_files", None)
        problem = schema_files_problem(files)
        if problem is not None:
            self._note(node, Finding("schema-files", row_id, ("schema_files",), *problem))
            return ()
        return tuple(files)

    def _validated(
        self, body: dict[str, Any], node: Node, row_id: str, model: type[AnyRow]
    ) -> AnyRow | None:
        try:
            # As JSON, where lists are lists and nothing else is taken for text or number.
            row = model.model_validate_json(json.dumps(body))
            row.digest()
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            for finding in findings_of(found, node, row_id, field_names(model)):
                self._note(node, finding)
            return None
        except ValueError as error:  # a value without an RFC 8785 form
            self._note(node, Finding("bad-value", row_id, (), *_no_form(str(error))))
            return None
        return row

    def _note(self, node: Node, finding: Finding) -> None:
        line, column = _place_of(node, finding.path if finding.row_id else ())
        self.problems.append(Problem(self._name, line, column, finding))


def _row_id(label: str, node: Node, model: type[AnyRow]) -> str:
    """`<kind>/<id>` if the entry has an id that can be shown, else its place in the section."""
    if model is Bus:
        return "bus/bus"
    found = node.value.get("id")
    text = found.value if found is not None and isinstance(found.value, str) else ""
    kind = model.model_fields["kind"].default
    return f"{kind}/{text}" if 0 < len(text) <= 64 and text.isprintable() else label


def _in_file(path: Path) -> Path:
    """A path in a row as the file has it: schema n of a dataset is its n-th schema file."""
    return ("schema_files", *path[1:2]) if path[:1] == ("schemas",) else path


def _place_of(node: Node, path: Path) -> tuple[int, int]:
    place = (node.line, node.column)
    for step in path:
        if isinstance(node.value, dict) and step in node.value:
            place = node.key_places[str(step)]
            node = node.value[step]
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            place = (node.line, node.column)
        else:
            break
    return place


def _allotted(field: str) -> tuple[str, str, str, str]:
    instead = "；在 schema_files 写模式文件" if field == "schemas" else ""
    instead_en = "; name the schema files in `schema_files`" if field == "schemas" else ""
    return (
        f"{field} 由发布时填入，不在文件中写",
        f"`{field}` is put in at publishing, not written in the file",
        f"删除 {field}{instead}",
        f"take `{field}` away{instead_en}",
    )


def _repeated(line: int) -> tuple[str, str, str, str]:
    return (
        f"编号重复，第 {line} 行已有",
        f"this id is already used on line {line}",
        "换一个编号，或合并两项",
        "choose another id, or merge the two entries",
    )


def _no_form(text: str) -> tuple[str, str, str, str]:
    return (
        "含有不能规范表示的值",
        f"a value has no canonical form ({text})",
        "改用普通文本和 2^53 以内的整数",
        "use plain text and integers below 2^53",
    )


_NO_SECTIONS = (
    "文件最外层应为各节",
    "the file must consist of sections",
    "写 bus、organisations、datasets、grants 等节",
    "write `bus`, `organisations`, `datasets`, `grants` and so on",
)
_UNKNOWN_SECTION = (
    "没有这一节",
    "there is no such section",
    f"可用的节：{'、'.join(SECTIONS)}",
    f"the sections are: {', '.join(SECTIONS)}",
)
_NO_BUS = (
    "缺少 bus 一节",
    "the section `bus` is missing",
    "写 bus 一节：名称、区划、分道数、区划表日期和摘要",
    "write `bus`: title, region, lanes, date and digest of the division table",
)
_NOT_A_LIST = (
    "这一节应为列表",
    "this section must be a list",
    "每项以 - 开头",
    "begin each entry with `-`",
)
_NOT_AN_ENTRY = (
    "此项应为若干“字段: 值”",
    "this entry must be `field: value` lines",
    "按“字段: 值”书写，没有内容则删除",
    "write its fields, or take it away",
)
