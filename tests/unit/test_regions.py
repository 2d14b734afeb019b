"""The division table: levels, ancestors, codes as people write them, scopes."""

from __future__ import annotations

import lzma
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shutong_core
from shutong_core.domain.errors import Rejected
from shutong_core.domain.regions import (
    NATION_CODE,
    Kind,
    Level,
    RegionTable,
    StandIn,
    parse_table,
)

FILE = Path(shutong_core.__file__).parent / "files" / "divisions-2023-06-30.tsv.xz"
DIGEST = "449db981ae4ea8a935aaa909f8df23b095b07611a079edc4f9efb03e30eb4684"

GUANGDONG = "440000000000"
MEIZHOU = "441400000000"
WUHUA = "441424000000"
SHUIZHAI = "441424100000"
DONGGUAN = "441900000000"

SMALL = """#divisions\t2023-06-30
000000000000\t0\t国家\t\t中华人民共和国
440000000000\t1\t省级\t000000000000\t广东省
441900000000\t2\t不设区县的地级市\t440000000000\t东莞市
441900003000\t4\t街道\t441900000000\t东城街道
=441900000000\t3\t东莞市
!440102000000\t东山区\t2005\t441900000000
"""


@cache
def table() -> RegionTable:
    return parse_table(FILE.read_bytes())


@cache
def codes() -> tuple[str, ...]:
    found, pending = [], [NATION_CODE]
    while pending:
        code = pending.pop()
        found.append(code)
        pending.extend(table().children(code))
    return tuple(sorted(found))


def level_of(code: str) -> Level:
    return table().level(code)


def test_the_table_is_the_one_that_was_built() -> None:
    assert table().date == "2023-06-30"
    assert table().digest.hex() == DIGEST


def test_the_table_has_every_row_of_its_source() -> None:
    own = Counter(level_of(code) for code in codes())
    stand_ins = Counter(row.level for row in table().stand_ins)
    assert own[Level.NATION] == 1
    assert own[Level.PROVINCE] == 31
    assert own[Level.CITY] == 342
    assert own[Level.COUNTY] + stand_ins[Level.COUNTY] == 2975 + 3 == 2978
    assert own[Level.TOWN] + stand_ins[Level.TOWN] == 41351 + 1 == 41352


def test_guangdong_has_21_cities_122_counties_of_their_own_code_and_1757_towns() -> None:
    inside = Counter(level_of(code) for code in codes() if table().contains(GUANGDONG, code))
    assert inside == {Level.PROVINCE: 1, Level.CITY: 21, Level.COUNTY: 122, Level.TOWN: 1757}


def test_towns_are_of_four_kinds() -> None:
    kinds = Counter(table().get(c).kind for c in codes() if level_of(c) == Level.TOWN)  # type: ignore[union-attr]
    assert kinds == {
        Kind.SUBDISTRICT: 9066,
        Kind.TOWN: 21377,
        Kind.TOWNSHIP: 8198,
        Kind.TOWN_LIKE: 2710,
    }


def test_a_town_lies_in_its_county_city_province_nation() -> None:
    assert table().ancestors(SHUIZHAI) == (SHUIZHAI, WUHUA, MEIZHOU, GUANGDONG, NATION_CODE)


def test_a_town_of_a_city_without_counties_lies_in_the_city() -> None:
    town = table().get("441900003000")
    assert town is not None
    assert (town.level, town.parent, town.kind) == (Level.TOWN, DONGGUAN, Kind.SUBDISTRICT)
    assert table().ancestors(town.code) == (town.code, DONGGUAN, GUANGDONG, NATION_CODE)


@pytest.mark.parametrize("city", ["441900000000", "442000000000", "460400000000"])
def test_a_city_and_the_county_that_stands_in_are_one_region_of_city_level(city: str) -> None:
    region = table().get(city)
    assert region is not None
    assert (region.level, region.kind) == (Level.CITY, Kind.CITY_WITHOUT_COUNTIES)
    assert StandIn(city, region.name, Level.COUNTY) in table().stand_ins
    assert all(level_of(child) == Level.TOWN for child in table().children(city))


def test_a_county_that_stands_in_under_its_own_code_stays_a_county() -> None:
    region = table().get("620201000000")
    assert region is not None
    assert (region.level, region.kind) == (Level.COUNTY, Kind.PSEUDO_COUNTY)
    assert table().children("620200000000") == ("620201000000",)


def test_a_county_run_by_the_province_keeps_its_county_level() -> None:
    assert level_of("429004000000") == Level.COUNTY
    assert table().get("429000000000").kind == Kind.GROUPING  # type: ignore[union-attr]
    assert table().contains("420000000000", "429004100000")


