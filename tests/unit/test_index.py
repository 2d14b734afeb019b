"""The index: every block once, sums that are known, questions that are refused or answered."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from sqlalchemy import Engine

from audit_samples import CLUSTER, SampleLane, facts, filled, sample_lane
from shutong_auditor.index.engine import open_index
from shutong_auditor.index.indexer import IndexedBlock, Indexer, day_of
from shutong_auditor.index.questions import (
    Question,
    last_blocks,
    matrix,
    spans,
    sums,
    supplied,
)
from shutong_auditor.tally import OUTSIDE, PLACED
from shutong_cli.sheet import write_sheet
from shutong_core.audit.block import NO_BLOCK, Block, BlockBuilder, parse_block
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.domain.grants import Grant
from shutong_core.domain.organisations import Organisation
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import Level
from shutong_core.domain.version import ListVersion
from unit.policy_world import table

REGIONS = {
    Level.NATION: "000000000000",
    Level.PROVINCE: "440000000000",
    Level.CITY: "441400000000",
    Level.COUNTY: "441424000000",
    Level.TOWN: "441424100000",
}
USCC = {level: f"ORG-OF-LEVEL-{int(level)}" for level in Level}
PAIRS = tuple(itertools.product(Level, Level))
TABLE = table()


def version(number: int = 7) -> ListVersion:
    """An organisation and a dataset of each level, a grant from each to each."""
    rows: dict[str, Any] = {}
    grants: dict[str, tuple[Grant, ...]] = {}
    for level in Level:
        name = USCC[level]
        rows[f"organisation/{name}"] = Organisation.model_construct(
            id=name, name=name, region=REGIONS[level], line="民政", roles=()
        )
        rows[f"dataset/d{int(level)}"] = Dataset.model_construct(id=f"d{int(level)}", provider=name)
    for giver, receiver in PAIRS:
        grant = Grant.model_construct(
            id=f"g{int(giver)}-{int(receiver)}",
            dataset=f"d{int(giver)}",
            requester=USCC[receiver],
            requester_class=None,
            return_flow=False,
        )
        rows[f"grant/{grant.id}"] = grant
        grants[grant.dataset] = (*grants.get(grant.dataset, ()), grant)
    return ListVersion(number, filled(f"list {number}", 32), 0, rows, {}, grants)


def placed_count(giver: Level, receiver: Level) -> int:
    return 1 + 5 * int(giver) + int(receiver)


def block(sequence: int = 1, lane: int = 0, previous: bytes = NO_BLOCK) -> Block:
    """Rows of every level's dataset; the n-th grant receives the first `placed_count` rows."""
    builder = BlockBuilder(filled(f"salt {lane} {sequence}", 16))
    for giver in Level:
        part = builder.add_input(f"d{int(giver)}", (sequence - 1) * 31)
        first = (sequence - 1) * 31
        for number in range(30):
            refused = Reason.BAD_ID_NUMBER if number == 29 else None
            row = part.add_row(
                first + number, f"{USCC[giver]}/sys", filled("d", 32), (), None, 0, refused
            )
            for receiver in Level:
                grant = f"g{int(giver)}-{int(receiver)}"
                if number < placed_count(giver, receiver):
                    part.allow(row, grant)
                elif number == 28:
                    part.withhold(row, grant, Reason.EXPIRED)
        part.end(first + 31)
        for receiver in Level:
            count = placed_count(giver, receiver)
            grant = f"g{int(giver)}-{int(receiver)}"
            part.place(grant, (sequence - 1) * count + 1, 10 * count, filled(f"c{sequence}", 32))
    return builder.build(facts(lane, sequence, previous), None)


def indexed(made: Block, offset: int = 1) -> IndexedBlock:
    head, body = parse_block(made.header, made.body)
    return IndexedBlock(offset, made.header, head, body, version())


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_index(None, tmp_path)


