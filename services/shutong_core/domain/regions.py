"""The dated table of administrative divisions (行政区划): which region lies in which.

Level and ancestors come from the table, never from digits: cities without counties (东莞, 中山,
儋州) hold their towns themselves and share one code with the county that stands in for them,
provinces run some counties directly through a grouping code, and the statistics office gives codes
to development zones. What a government keeps for itself (省本级, 市本级) is written `<code>@self`;
it is no part of the region around it, so it lies in a scope only where the scope names it or that
very region.

Form of the table (UTF-8, lines end in LF, optionally one xz stream), read strictly:
    #divisions TAB <date>
    <code> TAB <level 0-4> TAB <kind> TAB <parent code> TAB <name>      ascending, parents first
    =<code> TAB <level> TAB <name>           a row that stands in for a missing level
    !<retired code> TAB <name> TAB <year> TAB <successor>[,<successor>] ascending
"""

from __future__ import annotations

import hashlib
import lzma
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from shutong_core.domain.errors import Rejected

NATION_CODE = "000000000000"
SELF = "@self"
#: The national table to town level has 2.3 MB; a table with every village would have 40.
TABLE_BYTES_MAX = 64 * 1024 * 1024


class Level(IntEnum):
    """Level of government; a smaller number is higher."""

    NATION = 0
    PROVINCE = 1
    CITY = 2
    COUNTY = 3
    TOWN = 4

    @classmethod
    def named(cls, name: str) -> Level:
        """The level with that English name (`province`, `town`, …). Raises Rejected if none."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise Rejected(f"no level of government is called {name!r}") from None


class Kind(StrEnum):
    """What stands behind a code."""

    NATION = "国家"
    PROVINCE = "省级"
    CITY = "地级"
    CITY_WITHOUT_COUNTIES = "不设区县的地级市"
    GROUPING = "汇总码"  # 市辖区, 县, 省直辖县级行政区划: a heading, no government
    COUNTY = "县级"
    PSEUDO_COUNTY = "市代码"  # stands in for the counties that its city does not have
    ZONE = "功能区"  # development zone with a statistical county code, no people's government
    SUBDISTRICT = "街道"
    TOWN = "镇"
    TOWNSHIP = "乡"
    TOWN_LIKE = "类似单位"  # reservoir, forest farm, development zone; no government
    SELF = "本级"  # <code>@self


_LEVEL_OF_KIND: Mapping[Kind, Level] = {
    Kind.NATION: Level.NATION,
    Kind.PROVINCE: Level.PROVINCE,
    Kind.CITY: Level.CITY,
    Kind.CITY_WITHOUT_COUNTIES: Level.CITY,
    Kind.GROUPING: Level.CITY,
    Kind.COUNTY: Level.COUNTY,
    Kind.PSEUDO_COUNTY: Level.COUNTY,
    Kind.ZONE: Level.COUNTY,
    Kind.SUBDISTRICT: Level.TOWN,
    Kind.TOWN: Level.TOWN,
    Kind.TOWNSHIP: Level.TOWN,
    Kind.TOWN_LIKE: Level.TOWN,
}
#: 主管部门 exist at county level and above (政务数据共享条例 Art. 8), where there is a government.
_KINDS_WITH_AUTHORITY = frozenset(
    {Kind.NATION, Kind.PROVINCE, Kind.CITY, Kind.CITY_WITHOUT_COUNTIES, Kind.COUNTY}
)

_DATE_LINE = re.compile(r"#divisions\t([0-9]{4}-[0-9]{2}-[0-9]{2})")
_ROW_LINE = re.compile(r"([0-9]{12})\t([0-4])\t([^\t]+)\t([0-9]{12}|)\t([^\t]+)")
_STAND_IN_LINE = re.compile(r"=([0-9]{12})\t([0-4])\t([^\t]+)")
_RETIRED_LINE = re.compile(r"!([0-9]{12})\t([^\t]+)\t([0-9]{4})\t([0-9]{12}(?:,[0-9]{12})*)")
_XZ_MAGIC = b"\xfd7zXZ\x00"
_INPUT_DIGITS = frozenset({6, 9, 12})


class Region(NamedTuple):
    """One row of the table; `parent` is "" for the nation. With `@self`: kind SELF."""

    code: str
    name: str
    level: Level
    parent: str
    kind: Kind


class StandIn(NamedTuple):
    """A row of the source that repeats the region `code` at a lower `level`, which it lacks.

    The region itself keeps the code; stand-ins only make the source's counts add up.
    """

    code: str
    name: str
    level: Level


class Retired(NamedTuple):
    """A code that is no longer current, the year it ended, and whose territory it became."""

    code: str
    name: str
    year: int
    successors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RegionTable:
    """Lookup in one dated table; every method is O(level depth) unless it says otherwise.

    `date` is the table's day, `digest` SHA-256 over its uncompressed bytes, retired codes included
    (32 bytes). Apart from `normalise`, methods take codes in full form; a code that is not in the
    table lies in nothing.
    """

    date: str
    digest: bytes
    stand_ins: tuple[StandIn, ...]
    _regions: Mapping[str, Region]
    _ancestors: Mapping[str, tuple[str, ...]]
    _children: Mapping[str, tuple[str, ...]]
    _retired: Mapping[str, Retired]

    def get(self, code: str) -> Region | None:
        """The region with that 12-digit code or `<code>@self`; None if not in the table."""
        region = self._regions.get(code)
        if region is None and code.endswith(SELF):
            base = self._regions.get(code[: -len(SELF)])
            if base is not None:
                return Region(code, base.name + "本级", base.level, base.code, Kind.SELF)
        return region

    def retired(self, code: str) -> Retired | None:
        """What is known of a retired 12-digit code, e.g. to name its successors in a message."""
        return self._retired.get(code)

    def normalise(self, text: str) -> str | None:
        """The full form of a code: 6 or 9 digits padded right, a retired code replaced.

        None if it is not in the table, or if a retired region went to several successors: to
        choose one of them could send a record to the wrong government.
        """
        if text in self._regions:
            return text
        digits, mark, rest = text.partition("@")
        if mark:
            base = self.normalise(digits) if rest == "self" else None
            return None if base is None else base + SELF
        if len(text) not in _INPUT_DIGITS:
            return None
        code = text.ljust(12, "0")
        if code in self._regions:
            return code
        retired = self._retired.get(code)
        if retired is None or len(retired.successors) != 1:
            return None
        return retired.successors[0]

    def level(self, code: str) -> Level:
        """Level of a region; of `<code>@self` that of the code. Raises Rejected if unknown."""
        return self._known(code).level

    def ancestors(self, code: str) -> tuple[str, ...]:
        """The region itself first, then each region around it, the nation last.

        For `<code>@self` only itself and the code; () for a code that is not in the table.
        """
        found = self._ancestors.get(code)
        if found is not None:
            return found
        if code.endswith(SELF) and code[: -len(SELF)] in self._ancestors:
            return (code, code[: -len(SELF)])
        return ()

    def contains(self, outer: str, inner: str) -> bool:
        """True if `inner` is `outer` or lies in it."""
        return outer in self.ancestors(inner)

    def scope_set(self, regions: Iterable[str]) -> frozenset[str]:
        """`regions` in full form, for `in_scope`. Raises Rejected naming those not in the table."""
        scope, unknown = set(), []
        for text in regions:
            code = self.normalise(text)
            if code is None:
                unknown.append(text)
            else:
                scope.add(code)
        if unknown:
            raise Rejected(f"not in the division table of {self.date}: {', '.join(unknown)}")
        return frozenset(scope)

    def in_scope(self, code: str, scope: frozenset[str]) -> bool:
        """True if `code` lies in any region of `scope`, whatever the size of the scope."""
        return not scope.isdisjoint(self.ancestors(code))

    def children(self, code: str) -> tuple[str, ...]:
        """The regions directly below, ascending; () for none, for `@self`, for unknown codes."""
        return self._children.get(code, ())

    def common_superior(self, a: str, b: str) -> str:
        """The region whose 主管部门 stands over both (政务数据共享条例 Art. 28).

        The lowest region around both that can have an authority: county level or above, neither a
        grouping code nor a development zone. Raises Rejected if either is not in the table.
        """
        around_b = self.ancestors(self._government(b))
        for code in self.ancestors(self._government(a)):
            if code in around_b and self._regions[code].kind in _KINDS_WITH_AUTHORITY:
                return code
        raise Rejected(f"no authority stands over both {a} and {b}")  # a table has one nation

    def territories(self, level: Level, within: str, also: Iterable[str] = ()) -> frozenset[str]:
        """All regions of `level` in `within`, and the regions `also` (cities without counties).

        Cost grows with the regions inside `within`. Units that are no governments are among them:
        their residents' records are counted too. Raises Rejected for codes not in the table.
        """
        found = set(self.scope_set(also))
        if self.level(within) <= level:
            pending = [within]
            while pending:
                code = pending.pop()
                reached = self._known(code).level
                if reached == level:
                    found.add(code)
                elif reached < level:
                    pending.extend(self.children(code))
        return frozenset(found)

    def territories_of(self, code: str, territories: frozenset[str]) -> tuple[str, ...]:
        """Those of `territories` that `code` lies in, the smallest first."""
        return tuple(around for around in self.ancestors(code) if around in territories)

    def _known(self, code: str) -> Region:
        region = self.get(code)
        if region is None:
            raise Rejected(f"{code!r} is not in the division table of {self.date}")
        return region

    def _government(self, code: str) -> str:
        """The code of the government: `@self` taken away."""
        return self._known(code).code.removesuffix(SELF)


def parse_table(data: bytes) -> RegionTable:
    """The table in `data`, plain or xz. Raises Rejected, with the line, if it is not well formed.

    The digest is over the uncompressed bytes, because compressors differ and the table does not.
    """
    plain = _decompress(data) if data.startswith(_XZ_MAGIC) else data
    try:
        lines = plain.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise Rejected("the division table is not UTF-8") from error
    head = _DATE_LINE.fullmatch(lines[0])
    if head is None or lines[-1]:
        raise Rejected("a division table starts with #divisions, TAB, date and ends with a line")
    end = len(lines) - 1
    retired_at = next((n for n, line in enumerate(lines) if line.startswith("!")), end)
    stand_ins_at = next((n for n, line in enumerate(lines) if line.startswith("=")), retired_at)
    regions, ancestors = _read_rows(lines[1:stand_ins_at])
    below: dict[str, list[str]] = {}
    for region in regions.values():
        below.setdefault(region.parent, []).append(region.code)
    below.pop("", None)
    return RegionTable(
        date=head[1],
        digest=hashlib.sha256(plain).digest(),
        stand_ins=_read_stand_ins(lines[stand_ins_at:retired_at], stand_ins_at + 1, regions),
        _regions=regions,
        _ancestors=ancestors,
        _children={code: tuple(found) for code, found in below.items()},
        _retired=_read_retired(lines[retired_at:end], retired_at + 1, regions),
    )


def _decompress(data: bytes) -> bytes:
    """One xz stream, bounded in size."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 * TABLE_BYTES_MAX)
    try:
        plain = decompressor.decompress(data, TABLE_BYTES_MAX)
    except lzma.LZMAError as error:
        raise Rejected("the division table is a damaged xz file") from error
    if not decompressor.eof or decompressor.unused_data:
        raise Rejected("the division table is cut off, too large, or followed by other data")
    return plain