def test_every_code_lies_in_each_region_around_it_and_in_no_other_of_that_level() -> None:
    for code in codes():
        chain = table().ancestors(code)
        levels = [level_of(around) for around in chain]
        assert chain[0] == code
        assert chain[-1] == NATION_CODE
        assert levels == sorted(set(levels), reverse=True)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("441424", WUHUA),
        ("441424100", SHUIZHAI),
        (SHUIZHAI, SHUIZHAI),
        ("000000", NATION_CODE),
        ("441900", DONGGUAN),
        ("440000@self", GUANGDONG + "@self"),
        (GUANGDONG + "@self", GUANGDONG + "@self"),
        ("371202", "370116000000"),  # 莱城区 became 莱芜区 of 济南
        ("371203000000", "370117000000"),  # 钢城区 kept its name, not its code
        ("330103000", "330105000000"),  # 下城区 went to 拱墅区
        ("330103@self", "330105000000@self"),
    ],
)
def test_a_code_is_brought_to_its_full_form(text: str, code: str) -> None:
    assert table().normalise(text) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "44",  # only 6, 9 and 12 digits are codes
        "4414",
        "44142410",
        "441424999",
        "441424100201",  # a village
        "810000",  # not in the source
        "441424 ",
        "４４１４２４",
        "44142a",
        "@self",
        "441424@",
        "441424@Self",
        "441424@self@self",
        "0" * 100_000,
    ],
)
def test_what_is_not_in_the_table_has_no_full_form(text: str) -> None:
    assert table().normalise(text) is None


@pytest.mark.parametrize("text", ["330104", "371200000000"])
def test_a_retired_region_that_was_split_is_refused_but_its_successors_are_told(text: str) -> None:
    assert table().normalise(text) is None
    retired = table().retired(text.ljust(12, "0"))
    assert retired is not None
    assert len(retired.successors) == 2


@given(st.text(max_size=20))
def test_whatever_has_a_full_form_is_in_the_table_and_keeps_that_form(text: str) -> None:
    code = table().normalise(text)
    assert code is None or (table().get(code) is not None and table().normalise(code) == code)


def test_what_a_government_keeps_for_itself_is_in_no_region_around_it() -> None:
    kept = GUANGDONG + "@self"
    assert table().ancestors(kept) == (kept, GUANGDONG)
    assert table().contains(GUANGDONG, kept)
    assert table().contains(kept, kept)
    assert not table().contains(NATION_CODE, kept)
    assert not table().contains(kept, GUANGDONG)
    assert not table().contains(kept, SHUIZHAI)
    assert table().children(kept) == ()


def test_what_a_government_keeps_for_itself_has_its_level_and_name() -> None:
    region = table().get(GUANGDONG + "@self")
    assert region is not None
    assert (region.name, region.level, region.parent, region.kind) == (
        "广东省本级",
        Level.PROVINCE,
        GUANGDONG,
        Kind.SELF,
    )


@pytest.mark.parametrize(
    ("scope", "code", "inside"),
    [
        ([GUANGDONG], SHUIZHAI, True),
        ([MEIZHOU, "440100000000"], SHUIZHAI, True),
        (["441481000000"], SHUIZHAI, False),  # county A never sees county B
        ([SHUIZHAI], WUHUA, False),
        ([], SHUIZHAI, False),
        ([NATION_CODE], SHUIZHAI, True),
        ([NATION_CODE], GUANGDONG + "@self", False),
        ([GUANGDONG], GUANGDONG + "@self", True),
        ([GUANGDONG + "@self"], GUANGDONG + "@self", True),
        ([GUANGDONG + "@self"], GUANGDONG, False),
        ([GUANGDONG], MEIZHOU + "@self", False),
        ([NATION_CODE], "999999000000", False),
        ([NATION_CODE], "999999000000@self", False),
    ],
)
def test_a_record_is_in_scope_by_the_tree(scope: list[str], code: str, inside: bool) -> None:
    assert table().in_scope(code, table().scope_set(scope)) is inside


def test_scope_and_contains_agree_with_the_walk_over_parents() -> None:
    for code in codes()[::97]:
        walked, at = set(), code
        while at:
            walked.add(at)
            at = table().get(at).parent  # type: ignore[union-attr]
        for outer in (code, GUANGDONG, MEIZHOU, DONGGUAN, NATION_CODE):
            assert table().contains(outer, code) == (outer in walked)
            assert table().in_scope(code, frozenset({outer})) == (outer in walked)


def test_a_scope_with_unknown_codes_is_refused_and_names_them() -> None:
    with pytest.raises(Rejected, match="999999, 888888"):
        table().scope_set(["999999", GUANGDONG, "888888"])


@pytest.mark.parametrize(
    ("a", "b", "superior"),
    [
        (WUHUA, WUHUA, WUHUA),
        (WUHUA, SHUIZHAI, WUHUA),
        (WUHUA, "441481000000", MEIZHOU),
        (WUHUA, "440104000000", GUANGDONG),
        (WUHUA, "350203000000", NATION_CODE),
        (GUANGDONG, SHUIZHAI, GUANGDONG),
        (SHUIZHAI, SHUIZHAI, WUHUA),  # no authority below county level
        ("441900003000", "441900101000", DONGGUAN),
        ("110101000000", "110105000000", "110000000000"),  # 市辖区 is a heading, no government
        ("659001000000", "659002000000", "650000000000"),
        ("620201100000", "620201101000", "620200000000"),  # the stand-in county has no government
        (GUANGDONG + "@self", WUHUA, GUANGDONG),
        (GUANGDONG + "@self", GUANGDONG + "@self", GUANGDONG),
    ],
)
def test_the_authority_over_two_regions_is_that_of_the_lowest_region_around_both(
    a: str, b: str, superior: str
) -> None:
    assert table().common_superior(a, b) == superior
    assert table().common_superior(b, a) == superior