def test_every_cell_of_the_matrix_of_levels_has_its_known_count(engine: Engine) -> None:
    assert Indexer(engine, TABLE, CLUSTER).add([indexed(block())]) == 1
    answer = matrix(engine, Question())
    assert answer.columns == ("month", "giver", "receiver", "direction", "count")
    found = {(line[1], line[2]): (line[3], line[4]) for line in answer.lines}
    assert {cell: count for cell, (_, count) in found.items()} == {
        (int(a), int(b)): placed_count(a, b) for a, b in PAIRS
    }
    for (giver, receiver), (direction, _) in found.items():
        wanted = "横向" if giver == receiver else "上行" if receiver < giver else "下行共享"
        assert direction == wanted, (giver, receiver)
    month = day_of(parse_block(block().header, block().body)[0].decided_ms)[:7]
    assert {line[0] for line in answer.lines} == {month}


def test_a_block_counts_once_and_another_one_in_its_place_is_refused(engine: Engine) -> None:
    indexer = Indexer(engine, TABLE, CLUSTER)
    first = block()
    second = block(2, previous=first.hash)
    assert indexer.add([indexed(first), indexed(second, 2)]) == 2
    assert indexer.add([indexed(first), indexed(second, 2)]) == 0
    again = Indexer(engine, TABLE, CLUSTER)
    assert again.next(0) == (3, 2)
    assert again.add([indexed(second, 2)]) == 0
    total = sums(engine, Question(verdict=PLACED), ())
    assert total.lines[0][-1] == 2 * sum(placed_count(a, b) for a, b in PAIRS)
    other = block(2, previous=filled("other", 32))
    with pytest.raises(Rejected, match="two histories"):
        again.add([indexed(other, 2)])
    with pytest.raises(Rejected, match="comes after"):
        again.add([indexed(block(5), 9)])
    assert last_blocks(engine) == {0: 2}


def test_an_index_made_anew_is_the_same(engine: Engine) -> None:
    indexer = Indexer(engine, TABLE, CLUSTER)
    made = [indexed(block(lane=lane)) for lane in range(3)]
    indexer.add(made)
    before = sums(engine, Question(), ("lane", "grant_id", "verdict"))
    indexer.clear()
    assert sums(engine, Question(), ("lane",)).lines == ()
    assert indexer.blocks() == 0
    indexer.add(made)
    assert sums(engine, Question(), ("lane", "grant_id", "verdict")) == before


def test_what_was_not_placed_is_told_with_its_reason(engine: Engine) -> None:
    Indexer(engine, TABLE, CLUSTER).add([indexed(block())])
    answer = sums(engine, Question(grant="g1-2"), ("verdict",))
    count = placed_count(Level.PROVINCE, Level.CITY)
    # 29 rows pass; one of them is withheld by name.
    assert dict(answer.lines) == {PLACED: count, "EXPIRED": 1, OUTSIDE: 29 - count - 1}


def test_questions_narrow_by_every_column_they_name(engine: Engine) -> None:
    Indexer(engine, TABLE, CLUSTER).add([indexed(block()), indexed(block(lane=1))])
    day = day_of(1_780_000_000_001)
    whole = sums(engine, Question(), ()).lines[0][-1]
    city = USCC[Level.CITY]

    def total(**fields: Any) -> int:
        return int(sums(engine, Question(**fields), ()).lines[0][-1])

    assert total(first_day=day, last_day=day) == whole
    assert total(first_day="2030-01-01") == 0
    assert total(last_day="2020-01-01") == 0
    assert total(list_number=7) == whole
    assert total(list_number=8) == 0
    assert total(provider=city) == total(giver=2) == total(dataset="d2")
    assert total(requester=city) == total(receiver=2)
    assert total(organisation=city) == total(provider=city) + total(requester=city) - total(
        provider=city, requester=city
    )
    assert total(direction="横向") == sum(total(giver=n, receiver=n) for n in range(5))
    by_block = sums(engine, Question(grant="g0-1"), ("lane", "sequence"))
    assert [line[:2] for line in by_block.lines] == [(0, 1), (1, 1)]


