"""Which changes of a list only add to it: by the older list one may go on for a while then."""

from __future__ import annotations

import pytest

from shutong_core.domain.additions import only_adds
from shutong_core.domain.organisations import Organisation
from shutong_core.domain.steps import run
from shutong_core.domain.version import AnyRow, ListVersion, next_version
from unit import listing_fixtures as made

NEWCOMER = made.uscc(9, made.XINGNING)


def after(*rows: AnyRow, without: tuple[str, ...] = ()) -> tuple[ListVersion, ListVersion]:
    older = made.minimal()
    return older, next_version(older, rows, without, made.EFFECTIVE_MS)


def newcomer() -> Organisation:
    return made.organisation(NEWCOMER, name="兴宁市民政局（示例）", region=made.XINGNING)


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (made.purpose("statistics"),),
        (made.duty(),),
        (made.dataset("temporary-relief"),),
        (made.dataset("temporary-relief"), made.grant("relief", dataset="temporary-relief")),
        (made.grant("minimum-living-again"),),
        (newcomer(), made.system("xingning-civil", NEWCOMER)),
    ],
    ids=lambda rows: "+".join(row.row_id for row in rows) or "nothing",
)
def test_a_list_with_further_rows_only_adds(rows: tuple[AnyRow, ...]) -> None:
    assert run(only_adds(*after(*rows)))


@pytest.mark.parametrize(
    "row",
    [
        made.negative(),
        made.grant("newer", replaces="minimum-living-meizhou"),
        made.system("wuhua-second", made.PROVIDER),
        made.grant(scenario="另一用途"),
        made.dataset(title="改名"),
        made.organisation(line="另一条线"),
        made.purpose(title="改名"),
        made.bus(title="改名"),
    ],
    ids=lambda row: row.row_id,
)
def test_a_list_that_blocks_replaces_or_changes_a_row_does_more(row: AnyRow) -> None:
    assert not run(only_adds(*after(row)))
    assert not run(only_adds(*after(row, made.purpose("statistics"))))


@pytest.mark.parametrize("row_id", sorted(made.minimal_rows()))
def test_a_list_that_takes_a_row_away_does_more(row_id: str) -> None:
    assert not run(only_adds(*after(without=(row_id,))))
