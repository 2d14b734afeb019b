"""The rules about names and about types that hold no other type."""

from __future__ import annotations

import re
from typing import Any, Final

from shutong_core.wire.findings import FIXED_BYTES_MAX, FULL_NAME_MAX, SYMBOLS_MAX
from shutong_core.wire.shapes import (
    DECIMAL_PRECISION_MAX,
    LOGICAL_TYPES,
    Enum,
    Fixed,
    Plain,
    fixed_precision_max,
)

PRIMITIVES: Final = frozenset({"boolean", "int", "long", "float", "double", "bytes", "string"})
_KEYWORDS: Final = PRIMITIVES | {"null", "record", "enum", "fixed", "array", "map"}
#: Avro 1.12 "Names": ASCII only; 64 characters, as the catalogue's item names.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


class RuleBrokenError(ValueError):
    """A rule that the type breaks; the walk turns it into a finding at its place."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh = zh
        self.en = en


def is_name(name: object) -> bool:
    """Whether `name` is an unqualified Avro name."""
    return isinstance(name, str) and _NAME.match(name) is not None


def full_name(raw: dict[str, Any], namespace: str) -> str:
    """The full name of a type defined inside `namespace`. Raises RuleBrokenError."""
    name, own = raw.get("name"), raw.get("namespace", namespace)
    if isinstance(name, str) and isinstance(own, str):
        full = name if "." in name or not own else f"{own}.{name}"
        parts = full.split(".")
        if len(full) <= FULL_NAME_MAX and all(map(is_name, parts)) and parts[-1] not in _KEYWORDS:
            return full
    raise RuleBrokenError(
        "类型名或命名空间不合规则（ASCII 字母、数字、下划线）",
        "name or namespace breaks Avro's rule (ASCII letters, digits, underscore; no keyword)",
    )


def type_aliases(raw: dict[str, Any], name: str) -> tuple[str, ...]:
    """The aliases of the type `name`, as full names. Raises RuleBrokenError."""
    namespace = name.rpartition(".")[0]
    aliases = _aliases(raw)
    for alias in aliases:
        if len(alias) > FULL_NAME_MAX or not all(map(is_name, alias.split("."))):
            raise _no_name(alias)
    return tuple(f"{namespace}.{a}" if namespace and "." not in a else a for a in aliases)


def field_aliases(raw: dict[str, Any]) -> tuple[str, ...]:
    """The aliases of a field. Raises RuleBrokenError."""
    aliases = _aliases(raw)
    for alias in aliases:
        if not is_name(alias):
            raise _no_name(alias)
    return tuple(aliases)


def _aliases(raw: dict[str, Any]) -> list[str]:
    aliases = raw.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise RuleBrokenError("aliases 必须是名称列表", "aliases must be a list of names")
    return aliases


def _no_name(alias: str) -> RuleBrokenError:
    shown = alias[:64]
    return RuleBrokenError(f"别名 {shown} 不合规则", f"alias `{shown}` is no name")


def read_plain(raw: dict[str, Any]) -> Plain:
    """A primitive type with or without a logical type. Raises RuleBrokenError."""
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in PRIMITIVES:
        raise RuleBrokenError(
            "`type` 必须直接写基本类型名或 record、enum、fixed、array、map",
            "`type` must directly name a primitive, record, enum, fixed, array or map",
        )
    logical = _logical(kind, raw)
    if logical == "decimal":
        return Plain(kind, logical, *_digits(raw, DECIMAL_PRECISION_MAX))
    return Plain(kind, logical)


def read_enum(raw: dict[str, Any], name: str, aliases: tuple[str, ...]) -> Enum:
    """An enum. Raises RuleBrokenError."""
    symbols, default = raw.get("symbols"), raw.get("default")
    if (
        not isinstance(symbols, list)
        or not 0 < len(symbols) <= SYMBOLS_MAX
        or not all(map(is_name, symbols))
        or len(set(symbols)) != len(symbols)
    ):
        raise RuleBrokenError(
            f"symbols 需要 1–{SYMBOLS_MAX} 个互不相同的名称",
            f"symbols must be 1 to {SYMBOLS_MAX} distinct names",
        )
    if "default" in raw and default not in symbols:
        raise RuleBrokenError("枚举默认值不在 symbols 中", "the enum's default is not a symbol")
    return Enum(name, tuple(symbols), default, aliases)


def read_fixed(raw: dict[str, Any], name: str, aliases: tuple[str, ...]) -> Fixed:
    """Fixed bytes or a decimal over them. Raises RuleBrokenError."""
    size = raw.get("size")
    if type(size) is not int or not 0 < size <= FIXED_BYTES_MAX:
        raise RuleBrokenError(
            f"size 必须为 1–{FIXED_BYTES_MAX}", f"size must be 1 to {FIXED_BYTES_MAX}"
        )
    logical = _logical("fixed", raw)
    if logical is None:
        return Fixed(name, size, aliases=aliases)
    # 32 bytes hold far more digits than are admitted; no larger power is worth computing.
    limit = min(fixed_precision_max(min(size, 32)), DECIMAL_PRECISION_MAX)
    return Fixed(name, size, logical, *_digits(raw, limit), aliases=aliases)


def _logical(kind: str, raw: dict[str, Any]) -> str | None:
    if "logicalType" not in raw:
        return None
    logical = raw["logicalType"]
    if isinstance(logical, str) and kind in LOGICAL_TYPES.get(logical, ()):
        return logical
    shown = str(logical)[:64]
    raise RuleBrokenError(
        f"{kind} 不能使用逻辑类型 {shown}", f"logical type `{shown}` is not admitted on {kind}"
    )


def _digits(raw: dict[str, Any], precision_max: int) -> tuple[int, int]:
    """Precision and scale of a decimal."""
    precision, scale = raw.get("precision"), raw.get("scale", 0)
    if (
        type(precision) is int
        and type(scale) is int
        and 0 < precision <= precision_max
        and 0 <= scale <= precision
    ):
        return precision, scale
    raise RuleBrokenError(
        f"decimal 需要 1–{precision_max} 的 precision 和不大于它的 scale",
        f"a decimal needs precision 1 to {precision_max} and scale 0 to precision",
    )
