"""What the index promises, held on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from audit_samples import CLUSTER, filled
from contract.databases import own_postgres, postgres_programs
from shutong_auditor.index.engine import open_index
from shutong_auditor.index.events import UNREADABLE, EventQuestion, EventWriter, events
from shutong_auditor.index.indexer import IndexedBlock, Indexer, day_of, drop_index
from shutong_auditor.index.questions import Question, last_blocks, matrix, spans, sums, supplied
from shutong_auditor.index.retention import purge, require_past_term
from shutong_auditor.index.schema import EVENTS
from shutong_auditor.tally import OUTSIDE, PLACED
from shutong_auditor.userecords import UseRecords, filed, parse_use
from shutong_core.audit.access import AccessChain, Act
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import Level
from unit.bus_schemas import codec
from unit.test_index import PAIRS, TABLE, USCC, block, indexed, placed_count

CODEC = codec()
DAY_MS = 86_400_000
TERM = 1096


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed here (initdb, pg_ctl)")
    with own_postgres(programs) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = open_index(None, tmp_path)
    else:
        made = open_index(request.getfixturevalue("postgres"), tmp_path)
        drop_index(made, CLUSTER)
    assert made.dialect.name == request.param
    yield made
    made.dispose()


def late(made: IndexedBlock, days: int, more_ms: int = 0) -> IndexedBlock:
    """The block as if it had been decided so many days later."""
    later_ms = days * DAY_MS + more_ms
    header = replace(made.header, decided_ms=made.header.decided_ms + later_ms)
    return replace(made, header=header)


def two_days(engine: Engine) -> Indexer:
    indexer = Indexer(engine, TABLE, CLUSTER)
    first = block()
    second = block(2, previous=first.hash)
    # One transaction after the other: each adds to what its day already has.
    indexer.add([late(indexed(block(lane=1)), 0, 5)])
    indexer.add([indexed(first)])
    indexer.add([late(indexed(second, 2), 1)])
    return indexer


def test_every_cell_of_the_matrix_has_its_known_count_and_direction(engine: Engine) -> None:
    two_days(engine)
    found = {line[1:3]: line[3:] for line in matrix(engine, Question()).lines}
    for giver, receiver in PAIRS:
        way = "横向" if giver == receiver else "上行" if receiver < giver else "下行共享"
        expected = (way, 3 * placed_count(giver, receiver))
        assert found[int(giver), int(receiver)] == expected, (giver, receiver)
    assert len(found) == 25


def test_sums_by_day_are_those_of_the_blocks(engine: Engine) -> None:
    two_days(engine)
    names = ("day", "dataset", "grant_id", "publisher", "provider", "requester", "verdict")
    for by in (*((name,) for name in names), ("giver", "receiver", "direction"), ("month",)):
        of_days = sums(engine, Question(), by).lines
        of_blocks = sums(engine, Question(), (*by, "lane", "sequence"), 10_000).lines
        summed: dict[Any, int] = {}
        for line in of_blocks:
            summed[line[: len(by)]] = summed.get(line[: len(by)], 0) + line[-1]
        assert {line[:-1]: line[-1] for line in of_days} == summed, by
    assert len(sums(engine, Question(), ("day",)).lines) == 2


def test_a_block_counts_once_whoever_adds_it(engine: Engine) -> None:
    two_days(engine)
    before = sums(engine, Question(), ("day", "grant_id", "verdict"))
    day = day_of(1_780_000_000_001)
    intakes = supplied(engine, USCC[Level.TOWN], day, "2027-01-01")
    again = Indexer(engine, TABLE, CLUSTER)
    assert again.next(0) == (3, 2)
    assert again.add([indexed(block()), indexed(block(lane=1))]) == 0
    assert sums(engine, Question(), ("day", "grant_id", "verdict")) == before
    assert supplied(engine, USCC[Level.TOWN], day, "2027-01-01") == intakes
    assert intakes[0][:3] == ("d4", "BAD_ID_NUMBER", 3)
    assert intakes[0][4] - intakes[0][3] == DAY_MS + 1, "first and last decision of both days"
    (refused, _) = supplied(engine, USCC[Level.TOWN], day, day)
    assert refused[2:] == (2, 1_780_000_000_001, 1_780_000_000_006)


def test_another_block_under_a_number_that_is_taken_changes_nothing(engine: Engine) -> None:
    indexer = two_days(engine)
    before = sums(engine, Question(), ("day", "verdict"))
    fork = indexed(block(2, previous=filled("other", 32)), 2)
    good = indexed(block(2, lane=1, previous=block(lane=1).hash), 2)
    with pytest.raises(Rejected, match="two histories"):
        indexer.add([good, fork])
    assert sums(engine, Question(), ("day", "verdict")) == before
    assert last_blocks(engine) == {0: 2, 1: 1}
    assert indexer.add([good]) == 1


def test_verdicts_add_up_to_the_rows_that_passed(engine: Engine) -> None:
    two_days(engine)
    for giver, receiver in itertools.product(Level, Level):
        grant = f"g{int(giver)}-{int(receiver)}"
        found = dict(sums(engine, Question(grant=grant), ("verdict",)).lines)
        assert sum(found.values()) == 3 * 29
        assert set(found) <= {PLACED, OUTSIDE, "EXPIRED"}


def test_the_numbers_of_each_day_are_apart(engine: Engine) -> None:
    two_days(engine)
    first, second = (day_of(1_780_000_000_001 + n * DAY_MS) for n in (0, 1))
    count = placed_count(Level.CITY, Level.TOWN)
    numbers = {
        day: [(each.lane, each.first_k, each.last_k) for each in spans(engine, day)
              if each.grant == "g2-4"]
        for day in (first, second)
    }  # fmt: skip
    assert numbers == {
        first: [(0, 1, count), (1, 1, count)],
        second: [(0, count + 1, 2 * count)],
    }


def stored_events(*acts: Act) -> list[bytes]:
    chain, made = AccessChain("control", "cd" * 16), []
    for act in acts:
        encoded, chain = chain.next(act, CODEC.encode)
        made.append(encoded)
    return made


def test_access_events_are_indexed_once_and_asked_by_what_they_say(engine: Engine) -> None:
    Indexer(engine, TABLE, CLUSTER)
    writer = EventWriter(engine, CODEC)
    at = 1_780_000_000_000
    made = stored_events(
        Act(at, "ORG/a", "key.issue", "system/x", detail="with \x00 and 中文"),
        Act(at + DAY_MS, "ORG/b", "pull", "grant/g", refused=Reason.NOT_YOUR_GRANT),
        Act(at + DAY_MS, "ORG_/b", "pull", "grant/g", refused=Reason.NOT_YOUR_GRANT),
    )
    records = [(offset, data, at) for offset, data in enumerate(made)]
    assert writer.next(0) == 0
    assert writer.add(0, records) == 3
    assert writer.add(0, records) == 0
    assert (writer.next(0), writer.next(1)) == (3, 0)

    def found(**fields: Any) -> list[str]:
        return [each["actor"] for each in events(engine, EventQuestion(**fields))[0]]

    assert found() == ["ORG_/b", "ORG/b", "ORG/a"]
    assert found(actor="ORG") == ["ORG/b", "ORG/a"], "and nobody whose name only begins like it"
    assert found(actor="ORG/b") == ["ORG/b"]
    assert found(refused=False) == found(action="key.issue") == found(target="system/x")
    assert found(refused=True, last_day=day_of(at)) == []
    assert events(engine, EventQuestion(), limit=1) == (
        events(engine, EventQuestion(), limit=3)[0][:1],
        True,
    )
    with pytest.raises(Rejected, match="two histories"):
        writer.add(0, [(1, made[0], at)])
    with pytest.raises(Rejected):
        events(engine, EventQuestion(), limit=0)


def test_what_is_no_event_is_shown_as_such_and_stops_nothing(engine: Engine) -> None:
    Indexer(engine, TABLE, CLUSTER)
    writer = EventWriter(engine, CODEC)
    good = stored_events(Act(1_780_000_000_000, "ORG/a", "x"))[0]
    garbage = [b"", b"\xc3\x01", good[:-1], good + b"!", bytes(300)]
    assert writer.add(1, [(n, each, 1_780_000_000_000) for n, each in enumerate(garbage)]) == 5
    found, _ = events(engine, EventQuestion(action=UNREADABLE))
    assert [each["offset"] for each in found] == [4, 3, 2, 1, 0]
    assert writer.add(1, [(5, good, 0)]) == 1


def test_nothing_leaves_before_its_term_then_all_of_its_day(engine: Engine) -> None:
    two_days(engine)
    writer = EventWriter(engine, CODEC)
    writer.add(0, [(0, stored_events(Act(1_780_000_000_001, "A/a", "x"))[0], 0)])
    first = date.fromisoformat(day_of(1_780_000_000_001))
    second = date.fromordinal(first.toordinal() + 1)
    young = date.fromordinal(first.toordinal() + TERM - 1)
    with pytest.raises(Rejected, match="within their term"):
        purge(engine, second, young, TERM)
    with pytest.raises(Rejected, match="three years of law"):
        purge(engine, second, date(2090, 1, 1), 1095)
    assert len(sums(engine, Question(), ("day",)).lines) == 2
    due = date.fromordinal(first.toordinal() + TERM)
    # The newest block of lane 1 is of the first day and stays: there the index goes on.
    assert purge(engine, second, due, TERM) == 1
    assert [line[0] for line in sums(engine, Question(), ("day",)).lines] == [second.isoformat()]
    assert (
        sums(engine, Question(), ("lane",)).lines
        == sums(engine, Question(first_day=second.isoformat()), ("lane",)).lines
    )
    assert last_blocks(engine) == {0: 2, 1: 1}
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(EVENTS)).scalar() == 0
    assert Indexer(engine, TABLE, CLUSTER).next(0) == (3, 2)


def test_made_anew_it_is_the_same_and_records_of_use_are_still_there(engine: Engine) -> None:
    two_days(engine)
    before = sums(engine, Question(), ("day", "grant_id", "verdict"))
    uses = UseRecords(engine)
    words = dict.fromkeys(("scenario", "process", "effect", "storage", "destruction"), "无 none")
    use = parse_use({"grant": "g", "first_day": "2026-01-01", "last_day": "2026-01-31", **words})
    record = filed(use, "R/s", "R", ("d", "P"), 1_780_000_000_000)
    held = len(uses.find(None)[0])
    uses.add(record)
    with pytest.raises(Fatal, match="left alone"):
        drop_index(engine, "another/bus")
    drop_index(engine, CLUSTER)
    two_days(engine)
    assert sums(engine, Question(), ("day", "grant_id", "verdict")) == before
    found, more = UseRecords(engine).find(frozenset({"P"}))
    assert (len(found), more) == (held + 1, False)
    assert record.id in {each["id"] for each in found}
    filed_on = date.fromisoformat(day_of(record.at_ms))
    day_after = date.fromordinal(filed_on.toordinal() + 1)
    with pytest.raises(Rejected, match="within their term"):
        uses.purge(day_after, date.fromordinal(filed_on.toordinal() + TERM - 1), TERM)
    assert uses.purge(day_after, date.fromordinal(filed_on.toordinal() + TERM), TERM) == held + 1


def test_texts_are_values_whatever_the_database(engine: Engine) -> None:
    two_days(engine)
    for text in ("' or 1=1 --", "%", "x'; drop table flows; --", "\\"):
        assert sums(engine, Question(grant=text), ("day",)).lines == ()
        assert events(engine, EventQuestion(actor=text))[0] == []
    assert sums(engine, Question(), ()).lines[0][-1] > 0


def test_a_day_that_is_not_over_its_term_is_named_in_the_refusal() -> None:
    with pytest.raises(Rejected, match="2023-11-26"):
        require_past_term(date(2023, 11, 28), date(2026, 11, 26), TERM)
    require_past_term(date(2023, 11, 26), date(2026, 11, 26), TERM)
