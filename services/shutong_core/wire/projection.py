"""The schema of what a grant delivers, made from a dataset's schema and the grant's items.

Only listed items appear, in schema order, with nothing of the source but their types and titles:
no documentation, aliases or grades. Equal projections have equal texts, so they share one id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal

from shutong_core.domain.canonical import canonical
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Band, Drop, Hash, Keep, Mask
from shutong_core.domain.schemaview import FieldType
from shutong_core.wire.metadata import PROPERTY
from shutong_core.wire.schemas import Schema, parse_schema_text

GrantItems = Mapping[str, Literal["clear"] | Mask]

_NUMBERS: Final = frozenset({"int", "long", "float", "double"})
#: What decides how a type is read; everything else stays behind.
_TYPE_KEYS: Final = ("type", "logicalType", "precision", "scale", "size", "symbols")


def project_schema(schema: Schema, items: GrantItems, dataset_id: str) -> Schema:
    """The delivered schema of `items` of `schema`.

    A masked item becomes a string, nullable as its source; a dropped one is absent. The record
    keeps its name, its namespace gets `.p<first 8 hex digits of the projection's SHA-256>`.
    Items that this schema version does not have are left out: they cannot flow from it.
    Raises Rejected if a mask does not fit its item, if nothing is left, or if `schema` is itself
    a delivered one.
    """
    if not schema.items:
        raise Rejected(f"schema {schema.name} is not a dataset's: it carries no items")
    unfit = [
        f"mask {mask.mask} does not fit item {name}"
        for name, mask in items.items()
        if mask != "clear" and name in schema.fields and not mask_fits(mask, schema.fields[name])
    ]
    if unfit:
        raise Rejected("; ".join(unfit))
    namespace, _, name = schema.name.rpartition(".")
    plain = _Emission(schema, items, namespace).record(name)
    if not plain["fields"]:
        raise Rejected(f"no item of schema {schema.name} is left to deliver to the grant")
    digest = hashlib.sha256(canonical([dataset_id, plain])).hexdigest()
    own = f"{namespace}.p{digest[:8]}" if namespace else f"p{digest[:8]}"
    return parse_schema_text(canonical(_Emission(schema, items, own).record(name)))


def mask_fits(mask: Mask, field: FieldType) -> bool:
    """Whether `mask` may stand on an item of this type.

    keep: text; band: numbers and decimals by bounds, dates by year or month (an instant has no
    year without a time zone); hash and drop: anything.
    """
    match mask:
        case Keep():
            return (field.avro, field.logical) == ("string", None)
        case Band(bounds=None):
            return field.logical == "date"
        case Band():
            return field.logical == "decimal" or (field.logical is None and field.avro in _NUMBERS)
        case Hash() | Drop():
            return True


class _Emission:
    """One pass that writes the delivered record under namespace `own`.

    A named type is defined where it is first used, because the field that defined it in the
    source may be masked or dropped. Types of the source record's namespace move along with it.
    """

    def __init__(self, schema: Schema, items: GrantItems, own: str) -> None:
        self.schema = schema
        self.items = items
        self.source = schema.name.rpartition(".")[0]
        self.own = own
        #: Full name in the source -> definition.
        self.known: dict[str, dict[str, Any]] = {}
        self.written: set[str] = set()

    def record(self, name: str) -> dict[str, Any]:
        """The delivered record."""
        fields = []
        for raw in self.schema.parsed["fields"]:
            self._learn(raw["type"], self.source)
            how = self.items.get(raw["name"])
            if how is not None and not isinstance(how, Drop):
                fields.append(self._item(raw, how))
        delivered = {"type": "record", "name": name, "fields": fields}
        return {**delivered, "namespace": self.own} if self.own else delivered

    def _item(self, raw: dict[str, Any], how: Literal["clear"] | Mask) -> dict[str, Any]:
        name = raw["name"]
        shown = "clear" if how == "clear" else how.mask
        nullable = self.schema.fields[name].nullable
        field: dict[str, Any] = {
            "name": name,
            "type": ["null", "string"] if nullable else "string",
            PROPERTY: {"title": self.schema.items[name].title, "mask": shown},
        }
        if how == "clear":
            field["type"] = self._type(raw["type"], self.source, self.own)
        if "default" in raw and (nullable or how == "clear"):
            field["default"] = raw["default"]
        return field

    def _learn(self, raw: Any, namespace: str) -> None:
        """Note the named types that `raw` defines."""
        if isinstance(raw, list):
            self._learn(raw[1], namespace)
        elif isinstance(raw, dict):
            if raw["type"] in ("record", "enum", "fixed"):
                full = _full_name(raw["name"], raw.get("namespace", namespace))
                self.known[full] = raw
                namespace = full.rpartition(".")[0]
            for field in raw.get("fields", ()):
                self._learn(field["type"], namespace)
            self._learn(raw.get("items", raw.get("values")), namespace)

    def _type(self, raw: Any, namespace: str, own: str) -> Any:
        """`raw`, standing in `namespace` of the source, as it is written inside `own`."""
        if isinstance(raw, list):
            return [self._type(branch, namespace, own) for branch in raw]
        if isinstance(raw, str):
            full = _full_name(raw, namespace)
            if full not in self.known:
                return raw  # a primitive
            return self._named(full, own)
        if raw["type"] in ("record", "enum", "fixed"):
            return self._named(_full_name(raw["name"], raw.get("namespace", namespace)), own)
        kept: dict[str, Any] = {key: raw[key] for key in _TYPE_KEYS if key in raw}
        for key in ("items", "values"):
            if key in raw:
                kept[key] = self._type(raw[key], namespace, own)
        return kept

    def _named(self, full: str, own: str) -> Any:
        """The definition of a named type at its first use, its name afterwards."""
        source, _, name = full.rpartition(".")
        target = self.own if source == self.source else source
        if full in self.written:
            return _full_name(name, target)
        self.written.add(full)
        raw = self.known[full]
        kept: dict[str, Any] = {key: raw[key] for key in _TYPE_KEYS if key in raw}
        kept["name"] = name
        if raw["type"] == "enum" and "default" in raw:
            kept["default"] = raw["default"]
        if target != own:
            kept["namespace"] = target
        if raw["type"] == "record":
            kept["fields"] = [
                {
                    "name": field["name"],
                    "type": self._type(field["type"], source, target),
                    **({"default": field["default"]} if "default" in field else {}),
                }
                for field in raw["fields"]
            ]
        return kept


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
