"""In which direction a record flows under a grant, seen from level and line of both sides.

One value per (record, grant). P is the giving side: the lead provider for a return-flow grant,
else the publisher. Q is the receiving side: the requester, for a class grant the territory. First
match wins, from top to bottom:
    same region                                               横向
    Q around P, same line (条线)                              上行
    Q around P, other line, or Q a territory (has no line)    斜向
    Q in P, return-flow grant, the record's region lies in Q  下行回流
    Q in P otherwise                                          下行共享
    neither                                                   跨区域
"""

from __future__ import annotations

from enum import StrEnum

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Grant
from shutong_core.domain.organisations import Organisation
from shutong_core.domain.regions import SELF, RegionTable
from shutong_core.domain.version import ListVersion


class Direction(StrEnum):
    """The six directions."""

    LEVEL = "横向"
    UPWARD = "上行"
    DIAGONAL = "斜向"
    RETURN = "下行回流"  # 数据回流, 政务数据共享条例 Art. 24
    DOWNWARD = "下行共享"
    CROSS_REGION = "跨区域"


def direction(
    table: RegionTable,
    list_version: ListVersion,
    dataset: Dataset,
    grant: Grant,
    publisher_uscc: str,
    territory: str | None = None,
    *,
    region: str | None = None,
) -> Direction:
    """The direction of a record of `dataset` that `publisher_uscc` wrote, placed under `grant`.

    `territory` is the code a class grant is split to (needed there, meaningless elsewhere);
    `region` is the record's region by the grant's role. Without `region` the record is taken to
    lie in the grant's scope, as every placed record does. Raises Rejected for an organisation or
    region that is not known, or a class grant without territory.
    """
    giver = _organisation(list_version, dataset.provider if grant.return_flow else publisher_uscc)
    giver_region = _government(table, giver.region)
    if grant.requester_class is not None:
        if territory is None:
            raise Rejected(f"grant {grant.id} is for a class: a direction needs the territory")
        receiver_line, receiver_region = None, _government(table, territory)
    else:
        receiver = _organisation(list_version, grant.requester or "")
        receiver_line, receiver_region = receiver.line, _government(table, receiver.region)
    if giver_region == receiver_region:
        return Direction.LEVEL
    if table.contains(receiver_region, giver_region):
        return Direction.UPWARD if receiver_line == giver.line else Direction.DIAGONAL
    if table.contains(giver_region, receiver_region):
        returned = grant.return_flow and _lies_in(table, grant, receiver_region, region)
        return Direction.RETURN if returned else Direction.DOWNWARD
    return Direction.CROSS_REGION


def _lies_in(table: RegionTable, grant: Grant, receiver_region: str, region: str | None) -> bool:
    """True if the record's region, by the grant's role, lies in the receiver's."""
    if region is not None:
        return table.contains(receiver_region, region)
    if grant.requester_class is not None:
        return True  # the territory was found by that very region
    scope = grant.scope.regions
    return bool(scope) and all(table.contains(receiver_region, part) for part in scope)


def _organisation(list_version: ListVersion, uscc: str) -> Organisation:
    """The organisation in the list. Raises Rejected if it is not there."""
    found = list_version.organisation(uscc)
    if found is None:
        raise Rejected(f"organisation {uscc!r} is not in list {list_version.number}")
    return found


def _government(table: RegionTable, code: str) -> str:
    """The region of the government: an office of 省本级 is an office of the province."""
    region = table.get(code)
    if region is None:
        raise Rejected(f"{code!r} is not in the division table of {table.date}")
    return region.code.removesuffix(SELF)
