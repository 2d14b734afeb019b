"""The kernel's columns where lengths and neighbours matter: they are the pure path's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from shutong_broker.policy import native
from shutong_broker.policy.columns import Columns
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.model import InboundRecord
from unit.policy_world import World, now_ms

pytestmark = pytest.mark.skipif(
    not native.AVAILABLE, reason="the optional compiled kernel is not installed: make kernel"
)

MASKED = {"name": {"mask": "hash"}, "remarks": {"mask": "hash"}, "town_code": "clear"}
HOME = {"minors": True, "scope": {"role": "户籍地", "regions": ["441400000000"]}}


def worlds(given: Mapping[str, Any]) -> list[World]:
    """The pure path's, then the kernel's."""
    return [World(given, make) for make in (CompiledPolicy, partial(CompiledPolicy, native=True))]


def run(world: World, records: Sequence[InboundRecord]) -> Columns:
    columns = world.policy.run(records, bytes(range(16)), now_ms())
    return replace(columns, publishers=list(columns.publishers), ids=list(columns.ids))


def test_every_digest_is_the_same_whatever_the_length() -> None:
    given = {
        "dataset": {"subjects": ["id_number", "name", "remarks"]},
        "grants": {"masked": {"minors": True, "items": MASKED}, "all": {"minors": True}},
    }
    pure, kernel = worlds(given)
    for n in range(400):
        items = {"decision_no": "k" * n, "name": "n" * n, "remarks": "r" * (n // 2)}
        record = pure.record({"record": items, "headers": {"ce_id": "i" * max(1, n % 129)}})
        two = [record, record]  # a run of one is always the pure path's
        assert run(kernel, two) == run(pure, two)
        assert run(pure, two).rows == 2


def test_reasons_shared_by_rows_apart_are_told_apart() -> None:
    given = {"grants": {"home": HOME, "all": {"minors": True}}}
    pure, kernel = worlds(given)
    records = [pure.record({"record": {"home_code": code}}) for code in (None, "441481100000") * 3]
    columns = run(pure, records)
    assert columns.rows == 6
    assert [(first, end) for first, end, _ in columns.shared] == [(0, 1), (2, 3), (4, 5)]
    assert run(kernel, records) == columns
