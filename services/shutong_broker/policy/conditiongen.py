"""Generates a condition as one Python expression over raw values.

Kleene's logic needs no third value in the text: each node has an expression for "is true" and one
for "is false", and unknown is what is neither. In the text: `r` the record's values, `k` the
condition's literals, so that conditions which differ in their literals alone share one text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shutong_broker.policy.rawvalues import decimal_steps, raw_literal
from shutong_broker.policy.truth import (
    And,
    Compare,
    CompareItems,
    Flag,
    Has,
    In,
    Node,
    Not,
    Or,
)
from shutong_core.wire.shapes import Nullable, Shape, inner

_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def items_of(node: Node) -> frozenset[str]:
    """The items that `node` looks at."""
    match node:
        case Has(item) | Flag(item) | Compare(item) | In(item):
            return frozenset({item})
        case CompareItems(left, _, right):
            return frozenset({left, right})
        case Not(term):
            return items_of(term)
        case And(terms) | Or(terms):
            return frozenset().union(*map(items_of, terms))


@dataclass(slots=True)
class ConditionText:
    """Writes conditions over `shapes`; `places` says where in `r` an item's raw value is."""

    shapes: Mapping[str, Shape]
    places: Mapping[str, int]
    literals: list[Any] = field(default_factory=list)

    def is_true(self, node: Node) -> str:
        """An expression that is true if and only if `node` is."""
        return self._text(node, True)

    def _text(self, node: Node, wanted: bool) -> str:  # noqa: PLR0911 - one per node
        match node:
            case Has(item):
                return f"{self._value(item)} is {'not ' if wanted else ''}None"
            case Flag(item):
                return f"{self._value(item)} == {int(wanted)}"
            case Compare(item, op, value):
                literal = self._literal(raw_literal(value, inner(self.shapes[item])))
                return self._known([item], f"{self._value(item)} {_op(op, wanted)} {literal}")
            case CompareItems(left, op, right):
                sides = self._sides(left, right)
                return self._known([left, right], f"{sides[0]} {_op(op, wanted)} {sides[1]}")
            case In(item, values):
                shape = inner(self.shapes[item])
                literal = self._literal(frozenset(raw_literal(v, shape) for v in values))
                found = f"{self._value(item)} {'in' if wanted else 'not in'} {literal}"
                return self._known([item], found)
            case Not(term):
                return self._text(term, not wanted)
            case And(terms):
                return self._joined(terms, "and" if wanted else "or", wanted)
            case Or(terms):
                return self._joined(terms, "or" if wanted else "and", wanted)

    def _joined(self, terms: Sequence[Node], word: str, wanted: bool) -> str:
        return "(" + f" {word} ".join(self._text(term, wanted) for term in terms) + ")"

    def _known(self, items: Sequence[str], comparison: str) -> str:
        """The comparison, false where one of its items is null."""
        present = [
            f"{self._value(item)} is not None"
            for item in items
            if isinstance(self.shapes[item], Nullable)
        ]
        return f"({' and '.join([*present, comparison])})"

    def _sides(self, left: str, right: str) -> tuple[str, str]:
        """Both items' values; decimals of different scale are brought to one."""
        shapes = [inner(self.shapes[left]), inner(self.shapes[right])]
        texts = [self._value(left), self._value(right)]
        if shapes[0].logical == "decimal":
            texts = [
                text if step == 1 else f"{text} * {self._literal(step)}"
                for text, step in zip(texts, decimal_steps(shapes), strict=True)
            ]
        return texts[0], texts[1]

    def _value(self, item: str) -> str:
        return f"r[{self.places[item]}]"

    def _literal(self, value: Any) -> str:
        self.literals.append(value)
        return f"k[{len(self.literals) - 1}]"


def _op(op: str, wanted: bool) -> str:
    # No raw value is NaN, so the opposite of a comparison is the other comparison.
    return op if wanted else _OPPOSITE[op]
