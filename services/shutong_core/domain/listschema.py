"""The form of a list file: its sections, their fields, the JSON Schema that is published of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.grants import Bus, Duty, Grant, Negative, Purpose
from shutong_core.domain.organisations import Organisation, System
from shutong_core.domain.version import AnyRow

#: Sections of the file in the order people write them.
SECTIONS: Mapping[str, type[AnyRow]] = {
    "bus": Bus,
    "purposes": Purpose,
    "organisations": Organisation,
    "systems": System,
    "datasets": Dataset,
    "grants": Grant,
    "duties": Duty,
    "negative": Negative,
}
#: Fields of a row that the file does not hold: they are allotted at publishing.
ALLOTTED: Mapping[type[AnyRow], str] = {Dataset: "schemas", Grant: "projections"}

SCHEMA_FILES_MAX = 64
_SCHEMA_FILE_CHARACTERS_MAX = 200
# Relative, downwards only: a list must not make the publisher read files elsewhere.
_SCHEMA_FILE = re.compile(r"(?!\.)[A-Za-z0-9_.-]+(/(?!\.)[A-Za-z0-9_.-]+)*\.avsc")


def field_names(model: type[AnyRow]) -> tuple[str, ...]:
    """The fields an entry of this kind may have in the file."""
    names = [name for name in model.model_fields if name not in ("kind", ALLOTTED.get(model))]
    return (*names, "schema_files") if model is Dataset else tuple(names)


def schema_files_problem(files: object) -> tuple[str, str, str, str] | None:
    """What is wrong with a dataset's `schema_files` (zh, en, remedy zh, remedy en), or None."""
    if files is None:
        return (
            "缺少字段 schema_files",
            "the field `schema_files` is missing",
            "列出模式文件（.avsc），每个版本一个，从旧到新",
            "list the schema files (.avsc), one for each version, oldest first",
        )
    if not isinstance(files, list) or not 1 <= len(files) <= SCHEMA_FILES_MAX:
        return (
            f"schema_files 应为 1 至 {SCHEMA_FILES_MAX} 个文件的列表",
            f"`schema_files` must list 1 to {SCHEMA_FILES_MAX} files",
            "写作 [一.avsc, 二.avsc]，从旧到新",
            "write [one.avsc, two.avsc], oldest first",
        )
    for file in files:
        fits = isinstance(file, str) and len(file) <= _SCHEMA_FILE_CHARACTERS_MAX
        if not fits or _SCHEMA_FILE.fullmatch(file) is None:
            return (
                f"模式文件 {str(file)[:80]!r} 的路径不合要求",
                f"{str(file)[:80]!r} is not a path of a schema file",
                "写相对于清单文件、不含 .. 的 .avsc 路径",
                "write a path relative to the list file, ending in .avsc, without `..`",
            )
    if len(set(files)) != len(files):
        return (
            "同一模式文件写了两次",
            "one schema file is named twice",
            "每个版本一个文件",
            "name one file for each version",
        )
    return None


def list_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a list file, as docs/list.schema.json publishes it.

    It describes form only; check characters and the rules across rows are `checks`' work.
    """
    models = tuple(dict.fromkeys(SECTIONS.values()))
    refs, whole = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/$defs/{model}",
    )
    definitions: dict[str, Any] = whole["$defs"]
    for model in models:
        _as_entry(definitions[model.__name__], model)
    sections: dict[str, Any] = {}
    for section, model in SECTIONS.items():
        ref = refs[(model, "validation")]
        sections[section] = ref if model is Bus else {"type": ["array", "null"], "items": ref}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Shutong list file 数据共享责任清单",
        "description": "YAML; the last line is the document end marker `...`.",
        "type": "object",
        "additionalProperties": False,
        "required": ["bus"],
        "properties": sections,
        "$defs": definitions,
    }


def _as_entry(definition: dict[str, Any], model: type[AnyRow]) -> None:
    """Turns the schema of a row into that of its entry in the file."""
    left_out = {"kind", ALLOTTED.get(model)}
    properties = definition["properties"]
    for name in left_out & set(properties):
        del properties[name]
    required = [name for name in definition.get("required", ()) if name not in left_out]
    if model is Dataset:
        properties["schema_files"] = {
            "type": "array",
            "minItems": 1,
            "maxItems": SCHEMA_FILES_MAX,
            "uniqueItems": True,
            "items": {
                "type": "string",
                "maxLength": _SCHEMA_FILE_CHARACTERS_MAX,
                "pattern": f"^{_SCHEMA_FILE.pattern}$",
            },
            "description": "One Avro schema file for each version, oldest first.",
        }
        required.append("schema_files")
    if required:
        definition["required"] = required
