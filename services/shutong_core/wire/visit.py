"""The rules about types: one walk over a schema's JSON that finds faults and builds its shape."""

from __future__ import annotations

import re
from typing import Any

from shutong_core.domain.catalogue import Item
from shutong_core.wire.findings import (
    DEPTH_MAX,
    FIELDS_MAX,
    FIXED_BYTES_MAX,
    FULL_NAME_MAX,
    SYMBOLS_MAX,
    Reading,
)
from shutong_core.wire.metadata import PROPERTY, read_metadata
from shutong_core.wire.shapes import (
    DECIMAL_PRECISION_MAX,
    LOGICAL_TYPES,
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
    default_fits,
    fixed_precision_max,
)

#: Avro 1.12 "Names": ASCII only; 64 characters, as the catalogue's item names.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_PRIMITIVES = frozenset({"boolean", "int", "long", "float", "double", "bytes", "string"})
_NAMED = frozenset({"record", "enum", "fixed"})
_COMPLEX = _NAMED | {"array", "map"}


class Visitor:
    """One walk over the JSON of a schema that collects findings and builds the shape.

    A type with a finding has no shape (None); the walk goes on beside it.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.found = reading.found
        #: Full name -> (shape, fields inside, depth inside); None while it is being defined.
        self.names: dict[str, tuple[Value, int, int] | None] = {}
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
        self.found(path, "类型写法无效", "a type is a name, an object or a union")
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
        if not isinstance(kind, str) or kind not in _PRIMITIVES | _COMPLEX:
            self.found(
                path,
                "`type` 必须直接写类型名",
                "`type` must directly name a primitive, record, enum, fixed, array or map",
            )
            return None
        if kind in _NAMED:
            return self._named(kind, raw, path, namespace, depth)
        if kind == "array":
            items = self._type(raw.get("items"), f"{path}[]", namespace, depth + 1)
            return items and Array(items)
        if kind == "map":
            values = self._type(raw.get("values"), f"{path}{{}}", namespace, depth + 1)
            return values and Map(values)
        return self._plain(kind, raw, path)

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
        if raw in _PRIMITIVES:
            return Plain(raw)
        if raw == "null":
            self.found(path, 'null 只能用于 ["null", T]', 'null may only stand in ["null", T]')
            return None
        name = raw if "." in raw or not namespace else f"{namespace}.{raw}"
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

    def _plain(self, kind: str, raw: dict[str, Any], path: str) -> Shape | None:
        logical = self._logical(kind, raw, path)
        if logical == "":
            return None
        if logical == "decimal":
            digits = self._decimal(raw, path, DECIMAL_PRECISION_MAX)
            return digits and Plain(kind, logical, *digits)
        return Plain(kind, logical)

    def _logical(self, kind: str, raw: dict[str, Any], path: str) -> str | None:
        """The logical type; None without one, "" if it is not admitted."""
        logical = raw.get("logicalType")
        if logical is None and "logicalType" not in raw:
            return None
        if not isinstance(logical, str) or kind not in LOGICAL_TYPES.get(logical, ()):
            self.found(
                path,
                f"{kind} 不能使用逻辑类型 {str(logical)[:64]}",
                f"logical type `{str(logical)[:64]}` is not admitted on {kind}",
            )
            return ""
        return logical

    def _decimal(
        self, raw: dict[str, Any], path: str, precision_max: int
    ) -> tuple[int, int] | None:
        precision, scale = raw.get("precision"), raw.get("scale", 0)
        if (
            type(precision) is int
            and type(scale) is int
            and 0 < precision <= precision_max
            and 0 <= scale <= precision
        ):
            return precision, scale
        self.found(
            path,
            f"decimal 需要 1–{precision_max} 的 precision 和不大于它的 scale",
            f"a decimal needs precision 1 to {precision_max} and scale 0 to precision",
        )
        return None

    def _named(
        self, kind: str, raw: dict[str, Any], path: str, namespace: str, depth: int
    ) -> Shape | None:
        name = self._full_name(raw, path, namespace)
        if name is None:
            return None
        aliases = self._aliases(raw, path, name.rpartition(".")[0])
        if name in self.names:
            self.found(path, f"类型名 {name} 重复", f"type `{name}` is defined twice")
            return None
        self.names[name] = None
        before, deepest, self.deepest = self.fields, self.deepest, depth
        shape: Value | None
        if kind == "record":
            shape = self._record(raw, path, name, aliases, depth)
        elif kind == "enum":
            shape = self._enum(raw, path, name, aliases)
        else:
            shape = self._fixed(raw, path, name, aliases)
        height, self.deepest = self.deepest - depth, max(deepest, self.deepest)
        if shape is None:
            return None
        self.names[name] = (shape, self.fields - before, height)
        return shape

    def _full_name(self, raw: dict[str, Any], path: str, namespace: str) -> str | None:
        name, own = raw.get("name"), raw.get("namespace", namespace)
        if isinstance(name, str) and isinstance(own, str):
            full = name if "." in name or not own else f"{own}.{name}"
            parts = full.split(".")
            named = len(full) <= FULL_NAME_MAX and all(map(_NAME.match, parts))
            if named and parts[-1] not in _PRIMITIVES | _COMPLEX | {"null"}:
                return full
        self.found(
            path,
            "类型名或命名空间不合规则（ASCII 字母、数字、下划线）",
            "name or namespace breaks Avro's rule (ASCII letters, digits, underscore; "
            "no type keyword)",
        )
        return None

    def _aliases(self, raw: dict[str, Any], path: str, namespace: str | None) -> tuple[str, ...]:
        """Checked aliases; with `namespace` (types, not fields) as full names."""
        aliases = raw.get("aliases", [])
        if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
            self.found(path, "aliases 必须是名称列表", "aliases must be a list of names")
            return ()
        full = []
        for alias in aliases:
            parts = alias.split(".") if namespace is not None else [alias]
            if len(alias) > FULL_NAME_MAX or not all(map(_NAME.match, parts)):
                self.found(path, f"别名 {alias[:64]} 不合规则", f"alias `{alias[:64]}` is no name")
            full.append(f"{namespace}.{alias}" if namespace and len(parts) == 1 else alias)
        return tuple(full)

    def _enum(
        self, raw: dict[str, Any], path: str, name: str, aliases: tuple[str, ...]
    ) -> Enum | None:
        symbols, default = raw.get("symbols"), raw.get("default")
        if (
            not isinstance(symbols, list)
            or not 0 < len(symbols) <= SYMBOLS_MAX
            or not all(isinstance(symbol, str) and _NAME.match(symbol) for symbol in symbols)
            or len(set(symbols)) != len(symbols)
        ):
            self.found(
                path,
                f"symbols 需要 1–{SYMBOLS_MAX} 个互不相同的名称",
                f"symbols must be 1 to {SYMBOLS_MAX} distinct names",
            )
            return None
        if default not in symbols and "default" in raw:
            self.found(path, "枚举默认值不在 symbols 中", "the enum's default is not a symbol")
            return None
        return Enum(name, tuple(symbols), default, aliases)

    def _fixed(
        self, raw: dict[str, Any], path: str, name: str, aliases: tuple[str, ...]
    ) -> Fixed | None:
        size = raw.get("size")
        if type(size) is not int or not 0 < size <= FIXED_BYTES_MAX:
            self.found(
                path,
                f"size 必须为 1–{FIXED_BYTES_MAX}",
                f"size must be 1 to {FIXED_BYTES_MAX}",
            )
            return None
        logical = self._logical("fixed", raw, path)
        if logical is None:
            return Fixed(name, size, aliases=aliases)
        if logical == "":
            return None
        limit = min(fixed_precision_max(min(size, 32)), DECIMAL_PRECISION_MAX)
        digits = self._decimal(raw, path, limit)
        return digits and Fixed(name, size, logical, *digits, aliases=aliases)

    def _record(
        self, raw: dict[str, Any], path: str, name: str, aliases: tuple[str, ...], depth: int
    ) -> Record | None:
        listed = raw.get("fields")
        if not isinstance(listed, list) or not listed:
            self.found(path, "record 至少要有一个字段", "a record must have at least one field")
            return None
        if not self._count(path, len(listed)):
            return None
        fields = [self._field(each, path, name.rpartition(".")[0], depth) for each in listed]
        sound = [each for each in fields if each is not None]
        # Aliases share the names' space: an alias that is also a field lets readers disagree.
        names = [each.name for each in sound] + [a for each in sound for a in each.aliases]
        doubled = sorted({each for each in names if names.count(each) > 1})
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

    def _field(self, raw: Any, above: str, namespace: str, depth: int) -> Field | None:
        name = raw.get("name") if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or not isinstance(name, str) or not _NAME.match(name):
            self.found(
                above,
                "字段名不合规则（ASCII 字母、数字、下划线）",
                "a field needs a name of ASCII letters, digits, underscore",
            )
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
            self.found(path, "order 无效", "order must be ascending, descending or ignore")
        shape = self._type(raw.get("type"), path, namespace, depth + 1)
        aliases = self._aliases(raw, path, None)
        self._metadata(raw, path, top=depth == 1)
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
        except ValueError as error:
            self.found(
                path,
                f"属性 {PROPERTY}（信息项目录）：{error}",
                f"property `{PROPERTY}` (catalogue entry of the item): {error}",
            )
            return
        if isinstance(metadata, Item):
            self.reading.items[path] = metadata
        else:
            self.reading.delivered[path] = metadata
