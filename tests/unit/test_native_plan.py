"""What the optional compiled kernel is told of a schema version; needs no kernel."""

from __future__ import annotations

from typing import Any

import pytest

from shutong_broker.policy.checkgen import CannotCompile
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.nativeplan import adds_up, describe
from unit.policy_world import MEIZHOU_GRANT, World

TOWN = ["town_code"]


def described(given: dict[str, Any] | None = None) -> dict[str, Any]:
    policy = World(given, make=CompiledPolicy).policy
    assert isinstance(policy, CompiledPolicy)
    plan = policy._plan
    return describe(plan, plan.schemas[1], TOWN)


def condition(text: str, **schema: Any) -> Any:
    told = described({"grants": {MEIZHOU_GRANT: {"condition": text}}, "schema": schema})
    return told["grants"][0]["condition"]


def pieces(mask: dict[str, Any], item: str) -> tuple[Any, ...]:
    """The projection of a grant that gives `item` under the mask, and the region."""
    told = described({"grants": {MEIZHOU_GRANT: {"items": {item: mask, "town_code": "clear"}}}})
    return told["projections"][0][1]


def test_a_condition_is_a_tree_of_plain_values() -> None:
    assert condition('category == "RURAL" && !(members > 3)') == (
        "and",
        (("compare", 5, "==", ("whole", 1)), ("not", ("compare", 7, ">", ("whole", 3)))),
    )
    assert condition("has(agency) || active") == ("or", (("has", 4), ("flag", 6)))
    assert condition('town_code in ["a", "b"]') == ("in", 14, (("bytes", b"a"), ("bytes", b"b")))
    assert condition("score >= 1") == ("compare", 11, ">=", ("real", 1.0))


def test_a_literal_between_two_steps_is_never_a_member() -> None:
    assert condition("amount in [1.50, 0.001]") == ("in", 10, (("whole", 150),))


def test_a_condition_without_a_form_stays_a_function_of_pythons() -> None:
    form, function, literals, items = condition("amount < 0.001")
    assert (form, items) == ("call", (10,))
    assert function((0,), literals) is True
    assert function((1,), literals) is False
    assert not function((None,), literals)


def test_items_that_stand_together_are_one_slice() -> None:
    items = dict.fromkeys(["decision_no", "id_number", "members", "adults", "town_code"], "clear")
    told = described({"grants": {MEIZHOU_GRANT: {"items": items}}})
    assert told["projections"][0][1] == (("slice", 0, 2), ("slice", 7, 9), ("slice", 14, 15))


def test_masks_are_told_with_what_they_need() -> None:
    assert pieces({"mask": "keep", "first": 1, "last": 2}, "name")[0] == (
        "masked",
        2,
        ("keep", 1, 2),
    )
    assert pieces({"mask": "band", "by": "year"}, "decided_on")[0] == ("masked", 12, ("year",))
    form, edges, labels = pieces({"mask": "band", "bounds": [0.105, 2]}, "amount")[0][2]
    assert (form, edges) == ("whole_band", [11, 200])
    assert len(labels) == 3


def test_a_band_beyond_the_kernels_numbers_stays_pythons() -> None:
    form, item, mask = pieces({"mask": "band", "bounds": [1e60]}, "members")[0]
    assert (form, item) == ("call", 7)
    assert mask(5) == mask(0)


def test_a_sum_that_fits_is_the_kernels_and_a_larger_one_pythons() -> None:
    rule = {"rule": "sum", "total": "members", "parts": ["adults", "children"]}
    told = described({"dataset": {"quality": [rule]}})
    assert told["rules"] == (("sum", (7, 1), ((8, 1), (9, 1))),)
    wide = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}
    rule = {"rule": "sum", "total": "members", "parts": ["amount"]}
    told = described(
        {"dataset": {"quality": [rule]}, "schema": {"amount": {"type": ["null", wide]}}}
    )
    ((form, function, steps, items),) = told["calls"]
    assert (form, function, steps, items) == ("call", adds_up, (1, 1), (7, 10))


def test_null_adds_up_to_nothing() -> None:
    assert adds_up((5, 2, 3), (1, 1, 1))
    assert adds_up((500, 2, 3), (1, 100, 100))
    assert not adds_up((5, 2, 2), (1, 1, 1))
    assert not adds_up((5, 5, None), (1, 1, 1))


def test_where_every_record_is_refused_there_is_no_program() -> None:
    with pytest.raises(CannotCompile):
        described({"dataset": {"secrecy": "state"}})
