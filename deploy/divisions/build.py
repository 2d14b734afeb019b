"""Builds the division table of the product from the CSV files of `china-division`.

    python deploy/divisions/build.py DIRECTORY_WITH_CSV services/shutong_core/files

DIRECTORY_WITH_CSV holds provinces.csv, cities.csv, areas.csv, streets.csv; `retired.tsv` lies
beside this script. Prints the counts and the digest, which the tests pin.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

DATE = "2023-06-30"
NATION = "000000000000"
#: Headings of the statistics office at city level: no government stands behind them.
GROUPINGS = frozenset({"市辖区", "县", "省直辖县级行政区划", "自治区直辖县级行政区划"})
#: 嘉峪关 has no counties either, but its stand-in county has a code of its own.
PSEUDO_COUNTIES = frozenset({"620201"})


#: These have no towns; 金门县 stands in for its own, which makes one 12-digit code out of two rows.
COUNTIES_WITHOUT_TOWNS = frozenset({"350527"})


class Line(NamedTuple):
    """One row of the table, with parent "" for the nation."""

    code: str
    level: int
    kind: str
    parent: str
    name: str


def pad(code: str) -> str:
    """The 12-digit form."""
    return code.ljust(12, "0")


def read(directory: Path, name: str) -> list[dict[str, str]]:
    """The rows of one CSV file."""
    with (directory / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def county_kind(code: str) -> str:
    """County digits 71-80 are the statistics office's own, for development zones."""
    if code in PSEUDO_COUNTIES:
        return "市代码"
    return "功能区" if 71 <= int(code[4:6]) <= 80 else "县级"


def town_kind(code: str) -> str:
    """Town digits by GB/T 10114-2003."""
    number = int(code[6:9])
    if not 1 <= number <= 599:
        raise SystemExit(f"{code}: town digits outside 001-599")
    if number < 100:
        return "街道"
    if number < 200:
        return "镇"
    return "乡" if number < 400 else "类似单位"


def lines(directory: Path) -> tuple[list[Line], list[str]]:
    """All rows, and the stand-ins: rows whose 12 digits are those of the region around them.

    The parent is what the source says, never what the digits suggest.
    """
    cities = read(directory, "cities.csv")
    counties = read(directory, "areas.csv")
    towns = read(directory, "streets.csv")
    # 441900 东莞市 stands in for the counties of 4419 东莞市: the city stays, the towns hang on it.
    city_codes = {pad(row["code"]) for row in cities}
    folded = [row for row in counties if pad(row["code"]) in city_codes]
    folded_towns = [row for row in towns if pad(row["code"]) == pad(row["areaCode"])]
    if {row["areaCode"] for row in folded_towns} != COUNTIES_WITHOUT_TOWNS:
        raise SystemExit(f"unexpected stand-ins: {folded_towns}")
    without_counties = {pad(row["cityCode"]) for row in folded} | {
        pad(row["cityCode"]) for row in counties if row["code"] in PSEUDO_COUNTIES
    }
    found = [Line(NATION, 0, "国家", "", "中华人民共和国")]
    found += [
        Line(pad(row["code"]), 1, "省级", NATION, row["name"])
        for row in read(directory, "provinces.csv")
    ]
    for row in cities:
        code = pad(row["code"])
        kind = "不设区县的地级市" if code in without_counties else "地级"
        kind = "汇总码" if row["name"] in GROUPINGS else kind
        found.append(Line(code, 2, kind, pad(row["provinceCode"]), row["name"]))
    found += [
        Line(pad(row["code"]), 3, county_kind(row["code"]), pad(row["cityCode"]), row["name"])
        for row in counties
        if row not in folded
    ]
    found += [
        Line(pad(row["code"]), 4, town_kind(row["code"]), pad(row["areaCode"]), row["name"])
        for row in towns
        if row not in folded_towns
    ]
    stand_ins = [f"={pad(row['code'])}\t3\t{row['name']}" for row in folded]
    stand_ins += [f"={pad(row['code'])}\t4\t{row['name']}" for row in folded_towns]
    return sorted(found), sorted(stand_ins)


def retired_lines(path: Path) -> list[str]:
    """The retired codes as they stand in the table, comments left out."""
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    return sorted("!" + row for row in rows)


def main(arguments: list[str]) -> None:
    """Reads, writes, prints what was written."""
    if len(arguments) != 2:
        raise SystemExit(__doc__)
    source, target = map(Path, arguments)
    rows, stand_ins = lines(source)
    retired = retired_lines(Path(__file__).with_name("retired.tsv"))
    head = f"#divisions\t{DATE}"
    text = (
        "\n".join([head, *("\t".join(map(str, row)) for row in rows), *stand_ins, *retired]) + "\n"
    )
    plain = text.encode()
    out = target / f"divisions-{DATE}.tsv.xz"
    out.write_bytes(lzma.compress(plain, check=lzma.CHECK_SHA256, preset=9 | lzma.PRESET_EXTREME))
    sys.stdout.write(
        f"{out}: {out.stat().st_size} bytes, {len(stand_ins)} stand-ins, {len(retired)} retired\n"
        f"levels {sorted(Counter(row.level for row in rows).items())}\n"
        f"kinds {Counter(row.kind for row in rows)}\n"
        f"digest {hashlib.sha256(plain).hexdigest()}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
