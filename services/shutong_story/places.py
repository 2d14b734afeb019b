"""The places of the story, read from the division table: where people live, insure, are treated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shutong_core.domain.regions import Level, RegionTable

NATION = "000000000000"
GUANGDONG = "440000000000"
GUANGZHOU = "440100000000"
SHENZHEN = "440300000000"
MEIZHOU = "441400000000"
ZHONGSHAN = "442000000000"
WUHUA = "441424000000"
XINGNING = "441481000000"
YUEXIU = "440104000000"
SHUIZHAI = "441424100000"
XIAOLAN = "442000118000"

#: Counties of other provinces that many people in Guangdong come from (赣州, 郴州, 桂林).
AWAY_CITIES = ("360700000000", "431000000000", "450300000000")


def below(table: RegionTable, code: str, level: Level) -> tuple[str, ...]:
    """All regions of `level` under `code`, by code; found by walking down the table."""
    return tuple(sorted(_walk(table, code, level)))


def _walk(table: RegionTable, code: str, level: Level) -> Iterator[str]:
    for child in table.children(code):
        found = table.level(child)
        if found == level:
            yield child
        elif found is not None and found < level:
            yield from _walk(table, child, level)


def is_town_like(code: str) -> bool:
    """Reservoirs, forest farms, zones: digits 400-599 (GB/T 10114); nobody is registered there."""
    return 400 <= int(code[6:9]) <= 599


@dataclass(frozen=True, slots=True)
class HomeGroup:
    """Towns whose people are a share of the story's residents; the share is per mille."""

    name: str
    towns: tuple[str, ...]
    per_mille: int


def home_groups(table: RegionTable) -> tuple[HomeGroup, ...]:
    """Where residents are registered: dense around the story, thin over the province."""

    def towns(code: str) -> tuple[str, ...]:
        return tuple(t for t in below(table, code, Level.TOWN) if not is_town_like(t))

    wuhua, xingning = towns(WUHUA), towns(XINGNING)
    meizhou = tuple(t for t in towns(MEIZHOU) if t not in {*wuhua, *xingning})
    zhongshan, guangzhou = towns(ZHONGSHAN), towns(GUANGZHOU)
    known = {*wuhua, *xingning, *meizhou, *zhongshan, *guangzhou}
    rest = tuple(t for t in towns(GUANGDONG) if t not in known)
    away = tuple(t for city in AWAY_CITIES for t in towns(city))
    return (
        HomeGroup("wuhua", wuhua, 190),
        HomeGroup("xingning", xingning, 110),
        HomeGroup("meizhou", meizhou, 80),
        HomeGroup("zhongshan", zhongshan, 120),
        HomeGroup("guangzhou", guangzhou, 170),
        HomeGroup("rest", rest, 270),
        HomeGroup("away", away, 60),
    )
