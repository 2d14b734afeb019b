"""Record batches to records: checksums, cut ends, turns; what was taken may be given back."""

from __future__ import annotations

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from shutong_broker.input import Input
from shutong_broker.recordreader import RecordReader


def batch(base: int, count: int, codec: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for n in range(count):
        builder.append(n, 1_000 + n, b"k", b"%d" % (base + n), [("ce_id", b"%d" % n)])
    made = bytearray(builder.build())
    made[:8] = base.to_bytes(8, "big")  # Kafka sets it; the checksum does not cover it
    return bytes(made)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    cut=st.integers(0, 40),
    start=st.integers(0, 12),
    turns=st.lists(st.integers(1, 7), min_size=1),
    codec=st.sampled_from([0, 1]),
)
def test_every_record_of_a_whole_batch_comes_once_in_order(
    sizes: list[int], cut: int, start: int, turns: list[int], codec: int
) -> None:
    data, base = b"", 0
    for size in sizes:
        data += batch(base, size, codec)
        base += size + 1  # a marker between them
    whole = data + batch(base, 3)[:cut]
    reader = RecordReader("d", 1, start, whole)
    assert reader.end == max(start, base - 1)
    found = []
    for turn in turns * 40:
        read = reader.read(turn)
        assert len(read) <= turn
        found += read
    assert [record.offset for record in found] == [n for n in offsets(sizes) if n >= start]
    assert all(record.value == b"%d" % record.offset for record in found)
    assert reader.next == max(start, base - 1)


def offsets(sizes: list[int]) -> list[int]:
    found, base = [], 0
    for size in sizes:
        found += range(base, base + size)
        base += size + 1
    return found


def test_a_wrong_checksum_is_told_after_what_came_before_it() -> None:
    damaged = bytearray(batch(2, 2))
    damaged[-1] ^= 1
    reader = RecordReader("d", 1, 0, batch(0, 2) + bytes(damaged))
    assert [record.offset for record in reader.read(10)] == [0, 1]
    with pytest.raises(CorruptRecordException):
        reader.read(10)


def test_an_old_format_is_not_read() -> None:
    old = bytearray(batch(0, 1))
    old[16] = 1
    with pytest.raises(ValueError, match="format 2"):
        RecordReader("d", 1, 0, bytes(old)).read(1)


@given(st.data())
def test_giving_back_and_rereading_loses_and_doubles_nothing(data: st.DataObject) -> None:
    each, expected, at = Input("d", "t", 1, 0), 0, 0
    total = 0
    for _ in range(12):
        if data.draw(st.booleans(), "feed"):
            size = data.draw(st.integers(1, 5))
            assert each.feed(batch(total, size), ())
            total += size
        taken = each.take(data.draw(st.integers(1, 6), "cap"))
        assert [record.offset for record in taken] == [*range(expected, expected + len(taken))]
        kept = data.draw(st.integers(0, len(taken)), "kept")
        before = list(taken)
        at = expected + kept
        if kept < len(taken) or data.draw(st.booleans(), "seek all the same"):
            each.seek(at)
        assert taken == before  # the list that was handed out stays as it is
        expected = at
        assert each.position == expected
    rest = []
    while more := each.take(100):
        rest += more
    assert [record.offset for record in rest] == [*range(expected, total)]


def test_a_place_elsewhere_is_fetched_from_there() -> None:
    each = Input("d", "t", 1, 5)
    assert each.feed(batch(5, 4), ())
    each.take(2)
    each.seek(100)
    assert (each.fetched, each.position, each.take(10)) == (100, 100, [])
    assert not each.feed(b"\0" * 30, ())
