"""The direction of a record under a grant: six values, first match wins."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from listing_fixtures import dataset, grant, organisation, uscc, version

import shutong_core
from shutong_core.domain.direction import Direction, direction
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import RequesterClass, Scope
from shutong_core.domain.regions import RegionTable, parse_table

NATION = "000000000000"
GUANGDONG = "440000000000"
FUJIAN = "350000000000"
GUANGZHOU = "440100000000"
MEIZHOU = "441400000000"
WUHUA = "441424000000"
XINGNING = "441481000000"
SHUIZHAI = "441424100000"
DONGGUAN = "441900000000"
DONGCHENG = "441900003000"

LEAD, PUBLISHER, REQUESTER = uscc(11), uscc(12), uscc(13)
FILE = Path(shutong_core.__file__).parent / "files" / "divisions-2023-06-30.tsv.xz"


@cache
def table() -> RegionTable:
    return parse_table(FILE.read_bytes())


def flow(  # what the table of cases below says
    publisher: str,
    receiver: str,
    *,
    line: str = "民政",
    lead: str = GUANGDONG,
    return_flow: bool = False,
    scope: tuple[str, ...] = (),
    territory: str | None = None,
    region: str | None = None,
) -> Direction:
    """Direction between regions; publisher and lead provider are of line 民政."""
    rows = (
        organisation(LEAD, region=lead),
        organisation(PUBLISHER, region=publisher),
        organisation(REQUESTER, region=receiver, line=line),
    )
    who: dict[str, Any] = {"requester": REQUESTER}
    if territory is not None:
        who = {
            "requester": None,
            "requester_class": RequesterClass(level="town", within=GUANGDONG),
        }
    given = grant(return_flow=return_flow, scope=Scope(role="受理地", regions=scope), **who)
    return direction(
        table(),
        version(*rows),
        dataset(provider=LEAD),
        given,
        PUBLISHER,
        territory,
        region=region,
    )


@pytest.mark.parametrize(
    ("publisher", "receiver", "line", "expected"),
    [
        # one region, whatever the lines
        (WUHUA, WUHUA, "民政", Direction.LEVEL),
        (WUHUA, WUHUA, "公安", Direction.LEVEL),
        (NATION, NATION, "公安", Direction.LEVEL),
        # the requester's region lies around the publisher's
        (WUHUA, MEIZHOU, "民政", Direction.UPWARD),
        (WUHUA, NATION, "民政", Direction.UPWARD),
        (DONGCHENG, DONGGUAN, "民政", Direction.UPWARD),
        (WUHUA, MEIZHOU, "医保", Direction.DIAGONAL),
        (SHUIZHAI, GUANGDONG, "医保", Direction.DIAGONAL),
        # the requester's region lies in the publisher's
        (MEIZHOU, WUHUA, "民政", Direction.DOWNWARD),
        (NATION, SHUIZHAI, "公安", Direction.DOWNWARD),
        (DONGGUAN, DONGCHENG, "民政", Direction.DOWNWARD),
        # neither
        (GUANGZHOU, MEIZHOU, "民政", Direction.CROSS_REGION),
        (WUHUA, XINGNING, "民政", Direction.CROSS_REGION),
        (FUJIAN, WUHUA, "公安", Direction.CROSS_REGION),
        (WUHUA, GUANGZHOU, "民政", Direction.CROSS_REGION),
    ],
)
def test_level_and_line_tell_the_direction_from_the_publisher(
    publisher: str, receiver: str, line: str, expected: Direction
) -> None:
    assert flow(publisher, receiver, line=line) == expected


@pytest.mark.parametrize(
    ("receiver", "line", "scope", "expected"),
    [
        (WUHUA, "民政", (WUHUA,), Direction.RETURN),
        (WUHUA, "公安", (SHUIZHAI,), Direction.RETURN),  # lines do not matter downwards
        (WUHUA, "民政", (XINGNING,), Direction.DOWNWARD),
        (WUHUA, "民政", (WUHUA, XINGNING), Direction.DOWNWARD),
        (WUHUA, "民政", (MEIZHOU,), Direction.DOWNWARD),
        (WUHUA, "民政", (), Direction.DOWNWARD),
        (GUANGDONG, "公安", (GUANGDONG,), Direction.LEVEL),  # one region wins
        (NATION, "民政", (WUHUA,), Direction.UPWARD),
        (NATION, "公安", (WUHUA,), Direction.DIAGONAL),
        (FUJIAN, "民政", (FUJIAN,), Direction.CROSS_REGION),
    ],
)
def test_a_return_flow_grant_is_seen_from_the_lead_provider(
    receiver: str, line: str, scope: tuple[str, ...], expected: Direction
) -> None:
    # the publisher is 五华县: seen from there the first two would be 横向
    assert flow(WUHUA, receiver, line=line, return_flow=True, scope=scope) == expected


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (SHUIZHAI, Direction.RETURN),
        (WUHUA, Direction.RETURN),
        (XINGNING, Direction.DOWNWARD),
        (MEIZHOU, Direction.DOWNWARD),
        ("999999000000", Direction.DOWNWARD),
    ],
)
def test_the_region_of_the_record_decides_between_return_flow_and_sharing(
    region: str, expected: Direction
) -> None:
    found = flow(GUANGZHOU, WUHUA, return_flow=True, scope=(MEIZHOU,), region=region)
    assert found == expected


@pytest.mark.parametrize(
    ("publisher", "territory", "return_flow", "expected"),
    [
        (GUANGZHOU, SHUIZHAI, True, Direction.RETURN),  # lead provider: the province
        (GUANGZHOU, SHUIZHAI, False, Direction.CROSS_REGION),
        (MEIZHOU, SHUIZHAI, False, Direction.DOWNWARD),
        (SHUIZHAI, SHUIZHAI, False, Direction.LEVEL),
        (SHUIZHAI, WUHUA, False, Direction.DIAGONAL),  # a territory has no line
        (GUANGDONG, DONGCHENG, True, Direction.RETURN),
    ],
)
def test_a_class_grant_flows_to_the_territory(
    publisher: str, territory: str, return_flow: bool, expected: Direction
) -> None:
    found = flow(publisher, FUJIAN, territory=territory, return_flow=return_flow)
    assert found == expected


def test_an_office_for_what_the_province_keeps_is_an_office_of_the_province() -> None:
    kept = GUANGDONG + "@self"
    assert flow(kept, GUANGDONG) == Direction.LEVEL
    assert flow(kept, WUHUA) == Direction.DOWNWARD
    assert flow(WUHUA, kept) == Direction.UPWARD


def test_the_values_are_the_terms_that_people_read() -> None:
    assert [str(value) for value in Direction] == [
        "横向",
        "上行",
        "斜向",
        "下行回流",
        "下行共享",
        "跨区域",
    ]


def test_a_class_grant_without_territory_is_refused() -> None:
    given = grant(requester_class=RequesterClass(level="town", within=GUANGDONG))
    rows = (organisation(LEAD), organisation(PUBLISHER))
    with pytest.raises(Rejected, match="territory"):
        direction(table(), version(*rows), dataset(provider=LEAD), given, PUBLISHER)


@pytest.mark.parametrize("missing", [PUBLISHER, REQUESTER])
def test_an_organisation_that_is_not_in_the_list_is_refused(missing: str) -> None:
    rows = [organisation(uscc) for uscc in (PUBLISHER, REQUESTER) if uscc != missing]
    with pytest.raises(Rejected, match=missing):
        direction(
            table(),
            version(*rows),
            dataset(provider=LEAD),
            grant(requester=REQUESTER),
            PUBLISHER,
        )


def test_a_region_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(Rejected, match="not in the division table"):
        flow("999999000000", WUHUA)
