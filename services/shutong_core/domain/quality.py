"""Quality rules of a dataset: one function per rule, one table of them all.

A rule is made once per schema version and then asked about each record. It answers with the item
at fault or None. The producer service asks before it writes, the lane asks again: who writes to
Kafka without the service is held to the same rules. An exception in a rule counts as refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from shutong_core.domain.catalogue import (
    IdNumberRule,
    QualityRule,
    RequiredRule,
    SumRule,
    UsccRule,
)
from shutong_core.domain.errors import Rejected
from shutong_core.domain.identity import id_number_is_valid, uscc_is_valid
from shutong_core.domain.reasons import Reason
from shutong_core.domain.schemaview import FieldType, SchemaView

#: Gives the name of the item at fault, None if the record is sound.
Check = Callable[[Mapping[str, Any]], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule over one schema version: the reason it refuses with, and its check."""

    reason: Reason
    check: Check


def compile_rule(rule: QualityRule, view: SchemaView) -> Rule:
    """`rule` for records of `view`. Raises Rejected if an item is missing or of a wrong type."""
    reason, make = RULES[type(rule)]
    return Rule(reason, make(rule, view.fields))


def _required(rule: RequiredRule, fields: Mapping[str, FieldType]) -> Check:
    for item in rule.items:
        _field(item, fields)

    def check(datum: Mapping[str, Any]) -> str | None:
        return next((item for item in rule.items if _is_empty(datum[item])), None)

    return check


def _is_empty(value: Any) -> bool:
    """Null, or a text, bytes, list or map without anything in it; 0 and false are values."""
    return value is None or (isinstance(value, str | bytes | list | dict) and not value)


def _id_number(rule: IdNumberRule, fields: Mapping[str, FieldType]) -> Check:
    return _each_valid(rule.items, fields, id_number_is_valid)


def _uscc(rule: UsccRule, fields: Mapping[str, FieldType]) -> Check:
    return _each_valid(rule.items, fields, uscc_is_valid)


def _each_valid(
    items: Iterable[str], fields: Mapping[str, FieldType], is_valid: Callable[[str], bool]
) -> Check:
    for item in items:
        if _field(item, fields).avro != "string":
            raise Rejected(f"quality rule needs text, item {item} is not")

    def check(datum: Mapping[str, Any]) -> str | None:
        # Null passes: whether the item must be there is the business of `required`.
        for item in items:
            value = datum[item]
            if value is not None and not is_valid(value):
                return item
        return None

    return check


def _sum(rule: SumRule, fields: Mapping[str, FieldType]) -> Check:
    for item in (rule.total, *rule.parts):
        field = _field(item, fields)
        whole = field.avro in {"int", "long"} and field.logical is None
        if not whole and field.logical != "decimal":
            raise Rejected(f"quality rule sum needs integers or decimals, item {item} is neither")

    def check(datum: Mapping[str, Any]) -> str | None:
        total = datum[rule.total]
        parts = [datum[item] for item in rule.parts]
        if total is None or any(part is None for part in parts):
            return rule.total
        # Fractions, because Decimal's own `+` rounds to 28 digits.
        return None if sum(map(Fraction, parts)) == Fraction(total) else rule.total

    return check


def _field(item: str, fields: Mapping[str, FieldType]) -> FieldType:
    field = fields.get(item)
    if field is None:
        raise Rejected(f"quality rule names item {item}, which the schema does not have")
    return field


#: The one registry: a new rule is a row model, a maker and a line here.
RULES: Mapping[type[Any], tuple[Reason, Callable[[Any, Mapping[str, FieldType]], Check]]] = {
    RequiredRule: (Reason.REQUIRED_MISSING, _required),
    IdNumberRule: (Reason.BAD_ID_NUMBER, _id_number),
    UsccRule: (Reason.BAD_USCC, _uscc),
    SumRule: (Reason.ITEMS_DISAGREE, _sum),
}