def _read_rows(
    lines: list[str],
) -> tuple[dict[str, Region], dict[str, tuple[str, ...]]]:
    """Regions by code, with the chain of each; parents stand before their children."""
    regions: dict[str, Region] = {}
    ancestors: dict[str, tuple[str, ...]] = {}
    levels = {str(int(level)): level for level in Level}
    kinds = {str(kind): (kind, level) for kind, level in _LEVEL_OF_KIND.items()}
    previous = ""
    for number, line in enumerate(lines, start=2):
        fields = _ROW_LINE.fullmatch(line)
        if fields is None:
            raise Rejected(f"division table, line {number}: not a row")
        code, level_digit, kind_name, parent, name = fields.groups()
        level = levels[level_digit]
        kind, level_of_kind = kinds.get(kind_name, (None, None))
        if kind is None or level_of_kind is not level:
            raise Rejected(f"division table, line {number}: kind {kind_name} at level {level}")
        if code <= previous:
            raise Rejected(f"division table, line {number}: codes must ascend")
        if code == NATION_CODE and not parent and level is Level.NATION:
            chain: tuple[str, ...] = (code,)
        elif parent in regions and regions[parent].level < level:
            # the parent's own string, so that equal codes are one object and compare fast
            parent = regions[parent].code
            chain = (code, *ancestors[parent])
        else:
            raise Rejected(f"division table, line {number}: parent must be a higher row before")
        regions[code] = Region(code, name, level, parent, kind)
        ancestors[code] = chain
        previous = code
    if not regions:
        raise Rejected("division table without rows")
    return regions, ancestors


