"""Runs of withheld rows come out as they would row by row."""

from __future__ import annotations

from collections import Counter, defaultdict

from shutong_broker.policy.withholding import Withheld, WithheldGrants
from shutong_broker.withheldrows import WithheldRows
from shutong_core.audit.inputbuilder import InputBuilder
from shutong_core.domain.reasons import Reason

EVERYONE = ("a", "b", "c", "d")


class Reached:
    everyone = EVERYONE
    reached = frozenset({"c", "d"})


EXPIRED = (Withheld("a", Reason.EXPIRED),)
UNKNOWN = (*EXPIRED, Withheld("b", Reason.GRANT_REGION_UNKNOWN))
MINOR = (Withheld("c", Reason.MINOR_NOT_GRANTED),)
NOT_MET = (Withheld("c", Reason.CONDITION_NOT_MET),)


def test_runs_equal_what_single_rows_give_and_a_refused_row_ends_a_run() -> None:
    rows = [
        WithheldGrants(EXPIRED, (), Reached()),
        WithheldGrants(EXPIRED, MINOR, Reached()),
        None,  # refused
        WithheldGrants(EXPIRED, MINOR, Reached()),
        WithheldGrants(UNKNOWN, NOT_MET, Reached()),
        WithheldGrants(EXPIRED, (), Reached()),
    ]
    runs, singles = InputBuilder("x", 0, ""), InputBuilder("x", 0, "")
    counts: defaultdict[str, Counter[Reason]] = defaultdict(Counter)
    expected: defaultdict[str, Counter[Reason]] = defaultdict(Counter)
    placed = Counter[str]()
    withheld = WithheldRows(runs, counts.__getitem__)
    for row, told in enumerate(rows):
        for part in (runs, singles):
            refusal = Reason.SECRET if told is None else None
            part.add_row(offset=row, publisher="p", digest=b"d" * 32, refusal=refusal)
        if told is None:
            continue
        withheld.add(row, told)
        for each in told:
            singles.withhold(row, each.grant, each.reason)
            expected[each.grant][each.reason] += 1
        placed.update(set(EVERYONE) - {each.grant for each in told})
    withheld.finish()
    out_of_scope = sum(each.pop(Reason.REGION_OUT_OF_SCOPE, 0) for each in expected.values())
    assert {grant: found for grant, found in counts.items() if found} == {
        grant: found for grant, found in expected.items() if found
    }
    assert withheld.total == 5 * len(EVERYONE) - out_of_scope - placed.total()
    for part in (runs, singles):
        part.end(len(rows))
    assert runs.section({}) == singles.section({})
    assert len(runs.section({}).withheld) == 5


def test_who_stays_withheld_costs_nothing_where_the_others_change() -> None:
    stay = tuple(Withheld(f"x{n}", Reason.EXPIRED) for n in range(100))
    more = (*stay, Withheld("b", Reason.GRANT_REGION_UNKNOWN))
    part, written = InputBuilder("x", 0, ""), list[str]()
    withhold = part.withhold_rows
    part.withhold_rows = lambda first, end, grant, reason: (  # type: ignore[method-assign]
        written.append(grant),
        withhold(first, end, grant, reason),
    )[1]
    counts: defaultdict[str, Counter[Reason]] = defaultdict(Counter)
    withheld = WithheldRows(part, counts.__getitem__)
    for row in range(100):
        withheld.add(row, WithheldGrants((stay, more)[row % 2], (), Reached()))
    withheld.finish()
    assert Counter(written) == {**{each.grant: 1 for each in stay}, "b": 50}
    assert withheld.total == 100 * len(stay) + 50
    assert withheld.told_by([(0, 1, stay), (1, 2, more), (2, 3, stay), (4, 5, stay)]) == 201
