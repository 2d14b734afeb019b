"""Pages, windows, territories and chains of a delivery topic: pure, each record exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_consumer.chains import Countersigning, Stand, decode_stand, encode_stand
from shutong_consumer.inbox import Bounds, Page, Ready, Window, cut
from shutong_consumer.receiptbook import open_stand, seal_stand
from shutong_core.audit.chain import Segment, extend, genesis, territory_genesis
from shutong_core.audit.follow import Position, Wrong
from shutong_core.domain.errors import Rejected

CLUSTER, GRANT, TOWN, OTHER = "test", "g", "441424100000", "441424104000"


@dataclass(frozen=True)
class Record:
    """A placed record as a Kafka client gives it."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@st.composite
def topics(draw: st.DrawFn) -> dict[int, list[Record]]:
    """Partitions with records, with gaps where transaction markers stand."""
    found = {}
    for partition in range(draw(st.integers(1, 3))):
        offset = time = 0
        run = []
        for _ in range(draw(st.integers(0, 25))):
            offset += draw(st.integers(1, 3))
            time += draw(st.integers(0, 2))
            size = draw(st.integers(0, 40))
            run.append(Record(partition, offset, time, b"k", b"v" * size))
        found[partition] = run
    return found


def everything(topic: dict[int, list[Record]], position: dict[int, int]) -> Ready:
    """All there is from a position on, and the end with one marker behind."""
    return Ready(
        {p: [r for r in run if r.offset >= position[p]] for p, run in topic.items()},
        {p: (run[-1].offset + 2 if run else 0) for p, run in topic.items()},
    )


@given(topics(), st.lists(st.integers(1, 9), min_size=1), st.integers(1, 200), st.integers(1, 30))
def test_pages_of_any_size_give_every_record_exactly_once_and_in_order(
    topic: dict[int, list[Record]], sizes: list[int], bytes_max: int, scan_max: int
) -> None:
    position = dict.fromkeys(topic, 0)
    read: dict[int, list[Record]] = {p: [] for p in topic}
    turns = 0
    while True:
        bounds = Bounds(sizes[turns % len(sizes)], bytes_max, scan_max)
        page = cut(everything(topic, position), position, bounds)
        assert len(page.records) <= bounds.records_max
        assert page.bytes <= bytes_max or len(page.records) == 1
        for record in page.records:
            read[record.partition].append(record)
        position = dict(page.following)
        turns += 1
        if page.whole:
            break
    assert read == topic
    assert position == everything(topic, position).reached


@given(topics(), st.integers(1, 5), st.integers(1, 5))
def test_what_is_not_wanted_is_passed_over_and_the_cursor_goes_on(
    topic: dict[int, list[Record]], limit: int, scan_max: int
) -> None:
    position = dict.fromkeys(topic, 0)
    read: list[Record] = []
    for _ in range(200):
        page: Page = cut(
            everything(topic, position),
            position,
            Bounds(limit, 10_000, scan_max),
            lambda record: record.offset % 2 == 0,
        )
        read += page.records
        position = dict(page.following)
        if page.whole:
            break
    wanted = {(r.partition, r.offset) for run in topic.values() for r in run if r.offset % 2 == 0}
    assert {(r.partition, r.offset) for r in read} == wanted
    assert len(read) == len(wanted)


def test_the_older_record_comes_first_across_partitions() -> None:
    ready = Ready(
        {
            0: [Record(0, 0, 10, b"", b"a"), Record(0, 1, 30, b"", b"c")],
            1: [Record(1, 0, 20, b"", b"b")],
        },
        {0: 2, 1: 1},
    )
    page = cut(ready, {0: 0, 1: 0}, Bounds(2, 1000, 10))
    assert [record.value for record in page.records] == [b"a", b"b"]
    assert page.following == {0: 1, 1: 1}


@given(topics(), st.integers(1, 100), st.data())
def test_a_window_holds_exactly_what_it_says_it_covers(
    topic: dict[int, list[Record]], bytes_max: int, data: st.DataObject
) -> None:
    window = Window(dict.fromkeys(topic, 0), bytes_max)
    left = {p: list(run) for p, run in topic.items()}
    while any(left.values()):
        partition = data.draw(st.sampled_from([p for p, run in left.items() if run]))
        count = data.draw(st.integers(1, 4))
        batch, left[partition] = left[partition][:count], left[partition][count:]
        window.add(partition, batch, batch[-1].offset + 1)
        assert window.bytes <= max(bytes_max, sum(len(r.value or b"") + 1 for r in batch))
    for partition, run in topic.items():
        for at in range(window.high[partition] + 1):
            if window.covers({partition: at}):
                held = window.after({partition: at}).records[partition]
                assert list(held) == [r for r in run if r.offset >= at]


def placed(batches: Sequence[tuple[int, Sequence[bytes]]], partitions: int) -> list[list[Record]]:
    """Batches of (lane, values) as the broker writes them; a marker follows each."""
    chains: dict[int, tuple[int, bytes]] = {}
    found: list[list[Record]] = [[] for _ in range(partitions)]
    offsets = [0] * partitions
    for lane, values in batches:
        k, chain = chains.get(lane, (1, genesis(CLUSTER, GRANT, lane)))
        partition = lane % partitions
        for index, value in enumerate(values):
            headers = () if index else (("shutong_segment", Segment(lane, k, chain).encode()),)
            found[partition].append(
                Record(partition, offsets[partition], 0, b"key", value, headers)
            )
            offsets[partition] += 1
        offsets[partition] += 1
        chains[lane] = (k + len(values), extend(chain, [(b"key", value) for value in values]))
    return found


