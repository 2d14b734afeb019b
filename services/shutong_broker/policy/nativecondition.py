"""Conditions as the optional compiled kernel reads them; those it has no form for stay Python's."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from shutong_broker.policy.conditiongen import ConditionText, items_of
from shutong_broker.policy.decideneeds import Layout
from shutong_broker.policy.emit import Emission
from shutong_broker.policy.rawvalues import raw_literal
from shutong_broker.policy.truth import And, Compare, CompareItems, Flag, Has, In, Node, Not, Or
from shutong_core.wire.shapes import Fixed, Plain, inner

_WHOLE_BELOW = 1 << 127
#: Whole numbers up to here are floats without loss.
_EXACT_MAX = 1 << 53


class _NoForm(Exception):  # noqa: N818 - a choice of implementation, not an error
    """The kernel has no form for a part of the condition."""


def native_condition(root: Node, layout: Layout) -> tuple[Any, ...]:
    """The condition as a tree of tuples, or as a call of a generated function."""
    try:
        return _tree(root, layout)
    except _NoForm:
        return _call(root, layout)


def _call(root: Node, layout: Layout) -> tuple[Any, ...]:
    """`("call", function, literals, items)`; the function takes the items' raw values."""
    items = sorted(items_of(root))
    shapes = {name: layout.shapes[index] for name, index in layout.names.items()}
    writer = ConditionText(shapes, {item: place for place, item in enumerate(items)})
    out = Emission({})
    with out.block("def condition(r, k):"):
        out(f"return {writer.is_true(root)}")
    numbers = tuple(layout.names[item] for item in items)
    return ("call", out.build()["condition"], tuple(writer.literals), numbers)


def _tree(node: Node, layout: Layout) -> tuple[Any, ...]:  # noqa: PLR0911, C901 - one per node
    names = layout.names
    match node:
        case Has(item):
            return ("has", names[item])
        case Flag(item):
            return ("flag", names[item])
        case Compare(item, op, value):
            literal = _literal(value, layout, item)
            if literal is None:
                raise _NoForm
            return ("compare", names[item], op, literal)
        case CompareItems(left, op, right):
            sides = [inner(layout.shapes[names[item]]) for item in (left, right)]
            if len({side.scale for side in sides if isinstance(side, Plain | Fixed)}) > 1:
                raise _NoForm
            return ("items", names[left], op, names[right])
        case In(item, values):
            literals = [_literal(value, layout, item) for value in values]
            return ("in", names[item], tuple(each for each in literals if each is not None))
        case Not(term):
            return ("not", _tree(term, layout))
        case And(terms):
            return ("and", tuple(_tree(term, layout) for term in terms))
        case Or(terms):
            return ("or", tuple(_tree(term, layout) for term in terms))


def _literal(value: Any, layout: Layout, item: str) -> tuple[str, Any] | None:
    """Kind and raw value of a literal; None for one between two of the item's steps."""
    shape = inner(layout.shapes[layout.names[item]])
    raw: Any = raw_literal(value, shape)
    if isinstance(raw, bytes):
        return ("bytes", raw)
    if isinstance(raw, Fraction):
        return None
    if shape.avro in ("float", "double"):
        if isinstance(raw, int) and abs(raw) > _EXACT_MAX:
            raise _NoForm
        return ("real", float(raw))
    if not isinstance(raw, int) or abs(raw) >= _WHOLE_BELOW:
        raise _NoForm
    return ("whole", int(raw))