def _read_stand_ins(
    lines: list[str], first_number: int, regions: Mapping[str, Region]
) -> tuple[StandIn, ...]:
    """Stand-ins; each repeats a region of a higher level."""
    found = []
    for number, line in enumerate(lines, start=first_number):
        fields = _STAND_IN_LINE.fullmatch(line)
        region = regions.get(fields[1]) if fields else None
        if fields is None or region is None or region.level >= int(fields[2]):
            raise Rejected(f"division table, line {number}: not a stand-in for a row above")
        found.append(StandIn(region.code, fields[3], Level(int(fields[2]))))
    return tuple(found)


def _read_retired(
    lines: list[str], first_number: int, regions: Mapping[str, Region]
) -> dict[str, Retired]:
    """Retired codes; each is no longer in the table, each successor is."""
    retired: dict[str, Retired] = {}
    previous = ""
    for number, line in enumerate(lines, start=first_number):
        fields = _RETIRED_LINE.fullmatch(line)
        if fields is None:
            raise Rejected(f"division table, line {number}: not a retired code")
        code, name, year, successors = fields[1], fields[2], int(fields[3]), fields[4].split(",")
        if code <= previous or code in regions:
            raise Rejected(f"division table, line {number}: not ascending, or still current")
        if any(successor not in regions for successor in successors):
            raise Rejected(f"division table, line {number}: a successor is not in the table")
        retired[code] = Retired(code, name, year, tuple(successors))
        previous = code
    return retired
