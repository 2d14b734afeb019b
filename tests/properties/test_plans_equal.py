"""A lane plans the same transactions, byte for byte, by columns as it does record by record.

The interpreter decides every record alone; the compiled policy decides runs, looks at ids of many
records at once and goes back where one came again. Blocks, batches and memory must be equal.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shutong_broker import deciding
from shutong_broker.plan import Plan, Polled
from shutong_broker.planner import Origin, Planner
from shutong_broker.policies import PolicySet
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_broker.policy.interpret import PolicyInterpreter
from shutong_broker.policy.model import InboundRecord
from shutong_broker.policy.native import AVAILABLE
from shutong_broker.state import LaneState
from shutong_broker.window import RepeatWindow
from shutong_core.audit.block import parse_body
from shutong_core.domain.reasons import Reason
from shutong_core.wire.batches import ColumnBatch, RecordBatch
from shutong_core.wire.topics import Topics
from unit import listing_fixtures as listing
from unit.bus_schemas import codec
from unit.policy_world import CHILD, World, keys, now_ms, table

GUID = "__value_schema_id"
PAST = {"valid_from": "2025-01-01T00:00:00+08:00", "valid_until": "2026-01-01T00:00:00+08:00"}
FAR = {"scope": {"role": "受理地", "regions": ["440100000000"]}}
#: Grants get other items, or the same with other secrets, and not the same grants get each record.
HASHED = {"decision_no": "clear", "name": {"mask": "hash"}}
FEW = {"members": {"mask": "band", "bounds": [3.0]}, "town_code": "clear"}
SECOND = {"id": "wuhua-second", "organisation": listing.PROVIDER, "title": "另一系统"}
LIST = {
    "rows": [{"kind": "system", **SECOND}],
    "grants": {
        "all": {"minors": True},
        "adults": {"items": HASHED},
        "home": {"scope": {"role": "户籍地", "regions": ["441400000000"]}, "items": HASHED},
        "expired": PAST,
        "far": FAR,
        "many": {"condition": "members > 2", "minors": True, "items": FEW},
        "events": {"cloudevents": True, "minors": True},
    },
}


def id_number(born: str) -> str:
    """A valid identity number; area 440000 was never issued."""
    digits = f"440000{born}001"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True))
    return digits + "10X98765432"[total % 11]


#: What may befall a record; the number of the id is drawn beside it.
BENDS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"record": {"members": 1}},
    {"headers": {"shutong_publisher": f"{listing.PROVIDER}/wuhua-second"}},
    {"headers": {"shutong_publisher": f"{listing.REQUESTER}/meizhou-civil"}},
    {"record": {"town_code": "440106001000"}, "headers": {"shutong_publisher": "x"}},
    {"record": {"id_number": CHILD}},
    {"record": {"id_number": id_number("20121120")}},  # the last day of a child
    {"record": {"id_number": id_number("20121119")}},
    {"record": {"id_number": None, "born": "2012-11-20"}},
    {"record": {"town_code": "440106001000"}},
    {"record": {"home_code": "nowhere", "remarks": "示例"}},
    {"headers": {"ce_id": None}},
    {"headers": {"ce_id": "事件"}},
    {"headers": {"ce_id": "事" * 128}},
    {"headers": {"ce_type": "minimum-living.correct"}},
    {"value_hex": None},
    {"value_hex": "00000000ff01"},
    {"append_zeros": 1},
    {"key": None},
    {"key": "another"},
    {"long_header": 9_000},
)
LANE = World().record().partition
NATIVE = partial(CompiledPolicy, native=True)
#: The first is the reference; the kernel where it is installed.
ENGINES: tuple[Any, ...] = (PolicyInterpreter, CompiledPolicy, *([NATIVE] if AVAILABLE else []))
WORLDS = {make: World(LIST, make) for make in ENGINES}


def planner() -> Planner:
    numbers = count()
    return Planner(
        Origin(
            topics=Topics("shutong"),
            cluster="test",
            engine="test",
            instance=bytes(16),
            division_digest=table().digest,
            quarantine_key=keys("quarantine/1"),
            codec=codec(),
            random_bytes=lambda size: next(numbers).to_bytes(size, "big"),
            monotonic=lambda: 0.0,
        )
    )


def told(batch: ColumnBatch | RecordBatch) -> Any:
    if isinstance(batch, RecordBatch):
        return batch
    headers = [tuple(each) for each in batch.headers] if batch.headers is not None else None
    at = (batch.topic, batch.partition, batch.first_headers)
    return (*at, list(batch.keys), list(batch.values), headers)


def plans(make: Any, transactions: list[list[InboundRecord]]) -> list[tuple[Plan, Any]]:
    """The plans of a lane over some transactions, with what memory knows after each."""
    world = WORLDS[make]
    policies = PolicySet.of(world.version, {world.policy.dataset: world.policy})
    state, window, made = LaneState(), RepeatWindow(ids_max=12), planner()
    found = []
    for number, records in enumerate(transactions):
        now = now_ms() + number * 1000
        polled = [Polled("minimum-living", records)]
        plan = made.plan(LANE, polled, policies, state, window, None, now)
        window.add(plan.accepted)
        state.advance(plan.changes, number)
        found.append((plan, len(window)))
    return found


@st.composite
def transactions(draw: Any) -> list[list[InboundRecord]]:
    offsets, found = count(), []
    for _ in range(draw(st.integers(1, 3))):
        records = []
        for bend, number in draw(
            st.lists(st.tuples(st.sampled_from(BENDS), st.integers(0, 25)), min_size=1, max_size=24)
        ):
            own = {"ce_id": f"event-{number}", **bend.get("headers", {})}
            when = {**bend, "headers": own, "partition": LANE, "offset": next(offsets)}
            records.append(WORLDS[PolicyInterpreter].record(when))
        found.append(records)
    return found


SEEN: Counter[Any] = Counter()


@settings(max_examples=120, deadline=None, database=None)
@given(transactions(), st.sampled_from([1, 2, 5, 500]))
def compare(given_: list[list[InboundRecord]], run_records: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deciding, "RUN_RECORDS", run_records)
        patch.setattr(deciding, "RUN_RECORDS_LEAST", min(run_records, 2))
        plain, *others = (plans(make, given_) for make in ENGINES)
    for compiled in others:
        same(plain, compiled)


def same(plain: list[tuple[Plan, Any]], compiled: list[tuple[Plan, Any]]) -> None:
    for (expected, known), (found, known_too) in zip(plain, compiled, strict=True):
        parse_body(expected.body)
        assert (found.header, found.body) == (expected.header, expected.body)
        assert list(map(told, found.batches)) == list(map(told, expected.batches))
        assert found.state_records == expected.state_records
        assert (found.datasets, found.verdicts) == (expected.datasets, expected.verdicts)
        assert known == known_too
        SEEN.update(expected.datasets["minimum-living"].refused.keys())
        SEEN.update(placed for each in expected.verdicts.values() for placed in ["placed"])


def test_a_transaction_by_columns_is_the_one_record_by_record() -> None:
    SEEN.clear()
    compare()
    wanted = [Reason.DUPLICATE, Reason.ID_REUSED, Reason.MALFORMED, Reason.WRONG_KEY, "placed"]
    assert [each for each in wanted if not SEEN[each]] == []


@pytest.mark.parametrize("make", ENGINES)
def test_who_is_withheld_is_told_in_row_order_whatever_tells_it(make: Any) -> None:
    """A region that is none holds for many rows, an age for each: both befall one grant."""
    world = WORLDS[PolicyInterpreter]
    bends: list[dict[str, Any]] = [
        *[{"record": {"home_code": "nowhere"}}] * 2,
        *[{"record": {"id_number": CHILD}}] * 2,
    ] * 2
    records = [
        world.record({**bend, "headers": {"ce_id": f"e{row}"}, "partition": LANE, "offset": row})
        for row, bend in enumerate(bends)
    ]
    ((plan, _),) = plans(make, [records])
    (section,) = parse_body(plan.body).inputs
    told = [(w.reason.name, w.first, w.end) for w in section.withheld if w.grant == "home"]
    assert told == [
        ("GRANT_REGION_UNKNOWN", 0, 2),
        ("MINOR_NOT_GRANTED", 2, 4),
        ("GRANT_REGION_UNKNOWN", 4, 6),
        ("MINOR_NOT_GRANTED", 6, 8),
    ]


def test_a_record_that_fails_for_one_grant_leaves_nothing_half_done_for_another() -> None:
    """No calendar has its time of arrival: grant `all` has it already when `events` fails."""
    sound = WORLDS[PolicyInterpreter].record({"partition": LANE})
    records = [
        sound._replace(
            offset=row,
            headers=(sound.headers[0], ("ce_id", b"%d" % row)),
            timestamp_ms=10**18 if row == 2 else sound.timestamp_ms,
        )
        for row in range(4)
    ]
    plain, *others = (plans(make, [records]) for make in ENGINES)
    assert plain[0][0].verdicts["events"].withheld == {Reason.CONDITION_ERROR: 1}
    assert (plain[0][0].verdicts["all"].placed, plain[0][0].verdicts["events"].placed) == (4, 3)
    for compiled in others:
        same(plain, compiled)
