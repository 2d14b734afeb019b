"""The rules about types: one walk over a schema's JSON that finds faults and builds its shape."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from shutong_core.domain.catalogue import Item
from shutong_core.wire.findings import DEPTH_MAX, FIELDS_MAX, Reading
from shutong_core.wire.leaftypes import (
    PRIMITIVES,
    RuleBrokenError,
    field_aliases,
    full_name,
    is_name,
    read_enum,
    read_fixed,
    read_plain,
    type_aliases,
)
from shutong_core.wire.metadata import PROPERTY, WrongMetadata, read_metadata
from shutong_core.wire.shapes import (
    Array,
    Field,
    Map,
    Nullable,
    Plain,
    Record,
    Shape,
    Value,
    default_fits,
)


class Visitor:
    """One walk over the JSON of a schema that collects findings and builds the shape.

    A type with a finding has no shape (None); the walk goes on beside it.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.found = reading.found
        #: Full name -> (shape, fields inside, depth inside); None while it is being defined.
        self.names: dict[str, tuple[Value, int, int] | None] = {}
        self.broken: set[str] = set()
        self.fields = 0
        self.deepest = 0

    def top(self, parsed: dict[str, Any]) -> None:
        """Lint the whole schema into the reading."""
        shape = self._type(parsed, "", "", 1)
        if isinstance(shape, Record) and not self.reading.findings:
            self.reading.record = shape
        if self.reading.items and self.reading.delivered:
            self.found(
                "",
                "目录信息与投放信息不能混用",
                "items of a dataset and of a delivered schema are mixed",
            )

    def _type(self, raw: Any, path: str, namespace: str, depth: int) -> Shape | None:
        """The shape of one type that stands at nesting `depth`."""
        if not self._shallow(path, depth):
            return None
        if isinstance(raw, list):
            return self._union(raw, path, namespace, depth)
        if isinstance(raw, dict):
            return self._object(raw, path, namespace, depth)
        if isinstance(raw, str):
            return self._word(raw, path, namespace, depth)
        self.found(
            path,
            "缺少类型，或写法无效（应为类型名、对象或联合）",
            "the type is missing or wrong: a type is a name, an object or a union",
        )
        return None

    def _shallow(self, path: str, depth: int) -> bool:
        self.deepest = max(self.deepest, depth)
        if depth > DEPTH_MAX:
            self.found(path, f"嵌套超过 {DEPTH_MAX} 层", f"nested deeper than {DEPTH_MAX} levels")
        return depth <= DEPTH_MAX

    def _object(self, raw: dict[str, Any], path: str, namespace: str, depth: int) -> Shape | None:
        for key in raw:
            if key.startswith("__"):
                self.found(path, f"不允许的键 {key[:64]}", f"key `{key[:64]}` is not allowed")
        kind = raw.get("type")
        if kind in ("record", "enum", "array", "map") and "logicalType" in raw:
            self.found(path, f"{kind} 不能使用逻辑类型", f"no logical type is admitted on {kind}")
        try:
            if kind in ("record", "enum", "fixed"):
                return self._named(kind, raw, path, namespace, depth)
            if kind == "array":
                items = self._type(raw.get("items"), f"{path}[]", namespace, depth + 1)
                return items and Array(items)
            if kind == "map":
                values = self._type(raw.get("values"), f"{path}{{}}", namespace, depth + 1)
                return values and Map(values)
            return read_plain(raw)
        except RuleBrokenError as broken:
            self.found(path, broken.zh, broken.en)
            return None

    def _union(self, raw: list[Any], path: str, namespace: str, depth: int) -> Shape | None:
        if len(raw) != 2 or raw[0] != "null" or raw[1] == "null" or isinstance(raw[1], list):
            self.found(
                path,
                '联合类型只能写成 ["null", T]',
                'a union must be exactly ["null", T]',
            )
            return None
        value = self._type(raw[1], path, namespace, depth)
        return None if value is None or isinstance(value, Nullable) else Nullable(value)

    def _word(self, raw: str, path: str, namespace: str, depth: int) -> Shape | None:
        """A type given by its name: primitive, or defined before."""
        if raw in PRIMITIVES:
            return Plain(raw)
        if raw == "null":
            self.found(path, 'null 只能用于 ["null", T]', 'null may only stand in ["null", T]')
            return None
        name = raw if "." in raw or not namespace else f"{namespace}.{raw}"
        if name in self.broken:
            return None  # reported where it is defined
        if name not in self.names:
            self.found(path, f"未定义的类型 {raw[:64]}", f"type `{raw[:64]}` is not defined before")
            return None
        known = self.names[name]
        if known is None:
            self.found(path, f"类型 {raw[:64]} 引用了自身", f"type `{raw[:64]}` is recursive")
            return None
        shape, fields, height = known
        self._count(path, fields)
        return shape if self._shallow(path, depth + height) else None

    def _named(
        self, kind: str, raw: dict[str, Any], path: str, namespace: str, depth: int
    ) -> Shape | None:
        name = full_name(raw, namespace)
        if name in self.names or name in self.broken:
            raise RuleBrokenError(f"类型名 {name} 重复", f"type `{name}` is defined twice")
        aliases = type_aliases(raw, name)
        self.names[name] = None
        before, deepest, self.deepest = self.fields, self.deepest, depth
        shape: Value | None = None
        try:
            if kind == "record":
                shape = self._record(raw, path, name, aliases, depth)
            elif kind == "enum":
                shape = read_enum(raw, name, aliases)
            else:
                shape = read_fixed(raw, name, aliases)
        finally:
            height, self.deepest = self.deepest - depth, max(deepest, self.deepest)
            del self.names[name]
            if shape is None:
                self.broken.add(name)
            else:
                self.names[name] = (shape, self.fields - before, height)
        return shape

    def _record(
        self, raw: dict[str, Any], path: str, name: str, aliases: tuple[str, ...], depth: int
    ) -> Record | None:
        listed = raw.get("fields")
        if not isinstance(listed, list) or not listed:
            raise RuleBrokenError(
                "record 至少要有一个字段", "a record must have at least one field"
            )
        if not self._count(path, len(listed)):
            return None
        namespace = name.rpartition(".")[0]
        fields = [
            self._field(each, number, path, namespace, depth)
            for number, each in enumerate(listed, start=1)
        ]
        sound = [each for each in fields if each is not None]
        # Aliases share the names' space: an alias that is also a field lets readers disagree.
        names = Counter(name for each in sound for name in (each.name, *each.aliases))
        doubled = [name for name, times in names.items() if times > 1]
        for each in doubled:
            self.found(path, f"字段名 {each} 重复", f"field name or alias `{each}` is used twice")
        if doubled or len(sound) != len(listed):
            return None
        return Record(name, tuple(sound), aliases)

    def _count(self, path: str, fields: int) -> bool:
        """Add `fields`; False beyond the limit, which is reported once."""
        over = self.fields > FIELDS_MAX
        self.fields += fields
        if self.fields > FIELDS_MAX and not over:
            self.found(path, f"字段总数超过 {FIELDS_MAX}", f"more than {FIELDS_MAX} fields in all")
        return self.fields <= FIELDS_MAX

    def _nameless(self, raw: Any, number: int, above: str, namespace: str, depth: int) -> None:
        """Report a field without a good name, by its place, and what is wrong with its type."""
        place = f"{above}.fields[{number}]".removeprefix(".")
        name = raw.get("name") if isinstance(raw, dict) else None
        shown = re.sub(r"[^\w.-]", "?", name[:64]) if isinstance(name, str) else ""
        zh, en = (f" {shown} ", f" `{shown}`") if shown else ("缺少或", "")
        self.found(
            above,
            f"第 {number} 个字段的名称{zh}不合规则：用 1–64 个 ASCII 字母、数字、下划线，"
            f"不以数字开头；中文名写在属性 {PROPERTY} 的 title 中",
            f"field {number}{en}: a field needs a name of 1 to 64 ASCII letters, digits,"
            f" underscores that begins with no digit; other text goes into title of `{PROPERTY}`",
        )
        if isinstance(raw, dict) and "type" in raw:
            self._type(raw["type"], place, namespace, depth + 1)

    def _field(self, raw: Any, number: int, above: str, namespace: str, depth: int) -> Field | None:
        name = raw.get("name") if isinstance(raw, dict) else None
        if not isinstance(name, str) or not is_name(name):
            self._nameless(raw, number, above, namespace, depth)
            return None
        path = f"{above}.{name}" if above else name
        for key in raw:
            if key.startswith("__") or key == "logicalType":
                self.found(
                    path,
                    f"字段上不允许 {key[:64]}（logicalType 写在类型里）",
                    f"key `{key[:64]}` is not allowed on a field (logicalType goes into its type)",
                )
        if raw.get("order", "ascending") not in ("ascending", "descending", "ignore"):
            self.found(
                path,
                "order 应为 ascending、descending 或 ignore",
                "order must be ascending, descending or ignore",
            )
        shape = self._type(raw.get("type"), path, namespace, depth + 1)
        self._metadata(raw, path, top=depth == 1)
        try:
            aliases = field_aliases(raw)
        except RuleBrokenError as broken:
            self.found(path, broken.zh, broken.en)
            return None
        if shape is None:
            return None
        if "default" in raw and not default_fits(shape, raw["default"]):
            self.found(
                path,
                '默认值与类型不符（["null", T] 的默认值只能是 null）',
                "the default does not fit the type (of a union: its first branch, null)",
            )
        return Field(name, shape, "default" in raw, aliases)

    def _metadata(self, raw: dict[str, Any], path: str, *, top: bool) -> None:
        if not top:
            if PROPERTY in raw:
                self.found(
                    path,
                    f"属性 {PROPERTY} 只能用于顶层信息项",
                    f"property `{PROPERTY}` belongs on top-level fields only",
                )
            return
        try:
            metadata = read_metadata(raw.get(PROPERTY))
        except WrongMetadata as error:
            for zh, en in error.told:
                self.found(
                    path,
                    f"属性 {PROPERTY}（信息项目录）{zh}",
                    f"property `{PROPERTY}` (catalogue entry of the item) {en}",
                )
            return
        if isinstance(metadata, Item):
            self.reading.items[path] = metadata
        else:
            self.reading.delivered[path] = metadata
