"""Raw values are masked and compared as the values they stand for."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from shutong_broker.policy.conditiongen import ConditionText
from shutong_broker.policy.masks import keep
from shutong_broker.policy.rawvalues import avro_text, raw_mask
from shutong_broker.policy.truth import (
    OPERATORS,
    And,
    Compare,
    CompareItems,
    Node,
    Not,
    Or,
    evaluate,
)
from shutong_core.domain.grants import Keep
from shutong_core.wire.shapes import Nullable, Plain, Shape

TEXTS = ("", "a", "ab", "abc", "abcdef", "示", "示例", "示例甲", "a示例乙b")
SHAPES: dict[str, Shape] = {"a": Nullable(Plain("int")), "b": Nullable(Plain("int"))}


@pytest.mark.parametrize("nullable", [False, True])
def test_keep_is_the_same_on_bytes_and_on_text(nullable: bool) -> None:
    for first, last, text in product(range(4), range(4), TEXTS):
        masked = raw_mask(Keep(mask="keep", first=first, last=last), Plain("string"), nullable, b"")
        expected = keep(text, first, last).encode()
        assert masked(text.encode()) == avro_text(expected, nullable)
        assert masked(None) == b"\x00"


def nodes() -> list[Node]:
    plain: list[Node] = [Compare("a", op, 1) for op in OPERATORS]
    plain += [CompareItems("a", op, "b") for op in OPERATORS]
    found = [*plain, *map(Not, plain), *(Not(Not(node)) for node in plain)]
    for left, right in product(plain[::3], plain[1::3]):
        found += [And((left, Not(right))), Or((Not(left), right))]
        found += [Not(And((left, right))), Not(Or((left, right)))]
    return found


def test_a_condition_is_true_of_raw_values_exactly_where_its_tree_is_true() -> None:
    for node in nodes():
        text = ConditionText(SHAPES, {"a": 0, "b": 1})
        expression = text.is_true(node)
        for a, b in product((None, 0, 1, 2), repeat=2):
            names: dict[str, Any] = {"r": (a, b), "k": text.literals}
            made = eval(expression, names)
            assert made is (evaluate(node, {"a": a, "b": b}) is True), (expression, a, b)
