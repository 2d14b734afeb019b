"""Describes the decision on one schema version to the optional compiled kernel, in plain values.

What the kernel has no form for is handed to it as a function of Python's own; what it cannot do at
all raises `CannotCompile`, and the schema version is then decided by the pure path alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from shutong_broker.policy.checkgen import CannotCompile
from shutong_broker.policy.decideneeds import Layout, layout_of, placeable
from shutong_broker.policy.masks import band_labels
from shutong_broker.policy.minors import DAYS
from shutong_broker.policy.model import Operation, Withheld
from shutong_broker.policy.nativecondition import native_condition
from shutong_broker.policy.plan import DatasetPlan, GrantPlan, ProjectionPlan, SchemaPlan
from shutong_broker.policy.rawvalues import avro_text, band_edges, decimal_steps, raw_mask
from shutong_broker.policy.walkgen import values_bound
from shutong_core.domain.catalogue import IdNumberRule, QualityRule, RequiredRule, SumRule
from shutong_core.domain.grants import Band, Hash, Keep, Mask
from shutong_core.domain.reasons import Reason
from shutong_core.wire.framing import frame_prefix, guid_header
from shutong_core.wire.shapes import (
    DECIMAL_PRECISION_MAX,
    RANGES,
    Array,
    Enum,
    Fixed,
    Map,
    Nullable,
    Plain,
    Record,
    Shape,
    Value,
    inner,
)
from shutong_core.wire.walk import VALUES_MAX

#: Numbers of the kernel have 128 bits; sums stay below this, so that none overflows.
_WHOLE_BELOW = 1 << 126
_PRIMITIVES = frozenset({"boolean", "float", "double", "bytes"})


def describe(dataset: DatasetPlan, plan: SchemaPlan, roles: Sequence[str]) -> dict[str, Any]:
    """All that the kernel needs but what heads say; see `services/shutong_kernel/src/plan.rs`.

    `roles` are the region items in the order in which the matcher looks at them. Raises
    CannotCompile, or Rejected where the list contradicts itself.
    """
    if not dataset.in_force or plan.secret:
        raise CannotCompile("every record is refused")
    return _Description(dataset, plan).made(roles)


class _Description:
    """One description in the making."""

    def __init__(self, dataset: DatasetPlan, plan: SchemaPlan) -> None:
        self.dataset = dataset
        self.plan = plan
        self.layout: Layout = layout_of(plan)
        self.projections: dict[int, int] = {}
        self.projected: list[tuple[bytes, tuple[Any, ...]]] = []

    def made(self, roles: Sequence[str]) -> dict[str, Any]:
        plan, record = self.plan, self.plan.schema.record
        keys = [key for key, of in self.dataset.schemas.items() if of is plan]
        rules = [each for rule in self.dataset.dataset.quality for each in self.rules(rule)]
        grants = [self.grant(each) for each in placeable(plan, self.layout)]
        return {
            "dataset": self.dataset.dataset.id,
            "prefixes": [frame_prefix(key) for key in keys if isinstance(key, int)],
            "guids": [guid_header(key)[1] for key in keys if isinstance(key, str)],
            "shapes": tuple(shape_of(field.shape) for field in record.fields),
            "limit": VALUES_MAX - values_bound(record),
            "lanes": self.dataset.lanes,
            "key": self.key(),
            "subjects": self.numbers(plan.subjects),
            "token_key": self.dataset.token_key,
            "id_key": self.dataset.id_key,
            "operations": self.operations(),
            "provider": self.text(plan.provider_item),
            "rules": tuple(rule for rule in rules if rule[0] != "call"),
            "calls": tuple(rule for rule in rules if rule[0] == "call"),
            "roles": self.numbers(roles),
            "births": tuple(self.birth(item) for item in plan.births),
            "tells_age": plan.tells_age,
            "projections": tuple(self.projected),
            "grants": tuple(grants),
        }

    def number(self, item: str) -> int:
        return self.layout.names[item]

    def numbers(self, items: Sequence[str]) -> tuple[int, ...]:
        return tuple(self.number(item) for item in items)

    def text(self, item: str | None) -> int:
        """A text item's number."""
        if item is None or not self.layout.is_text(item):
            raise CannotCompile(f"{item} is not text")
        return self.number(item)

    def shape(self, item: str) -> Shape:
        return self.layout.shapes[self.number(item)]

    def key(self) -> tuple[Any, ...]:
        rule = self.plan.key
        if rule is None:
            raise CannotCompile("every record is refused")
        if rule.as_text:
            return ("text", self.number(rule.items[0]))
        return ("slices", self.numbers(rule.items))

    def operations(self) -> tuple[Any, ...] | None:
        item = self.plan.operation_item
        if item is None:
            return None
        shape = inner(self.shape(item))
        if isinstance(shape, Enum):
            symbols = [
                (shape.symbols.index(told), told.number)
                for told in Operation
                if told in shape.symbols
            ]
            return ("symbols", self.number(item), symbols)
        texts = [(told.value.encode(), told.number) for told in Operation]
        return ("texts", self.text(item), texts)

    def rules(self, rule: QualityRule) -> Iterator[tuple[Any, ...]]:
        """One quality rule, see `domain.quality`."""
        if isinstance(rule, SumRule):
            yield self.sum(rule)
        elif isinstance(rule, RequiredRule):
            for item in rule.items:
                shape = inner(self.shape(item))
                holds = isinstance(shape, Array | Map) or shape in (Plain("string"), Plain("bytes"))
                yield ("required", self.number(item), holds)
        else:
            form = "id_number" if isinstance(rule, IdNumberRule) else "uscc"
            for item in rule.items:
                yield (form, self.text(item))

    def sum(self, rule: SumRule) -> tuple[Any, ...]:
        items = (rule.total, *rule.parts)
        shapes = [inner(self.shape(item)) for item in items]
        steps = decimal_steps(shapes)
        if sum(_below(shape) * step for shape, step in zip(shapes, steps, strict=True)) > (
            _WHOLE_BELOW
        ):
            return ("call", adds_up, tuple(steps), self.numbers(items))
        total, *parts = zip(self.numbers(items), steps, strict=True)
        return ("sum", total, tuple(parts))

    def birth(self, item: str) -> tuple[Any, ...]:
        """How the item tells a person under 14."""
        logical = inner(self.shape(item)).logical or ""
        number = self.number(item)
        if logical == "date":
            return ("date", number)
        if logical in DAYS:
            day = DAYS[logical]
            return ("moment", number, day, RANGES["long", logical][1] - day // 3)
        return ("text" if self.layout.is_text(item) else "unreadable", number)

    def grant(self, grant: GrantPlan) -> dict[str, Any]:
        if grant.projection is None:
            raise CannotCompile("a grant without projection")
        told = grant.grant.id
        guarded = self.plan.tells_age and not grant.grant.minors
        condition = None
        if grant.condition is not None:
            condition = native_condition(grant.condition.root, self.layout)
        return {
            "id": told,
            "condition": condition,
            "not_met": Withheld(told, Reason.CONDITION_NOT_MET),
            "minor": Withheld(told, Reason.MINOR_NOT_GRANTED) if guarded else None,
            "projection": self.projection(grant, grant.projection),
            "hide": None if grant.key_clear else grant.secret,
            "events": grant.cloudevents.headers if grant.cloudevents is not None else None,
        }

    def projection(self, grant: GrantPlan, plan: ProjectionPlan) -> int:
        """The number of the grant's projection; shared where the plan is."""
        number = self.projections.get(id(plan))
        if number is None:
            pieces: list[tuple[Any, ...]] = []
            for item, masker in plan.columns:
                at = self.number(item)
                mask = grant.grant.items[item]
                if masker is not None and not isinstance(mask, str):
                    pieces.append(self.masked(at, mask, grant.secret))
                elif pieces and pieces[-1][0] == "slice" and pieces[-1][2] == at:
                    pieces[-1] = ("slice", pieces[-1][1], at + 1)
                else:
                    pieces.append(("slice", at, at + 1))
            number = self.projections[id(plan)] = len(self.projected)
            self.projected.append((frame_prefix(plan.delivered_id), tuple(pieces)))
        return number

    def masked(self, at: int, mask: Mask, secret: bytes) -> tuple[Any, ...]:
        """A masked item; the masks that the kernel does not know stay Python's."""
        shape = self.layout.shapes[at]
        value, nullable = inner(shape), isinstance(shape, Nullable)
        raw = raw_mask(mask, value, nullable, secret)  # refuses what does not fit
        match mask:
            case Keep(first=first, last=last):
                return ("masked", at, ("keep", first, last))
            case Hash():
                return ("masked", at, ("hash", secret))
            case Band(by=by) if by is not None:
                return ("masked", at, (by,))
            case Band(bounds=bounds) if bounds is not None:
                edges = band_edges(bounds, value)
                real = value.avro in ("float", "double")
                if real or all(abs(edge) < _WHOLE_BELOW for edge in edges):
                    form = "real_band" if real else "whole_band"
                    labels = [avro_text(each.encode(), nullable) for each in band_labels(bounds)]
                    return ("masked", at, (form, edges, labels))
        return ("call", at, raw)


def adds_up(values: Sequence[int | None], steps: Sequence[int]) -> bool:
    """Whether the first of the values, each times its step, is the sum of the others."""
    if None in values:
        return False
    total, *parts = (
        value * step for value, step in zip(values, steps, strict=True) if value is not None
    )
    return sum(parts) == total


def _below(shape: Value) -> int:
    """What the magnitude of an integer or decimal item stays below, or is at most."""
    if isinstance(shape, Plain | Fixed) and shape.logical == "decimal":
        return int(10**shape.precision)
    return 1 << 63


def shape_of(shape: Shape) -> tuple[Any, ...]:  # noqa: PLR0911 - one per type
    """A type as the kernel reads it, see `services/shutong_kernel/src/read.rs`."""
    match shape:
        case Nullable(value):
            return ("nullable", shape_of(value))
        case Record(fields=fields):
            return ("record", tuple(shape_of(field.shape) for field in fields))
        case Array(items=items):
            return ("array", shape_of(items), values_bound(items))
        case Map(values=values):
            return ("map", shape_of(values), values_bound(values))
        case Enum(symbols=symbols):
            return ("symbol", len(symbols))
        case Fixed() if shape.logical == "decimal" and shape.size <= 64:
            return ("fixed_decimal", shape.size, _bound(shape))
        case Fixed(logical=None):
            return ("fixed", shape.size)
        case Plain():
            return _plain(shape)
    raise CannotCompile(f"no form for {shape}")


def _plain(shape: Plain) -> tuple[Any, ...]:
    if shape.avro in ("int", "long"):
        return ("number", *RANGES[shape.avro, shape.logical])
    if shape.logical == "decimal":
        return ("decimal", _bound(shape))
    if shape.avro == "string" and shape.logical in (None, "uuid"):
        return (shape.logical or "text",)
    if shape.logical is None and shape.avro in _PRIMITIVES:
        return (shape.avro,)
    raise CannotCompile(f"no form for {shape}")


def _bound(shape: Plain | Fixed) -> int:
    if shape.precision > DECIMAL_PRECISION_MAX:
        raise CannotCompile("a decimal has too many digits")
    return int(10**shape.precision)
