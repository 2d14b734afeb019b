"""Whether one schema version can read what another wrote: Avro's resolution rules, and stricter.

Avro ignores logical types when it resolves schemas, so a changed decimal scale or unit of time
would silently multiply values by powers of ten; here such a change is incompatible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shutong_core.wire.schemas import Schema
from shutong_core.wire.shapes import (
    Array,
    Enum,
    Field,
    Fixed,
    Map,
    Nullable,
    Plain,
    Record,
    Shape,
    Value,
)

#: Avro 1.12 "Schema Resolution": writer type -> reader types that read it besides its own.
_PROMOTIONS: Final = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """One place where a reader cannot read a writer's data, and why."""

    path: str
    zh: str
    en: str


def unreadable(reader: Schema, writer: Schema) -> tuple[Incompatibility, ...]:
    """Why `reader` cannot read all data of `writer`; empty = it can."""
    found: list[Incompatibility] = []
    _compare(reader.record, writer.record, "", found)
    return tuple(found)


def full_transitive(new: Schema, earlier: Sequence[Schema]) -> tuple[Incompatibility, ...]:
    """Why `new` may not follow `earlier` (oldest first): FULL_TRANSITIVE, both ways with each."""
    found: list[Incompatibility] = []
    for number, old in enumerate(earlier, 1):
        found += [
            Incompatibility(
                each.path,
                f"新模式读不了第 {number} 版的数据：{each.zh}",
                f"the new schema cannot read data of version {number}: {each.en}",
            )
            for each in unreadable(new, old)
        ]
        found += [
            Incompatibility(
                each.path,
                f"第 {number} 版读不了新模式的数据：{each.zh}",
                f"version {number} cannot read data of the new schema: {each.en}",
            )
            for each in unreadable(old, new)
        ]
    return tuple(found)


def _compare(reader: Shape, writer: Shape, path: str, found: list[Incompatibility]) -> None:
    if isinstance(reader, Nullable):
        reader = reader.value
        writer = writer.value if isinstance(writer, Nullable) else writer
    if isinstance(writer, Nullable):
        found.append(
            Incompatibility(path, "写方可为空，读方不可为空", "written nullable, read non-nullable")
        )
        writer = writer.value
    if _same_type(reader, writer, path, found):
        _compare_inside(reader, writer, path, found)


def _same_type(reader: Value, writer: Value, path: str, found: list[Incompatibility]) -> bool:
    if reader.avro != writer.avro and reader.avro not in _PROMOTIONS.get(writer.avro, ()):
        found.append(
            Incompatibility(
                path,
                f"{writer.avro} 不能按 {reader.avro} 读取",
                f"{writer.avro} cannot be read as {reader.avro}",
            )
        )
        return False
    if reader.logical != writer.logical:
        old, new = writer.logical or "none", reader.logical or "none"
        found.append(
            Incompatibility(
                path,
                f"逻辑类型由 {old} 变为 {new}",
                f"logical type {old} would be read as {new}",
            )
        )
        return False
    return True


def _compare_inside(reader: Value, writer: Value, path: str, found: list[Incompatibility]) -> None:
    """Compare two types of the same kind (or promotable primitives)."""
    if isinstance(reader, (Plain, Fixed)) and isinstance(writer, (Plain, Fixed)):
        _compare_digits(reader, writer, path, found)
    if isinstance(reader, (Fixed, Enum, Record)) and isinstance(writer, (Fixed, Enum, Record)):
        _compare_names(reader, writer, path, found)
    match reader, writer:
        case Fixed(), Fixed() if reader.size != writer.size:
            zh, en = "定长由 {} 变为 {}", "{} bytes cannot be read as {}"
            sizes = (writer.size, reader.size)
            found.append(Incompatibility(path, zh.format(*sizes), en.format(*sizes)))
        case Enum(), Enum():
            _compare_symbols(reader, writer, path, found)
        case Array(), Array():
            _compare(reader.items, writer.items, f"{path}[]", found)
        case Map(), Map():
            _compare(reader.values, writer.values, f"{path}{{}}", found)
        case Record(), Record():
            _compare_fields(reader, writer, path, found)
        case _:
            pass


def _compare_digits(
    reader: Plain | Fixed, writer: Plain | Fixed, path: str, found: list[Incompatibility]
) -> None:
    if reader.logical != "decimal":
        return
    if reader.scale != writer.scale:
        scales = (writer.scale, reader.scale)
        zh = "小数位数由 {} 变为 {}".format(*scales)
        found.append(Incompatibility(path, zh, "scale {} would be read as {}".format(*scales)))
    elif reader.precision < writer.precision:
        digits = (writer.precision, reader.precision)
        zh = "精度由 {} 缩小为 {}".format(*digits)
        en = "precision {} does not fit into {}".format(*digits)
        found.append(Incompatibility(path, zh, en))


def _compare_names(
    reader: Fixed | Enum | Record,
    writer: Fixed | Enum | Record,
    path: str,
    found: list[Incompatibility],
) -> None:
    # The unqualified name counts, as Avro 1.12 says; aliases by full name.
    if _short(reader.name) != _short(writer.name) and writer.name not in reader.aliases:
        found.append(
            Incompatibility(
                path,
                f"类型 {writer.name} 改名为 {reader.name} 而没有别名",
                f"type {writer.name} was renamed to {reader.name} without an alias",
            )
        )


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _compare_symbols(reader: Enum, writer: Enum, path: str, found: list[Incompatibility]) -> None:
    unknown = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
    if unknown and reader.default is None:
        shown = ", ".join(unknown[:10])
        found.append(
            Incompatibility(
                path,
                f"读方没有枚举值 {shown}，也没有默认值",
                f"the reader lacks the symbols {shown} and has no default symbol",
            )
        )


def _compare_fields(
    reader: Record, writer: Record, path: str, found: list[Incompatibility]
) -> None:
    written = {field.name: field for field in writer.fields}
    for field in reader.fields:
        inside = f"{path}.{field.name}" if path else field.name
        source = _source(field, written)
        if source is not None:
            _compare(field.shape, source.shape, inside, found)
        elif not field.has_default:
            found.append(
                Incompatibility(
                    inside,
                    "写方没有该字段，读方又没有默认值",
                    "the writer lacks this field and the reader has no default for it",
                )
            )


def _source(field: Field, written: dict[str, Field]) -> Field | None:
    """The writer's field that `field` reads: by name, else by the first alias that is there."""
    names = (field.name, *field.aliases)
    return next((written[name] for name in names if name in written), None)