def test_answers_come_in_pages_and_say_that_there_is_more(engine: Engine) -> None:
    Indexer(engine, TABLE, CLUSTER).add([indexed(block())])
    whole = sums(engine, Question(), ("grant_id", "verdict"))
    pages: list[Any] = []
    while True:
        page = sums(engine, Question(), ("grant_id", "verdict"), limit=7, skip=len(pages))
        pages += page.lines
        if not page.more:
            break
    assert tuple(pages) == whole.lines


@pytest.mark.parametrize(
    ("by", "limit", "skip"),
    [(("count",), 5, 0), (("day", "day"), 5, 0), (("1; drop",), 5, 0), ((), 0, 0), ((), 5, -1)],
)
def test_a_question_that_makes_no_sense_is_refused(
    engine: Engine, by: tuple[str, ...], limit: int, skip: int
) -> None:
    Indexer(engine, TABLE, CLUSTER)
    with pytest.raises(Rejected):
        sums(engine, Question(), by, limit, skip)


def test_texts_of_a_question_are_values_and_never_sql(engine: Engine) -> None:
    Indexer(engine, TABLE, CLUSTER).add([indexed(block())])
    for text in ("' or 1=1 --", "%", "x'; drop table flows; --"):
        assert sums(engine, Question(grant=text), ("day",)).lines == ()
    assert sums(engine, Question(), ()).lines[0][-1] > 0


def test_a_department_supplied_what_its_rows_say(engine: Engine) -> None:
    Indexer(engine, TABLE, CLUSTER).add([indexed(block()), indexed(block(lane=1))])
    day = day_of(1_780_000_000_001)
    found = supplied(engine, USCC[Level.COUNTY], day, day)
    assert [each[:3] for each in found] == [("d3", "BAD_ID_NUMBER", 2), ("d3", "passed", 58)]
    assert supplied(engine, USCC[Level.COUNTY], "2020-01-01", "2020-01-02") == []


def test_the_numbers_of_a_day_are_those_its_blocks_placed(engine: Engine) -> None:
    first = block()
    Indexer(engine, TABLE, CLUSTER).add([indexed(first), indexed(block(2, previous=first.hash), 2)])
    found = {span.grant: span for span in spans(engine, day_of(1_780_000_000_001))}
    assert len(found) == len(PAIRS)
    count = placed_count(Level.TOWN, Level.CITY)
    span = found["g4-2"]
    assert (span.lane, span.first_k, span.last_k, span.count) == (0, 1, 2 * count, 2 * count)
    assert span.whole
    assert spans(engine, "2020-01-01") == []


def test_days_are_those_of_the_people_who_ask() -> None:
    assert day_of(1_795_017_599_999) == "2026-11-18"  # 23:59:59.999 in China
    assert day_of(1_795_017_600_000) == "2026-11-19"


def test_an_index_of_another_bus_is_not_taken(tmp_path: Path) -> None:
    Indexer(open_index(None, tmp_path), TABLE, CLUSTER)
    with pytest.raises(Fatal, match="another database"):
        Indexer(open_index(None, tmp_path), TABLE, "another/bus")


def test_a_block_of_datasets_that_left_the_list_counts_its_rows(engine: Engine) -> None:
    lane: SampleLane = sample_lane(1)
    Indexer(engine, TABLE, CLUSTER).add([indexed(lane.blocks[0])])
    assert last_blocks(engine) == {0: 1}
    assert sums(engine, Question(), ("dataset",)).lines == ()


def test_a_sheet_holds_no_formula_whatever_stands_in_it(tmp_path: Path) -> None:
    lines = [["=1+1", 5], ["@cmd", -3], ["+x", 0], ["-x", 0], ["平常", 1]]
    for name in ("a.csv", "a.xlsx"):
        write_sheet(tmp_path / name, ["=头", "n"], lines)
    text = (tmp_path / "a.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbf'=")
    assert text.decode("utf-8-sig").splitlines()[1:3] == ["'=1+1,5", "'@cmd,-3"]
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx").active
    assert [cell.value for cell in sheet["A"]] == ["'=头", "'=1+1", "'@cmd", "'+x", "'-x", "平常"]
    with pytest.raises(Rejected, match=r"\.xlsx"):
        write_sheet(tmp_path / "a.doc", ["x"], [])