def is_own(record: Record) -> bool:
    return bool(record.value) and record.value[0] % 3 == 0


def walk(
    topic: list[list[Record]], stand: Stand, cursor: dict[int, int], territory: str | None
) -> Countersigning:
    walking = Countersigning(CLUSTER, GRANT, territory, stand)
    for partition, run in enumerate(topic):
        behind = None
        if stand.offsets[partition] >= cursor[partition]:
            continue
        for record in run:
            if record.offset >= cursor[partition]:
                behind = record
                break
            if record.offset >= stand.offsets[partition]:
                walking.feed(record, own=is_own(record))
        walking.close(partition, cursor[partition], behind)
    return walking


BATCHES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.lists(st.integers(0, 255).map(lambda b: bytes([b])), min_size=1, max_size=4),
    ),
    max_size=12,
)


@given(BATCHES, st.integers(1, 2), st.booleans(), st.data())
def test_countersigning_in_any_steps_covers_each_segment_once_and_ends_at_the_same_chain(
    batches: list[tuple[int, list[bytes]]], partitions: int, for_town: bool, data: st.DataObject
) -> None:
    topic = placed(batches, partitions)
    ends = {p: (run[-1].offset + 1 if run else 0) for p, run in enumerate(topic)}
    territory = TOWN if for_town else None
    stand = Stand(dict.fromkeys(range(partitions), 0), {}, {} if for_town else None)
    signed: dict[int, int] = {}
    steps = data.draw(st.integers(0, 3))
    for step in range(steps + 1):
        cursor = {
            p: end if step == steps else data.draw(st.integers(min(stand.offsets[p], end), end))
            for p, end in ends.items()
        }
        walking = walk(topic, stand, cursor, territory)
        assert not walking.mismatches
        for each in walking.stretches():
            assert each.first == signed.get(each.lane, 0) + 1
            signed[each.lane] = each.last
        stand = decode_stand(encode_stand(walking.stand()))
    chains: dict[int, Position] = {}
    for lane, values in batches:
        own = [v for v in values if not for_town or v[0] % 3 == 0]
        if not own:
            continue
        c0 = (
            territory_genesis(CLUSTER, GRANT, TOWN, lane)
            if for_town
            else genesis(CLUSTER, GRANT, lane)
        )
        at = chains.get(lane, Position(0, c0))
        chains[lane] = Position(at.k + len(own), extend(at.chain, [(b"key", v) for v in own]))
    assert stand.signed == chains
    assert signed == {lane: at.k for lane, at in chains.items()}


def test_an_altered_record_is_a_mismatch_and_nothing_is_to_be_signed() -> None:
    topic = placed([(0, [b"a", b"b"]), (0, [b"c"])], 1)
    record = topic[0][1]
    topic[0][1] = Record(0, record.offset, 0, record.key, b"B", record.headers)
    walking = walk(topic, Stand({0: 0}, {}), {0: 5}, None)
    assert [each.wrong for each in walking.mismatches] == [Wrong.CHAIN]


def test_a_missing_batch_is_a_mismatch() -> None:
    topic = placed([(0, [b"a"]), (0, [b"b"]), (0, [b"c"])], 1)
    del topic[0][1]
    walking = walk(topic, Stand({0: 0}, {}), {0: 6}, None)
    assert [each.wrong for each in walking.mismatches] == [Wrong.SEQUENCE]


def test_where_the_beginning_was_deleted_the_chain_is_taken_up_and_from_says_so() -> None:
    topic = placed([(0, [b"a", b"b"]), (1, [b"x"]), (0, [b"c", b"d"])], 1)
    kept = [topic[0][3:]]
    start = kept[0][0].offset
    walking = walk(kept, Stand({0: start}, {}, None, frozenset({0})), {0: 99}, None)
    assert not walking.mismatches
    assert [(each.lane, each.first, each.last) for each in walking.stretches()] == [(0, 3, 4)]


def test_a_stand_is_only_taken_from_its_own_seal() -> None:
    stand = Stand({0: 7}, {2: Position(3, bytes(32))}, {2: Position(1, bytes(32))}, frozenset({0}))
    sealed = seal_stand(b"s" * 32, CLUSTER, (GRANT, TOWN), stand)
    assert open_stand(b"s" * 32, CLUSTER, (GRANT, TOWN), sealed) == stand
    for secret, whose, data in (
        (b"t" * 32, (GRANT, TOWN), sealed),
        (b"s" * 32, (GRANT, OTHER), sealed),
        (b"s" * 32, (GRANT, TOWN), sealed.replace(b"7", b"8")),
        (b"s" * 32, (GRANT, TOWN), b""),
    ):
        with pytest.raises(Rejected):
            open_stand(secret, CLUSTER, whose, data)


def test_a_window_over_some_partitions_does_not_cover_a_position_that_names_others() -> None:
    window = Window({0: 5}, 1000)
    assert window.covers({0: 5})
    assert not window.covers({0: 5, 1: 0})
