"""A list taken change by change, in steps, is the list built at once; policies likewise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from shutong_broker.policy.build import PolicyMaker, build_policy
from shutong_broker.policy.compiled import CompiledPolicy
from shutong_core.domain.canonical import canonical
from shutong_core.domain.changes import Assembler, difference, encode_change, make_change
from shutong_core.domain.version import ROW_TYPES, AnyRow, ListVersion, list_digest, next_version
from shutong_core.wire.projection import project_schema
from shutong_core.wire.schemas import Schema
from unit import listing_fixtures as made
from unit import schema_examples

DATASETS = ("d-1", "d-2", "d-3")


class Key:
    """Signs nothing and believes everything: signatures have tests of their own."""

    key_id = "control"

    def sign(self, _data: bytes) -> bytes:
        return b"\0" * 64

    def verify(self, *_: Any) -> bool:
        return True


def grant(index: int, dataset: str, edition: int) -> AnyRow:
    return made.grant(f"g-{index}", dataset=dataset, quota=edition + 1)


ROWS = st.one_of(
    st.builds(grant, st.integers(0, 5), st.sampled_from(DATASETS), st.integers(0, 2)),
    st.builds(
        lambda name, title: made.dataset(name, title=title),
        st.sampled_from(DATASETS),
        st.sampled_from(("一", "二")),
    ),
    st.builds(
        lambda name, title: made.system(name, title=title),
        st.sampled_from(("s-1", "s-2")),
        st.sampled_from(("一", "二")),
    ),
    st.builds(made.purpose, st.sampled_from(("p-1", "p-2"))),
    st.builds(lambda share: made.duty(completeness_percent=share), st.floats(0, 100)),
)
LISTS = st.lists(
    st.lists(ROWS, max_size=8, unique_by=lambda row: row.row_id), min_size=1, max_size=6
)


def whole(rows: list[AnyRow]) -> ListVersion:
    """The list of `rows`, built at once and indexed by going through all rows."""
    return next_version(None, rows, (), made.EFFECTIVE_MS)


def drained(steps: Iterator[None]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@settings(max_examples=150)
@given(LISTS)
def test_change_by_change_leads_to_the_list_built_at_once(lists: list[list[AnyRow]]) -> None:
    key = Key()
    assembler, held = Assembler(key.verify), None
    for rows in lists:
        upserts, removals = difference(held, rows)
        before = held
        held, parts = make_change(held, upserts, removals, made.EFFECTIVE_MS)
        if before is not None:
            for kind in ROW_TYPES.values():
                before.of(kind)  # indexes that are there already must not be taken over stale
        for part in parts:
            drained(assembler.adding(encode_change(part, key)))  # type: ignore[arg-type]
        taken, built = assembler.version, whole(rows)
        assert taken is not None
        for version in (held, taken):
            assert version.digest == built.digest == list_digest(built.digests)
            assert version.rows == built.rows
            assert version.digests == {row.row_id: row.digest() for row in rows}
            assert version.grants_by_dataset == built.grants_by_dataset
            for kind in ROW_TYPES.values():
                assert version.of(kind) == built.of(kind)


@settings(max_examples=100)
@given(LISTS)
def test_a_row_that_did_not_change_is_the_same_object(lists: list[list[AnyRow]]) -> None:
    key = Key()
    assembler, published = Assembler(key.verify), None
    for rows in lists:
        held = assembler.version
        # Also a row that the change repeats for no reason.
        gone = difference(published, rows)[1]
        published, parts = make_change(published, rows, gone, made.EFFECTIVE_MS)
        for part in parts:
            assembler.add(encode_change(part, key))
        taken = assembler.version
        assert taken is not None
        for row_id, row in taken.rows.items():
            if held is not None and held.digests.get(row_id) == taken.digests[row_id]:
                assert row is held.rows[row_id]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=500)
@given(JSON)
def test_the_fast_form_is_the_form_of_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(st.sampled_from([2**53, -(2**53), 2**60, float("nan"), float("inf"), "\ud800"]))
def test_what_has_no_form_has_none(value: Any) -> None:
    for each in (value, [value], {"a": value}):
        try:
            rfc8785.dumps(each)
        except ValueError:
            pass
        else:
            continue
        try:
            canonical(each)
        except ValueError:
            continue
        raise AssertionError(f"{each!r} has no RFC 8785 form")


SCHEMA: Schema = schema_examples.one("string")


def policy_rows(draw: Any) -> tuple[list[AnyRow], dict[int, Schema]]:
    """A list of two datasets with some grants, systems, negatives; and its schemas."""
    schemas = {1: SCHEMA}
    reference = {
        "version": 1,
        "id": 1,
        "guid": SCHEMA.guid,
        "digest": SCHEMA.digest.hex(),
    }
    item = next(iter(SCHEMA.fields))
    rows: list[AnyRow] = [made.bus(), made.requester(), made.organisation()]
    rows += [made.system(name) for name in draw(st.sets(st.sampled_from(("s-1", "s-2"))))]
    for number, name in enumerate(DATASETS[:2]):
        body = made.dataset(name).body() | {
            "schemas": [reference],
            "key": [item],
            "regions": {"受理地": item},
            "subjects": [],
            "quality": [],
            "birth_items": [],
            "title": draw(st.sampled_from(("一", "二"))),
        }
        rows.append(ROW_TYPES["dataset"].model_validate_json(rfc8785.dumps(body)))
        if draw(st.booleans()):
            rows.append(made.negative(f"n-{number}", dataset=name, items=(item,)))
        delivered = project_schema(SCHEMA, {item: "clear"}, name)
        if draw(st.booleans()):
            schemas[10 + number] = delivered
        for index in draw(st.sets(st.integers(0, 2))):
            projection = made.Projection(schema_id=1, delivered_id=10 + number, guid=delivered.guid)
            rows.append(
                made.grant(
                    f"g-{number}-{index}",
                    dataset=name,
                    items={item: "clear"},
                    projections=(projection,),
                    condition=draw(st.sampled_from((None, f'{item} == "a"', "broken ("))),
                    cloudevents=draw(st.booleans()),
                )
            )
    return rows, schemas


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_policies_kept_from_list_to_list_have_the_plans_of_policies_made_anew(
    data: st.DataObject,
) -> None:
    keys = lambda key_id: key_id.encode().ljust(32, b".")[:32]  # noqa: E731
    maker = PolicyMaker(made.divisions(), keys, CompiledPolicy)
    before = None
    for _ in range(3):
        rows, schemas = policy_rows(data.draw)
        version = whole(rows)
        policies = maker.policies(version, schemas)
        if before is not None and data.draw(st.booleans()):
            drained(policies.preparing(before.in_use))
        anew = build_policy(version, schemas, made.divisions(), keys, CompiledPolicy)
        for name in DATASETS[:2]:
            kept, fresh = policies[name], anew[name]
            assert isinstance(kept, CompiledPolicy)
            assert isinstance(fresh, CompiledPolicy)
            assert told(kept) == told(fresh)
            assert kept.explain_source() == fresh.explain_source()
        before = policies


def told(policy: CompiledPolicy) -> Any:
    """A plan as values: functions in it are told by what they were made from."""
    plan = policy._plan
    return (
        plan.dataset,
        plan.systems,
        plan.jurisdictions,
        plan.sole_publisher,
        plan.grants,
        {
            key: [
                (
                    each.grant,
                    each.blocked,
                    each.scope,
                    each.condition,
                    each.condition_broken,
                    each.secret,
                    each.projection and (each.projection.delivered_id, each.projection.delivered),
                    each.cloudevents is not None,
                )
                for each in of.grants
            ]
            for key, of in plan.schemas.items()
        },
    )
