"""The tree of a condition, evaluated in Kleene's three-valued logic.

A comparison with null is unknown (None), as in SQL's WHERE; nothing here knows how the tree was
written or what types its items have.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Has:
    """`has(item)`: the item is not null; never unknown."""

    item: str


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean item standing alone."""

    item: str


@dataclass(frozen=True, slots=True)
class Compare:
    """`item op value`; `value` is typed as the decoded item is."""

    item: str
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class CompareItems:
    """`left op right`, two items of one type."""

    left: str
    op: str
    right: str


@dataclass(frozen=True, slots=True)
class In:
    """`item in [values]`."""

    item: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`!term`."""

    term: Node


@dataclass(frozen=True, slots=True)
class And:
    """`terms[0] && terms[1] && …`."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """`terms[0] || terms[1] || …`."""

    terms: tuple[Node, ...]


Node = Has | Flag | Compare | CompareItems | In | Not | And | Or


def evaluate(node: Node, datum: Mapping[str, Any]) -> bool | None:  # noqa: PLR0911 - one per node
    """The truth of `node` in Kleene's logic: True, False, or None for unknown."""
    match node:
        case Has(item):
            return datum[item] is not None
        case Flag(item):
            value = datum[item]
            return None if value is None else value is True
        case Compare(item, op, value):
            return _compare(datum[item], op, value)
        case CompareItems(left, op, right):
            return _compare(datum[left], op, datum[right])
        case In(item, values):
            value = datum[item]
            return None if value is None else value in values
        case Not(term):
            inner = evaluate(term, datum)
            return None if inner is None else not inner
        case And(terms):
            return _fold((evaluate(term, datum) for term in terms), absorbing=False)
        case Or(terms):
            return _fold((evaluate(term, datum) for term in terms), absorbing=True)


def _compare(left: Any, op: str, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    return OPERATORS[op](left, right)


def _fold(truths: Iterable[bool | None], *, absorbing: bool) -> bool | None:
    # Every term is evaluated, so that an error in a later one is never hidden by an earlier one.
    found = list(truths)
    if any(truth is absorbing for truth in found):
        return absorbing
    return None if any(truth is None for truth in found) else not absorbing
