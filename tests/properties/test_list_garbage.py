"""However a list file was damaged, it is read whole or refused, never in part."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from shutong_core.domain.changes import decode_change
from shutong_core.domain.errors import Rejected
from shutong_core.domain.findings import PROBLEMS_MAX, ListRefused, Problem
from shutong_core.domain.listfile import DraftList, read_list_file
from unit import listing_fixtures as made
from unit.listfile_fixtures import entries, text_of

TEXT = text_of(entries())
ROWS = frozenset(made.minimal_rows())


def read(text: str) -> DraftList | None:
    """The list, or None if it was refused in the one way in which lists are refused."""
    problems: tuple[Problem, ...] = ()
    try:
        return read_list_file(text, "list.yaml")
    except ListRefused as refused:
        problems = refused.problems
    assert 1 <= len(problems) <= PROBLEMS_MAX
    assert all(one.line >= 1 and one.column >= 1 and str(one) for one in problems)
    return None


@settings(deadline=None)
@given(st.integers(0, len(TEXT.rstrip()) - 1))
def test_a_file_that_was_cut_off_is_refused(length: int) -> None:
    assert read(TEXT[:length]) is None


def test_a_file_cut_off_between_two_rows_is_refused() -> None:
    lines = TEXT.splitlines(keepends=True)
    for count in range(len(lines)):
        assert read("".join(lines[:count])) is None


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    read(text)
    read(text + "\n...\n")


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(TEXT)),
    st.integers(0, 40),
    st.one_of(st.text(max_size=6), st.text("\n\t {}[]:,-'\"&*!|>#%@`.0123456789", max_size=6)),
)
def test_a_mutated_file_is_refused_or_has_every_row(at: int, cut: int, put: str) -> None:
    mutated = TEXT[:at] + put + TEXT[at + cut :]
    draft = read(mutated)
    if draft is None:
        return
    # What was read is all that the text holds: as many entries as lines that begin one.
    assert len(draft.rows) == 1 + sum(line.startswith("- ") for line in mutated.splitlines())
    for row in draft.rows:
        assert row.digest()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
PLACES = [
    (section, index, field)
    for section, value in entries().items()
    for index, entry in enumerate(value if isinstance(value, list) else [value])
    for field in entry
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), JSON_VALUES)
def test_a_field_of_any_value_is_read_or_refused(
    place: tuple[str, int, str], value: object
) -> None:
    sections = entries()
    section, index, field = place
    (sections[section][index] if section != "bus" else sections[section])[field] = value
    draft = read(text_of(sections))
    if draft is not None:
        assert len(draft.rows) == len(ROWS)


@settings(deadline=None)
@given(st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_change_record_that_nobody_signed_is_refused(data: bytes) -> None:
    try:
        decode_change(data, lambda *_: False)
    except Rejected:
        return
    raise AssertionError("taken without signature")