def test_two_towns_in_a_development_zone_have_the_city_above_them() -> None:
    first, second = table().children("130171000000")[:2]
    assert table().common_superior(first, second) == "130100000000"


def test_the_territories_of_a_class_are_all_regions_of_its_level() -> None:
    towns = table().territories(Level.TOWN, GUANGDONG)
    assert len(towns) == 1757
    assert {SHUIZHAI, "441900003000"} <= towns
    assert table().territories(Level.COUNTY, MEIZHOU) == set(table().children(MEIZHOU))
    assert table().territories(Level.TOWN, SHUIZHAI) == {SHUIZHAI}
    assert table().territories(Level.CITY, WUHUA) == set()


def test_a_city_without_counties_is_a_county_level_territory_only_where_named() -> None:
    plain = table().territories(Level.COUNTY, GUANGDONG)
    named = table().territories(Level.COUNTY, GUANGDONG, ["441900", "442000"])
    assert len(plain) == 122
    assert named - plain == {DONGGUAN, "442000000000"}
    assert table().territories_of("441900003000", plain) == ()
    assert table().territories_of("441900003000", named) == (DONGGUAN,)
    assert table().territories_of(SHUIZHAI, named) == (WUHUA,)
    assert table().territories_of(MEIZHOU, named) == ()


def test_what_needs_a_region_refuses_a_code_that_is_not_in_the_table() -> None:
    for call in (
        lambda: table().level("999999000000"),
        lambda: table().common_superior(WUHUA, "999999000000"),
        lambda: table().territories(Level.TOWN, "999999000000"),
        lambda: table().territories(Level.TOWN, WUHUA, ["999999"]),
    ):
        with pytest.raises(Rejected, match="not in the division table"):
            call()
    assert table().get("999999000000") is None
    assert table().ancestors("999999000000@self") == ()


def test_levels_have_names() -> None:
    assert Level.named("county") is Level.COUNTY
    with pytest.raises(Rejected, match="village"):
        Level.named("village")


def test_a_table_may_be_plain_or_compressed_with_one_digest() -> None:
    plain = parse_table(SMALL.encode())
    packed = parse_table(lzma.compress(SMALL.encode()))
    assert plain == packed
    assert plain.normalise("440102") == DONGGUAN


def test_the_digest_covers_the_retired_codes() -> None:
    other = SMALL.replace("2005", "2006")
    assert parse_table(other.encode()).digest != parse_table(SMALL.encode()).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("#divisions", "#divisons"),
        ("2023-06-30", "2023"),
        ("000000000000\t0\t国家\t\t", "100000000000\t0\t国家\t\t"),  # only one root
        ("441900003000\t4", "441900003000\t5"),
        ("441900003000\t4\t街道", "441900003000\t3\t街道"),  # kind and level disagree
        ("\t4\t街道", "\t4\t巷"),
        ("441900003000\t4\t街道\t441900000000", "441900003000\t4\t街道\t441900000009"),
        ("441900003000\t4\t街道\t441900000000", "441900003000\t4\t街道\t441900003000"),
        ("441900003000\t4", "441900000000\t4"),  # a code twice
        ("441900003000\t4", "４４１９００００３０００\t4"),
        ("东城街道\n", "东城街道\textra\n"),
        ("东城街道\n", "东城街道\n\n"),
        ("东城街道\n", "东城街道\r\n" * 2),
        ("=441900000000\t3", "=441900000000\t2"),  # stands in for its own level
        ("=441900000000\t3", "=442000000000\t3"),
        ("!440102000000", "!440000000000"),  # still current
        ("2005\t441900000000", "2005\t442000000000"),  # successor not in the table
        ("2005\t441900000000\n", "2005\t441900000000"),  # last line cut off
        ("2005\t441900000000\n", "2005\t441900000000\n441900004000\t4\t街道\t441900000000\tA\n"),
    ],
)
def test_a_table_that_is_not_well_formed_is_refused(old: str, new: str) -> None:
    assert SMALL.count(old) >= 1
    with pytest.raises(Rejected, match="division table"):
        parse_table(SMALL.replace(old, new, 1).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#divisions\t2023-06-30\n",
        b"\xff\xfe",
        lzma.compress(SMALL.encode())[:-1],
        lzma.compress(SMALL.encode()) + b"x",
        lzma.compress(SMALL.encode())[:20] + b"\x00" * 80,
        lzma.compress(b"0" * (64 * 1024 * 1024 + 1), preset=0),  # a bomb
    ],
    ids=["empty", "no rows", "not UTF-8", "cut off", "more after it", "damaged", "bomb"],
)
def test_a_file_that_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(Rejected, match="division table"):
        parse_table(data)
