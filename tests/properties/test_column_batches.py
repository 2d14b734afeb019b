"""Records as columns mean the same as one by one: sizes, cuts, chain, record batch."""

from __future__ import annotations

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.audit.chain import extend, extend_columns
from shutong_core.runtime.aiokafka_inside import BatchTooLarge, record_batch
from shutong_core.wire.batches import (
    ColumnBatch,
    KafkaRecord,
    RecordBatch,
    chunks,
    columns_size,
    cut,
    headers_size,
)

some_bytes = st.none() | st.binary(max_size=300) | st.integers(4_000, 5_000).map(bytes)
pairs = st.lists(st.tuples(some_bytes, some_bytes), max_size=30)
headers = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=3).map(tuple)
rows = st.lists(st.tuples(some_bytes, some_bytes, headers), min_size=1, max_size=30)


@given(pairs, headers)
def test_columns_have_the_size_of_their_records(pairs, headers):
    records = [KafkaRecord(key, value, headers) for key, value in pairs]
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    found = columns_size(keys, values, headers_size(headers))
    assert found == sum(record.size for record in records)


@given(pairs, headers, st.integers(0, 20_000), st.integers(1, 12))
def test_columns_are_cut_where_records_are(pairs, headers, bytes_max, count_max):
    records = [KafkaRecord(key, value, headers) for key, value in pairs]
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    runs = cut(keys, values, headers_size(headers), bytes_max, count_max)
    assert [records[run] for run in runs] == list(chunks(records, bytes_max, count_max))


@given(st.binary(min_size=32, max_size=32), pairs)
def test_a_chain_goes_over_columns_as_over_records(chain, pairs):
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    assert extend_columns(chain, keys, values) == extend(chain, pairs)


@given(rows, headers)
def test_a_record_batch_of_columns_holds_what_one_of_records_holds(rows, first):
    keys, values = [row[0] for row in rows], [row[1] for row in rows]
    columns = ColumnBatch("t", 0, keys, values, first, [row[2] for row in rows])
    records = [KafkaRecord(*row) for row in rows]
    records[0] = KafkaRecord(keys[0], values[0], (*first, *rows[0][2]))
    made = _content(record_batch(columns, 0, 10_000_000))
    assert made == _content(record_batch(RecordBatch("t", 0, records), 0, 10_000_000))
    assert made == [(each.key, each.value, list(each.headers)) for each in records]


@given(rows)
def test_no_record_batch_is_larger_than_its_columns_say(rows):
    keys, values = [row[0] for row in rows], [row[1] for row in rows]
    most = max(headers_size(row[2]) for row in rows)
    made = record_batch(ColumnBatch("t", 0, keys, values, (), [row[2] for row in rows]), 0, 1 << 30)
    assert made[0].size() <= 61 + columns_size(keys, values, most)


def test_columns_of_different_length_are_no_batch():
    for keys, values, more in ([b"k"], [], None), ([], [], None), ([b"k"], [b"v"], []):
        with pytest.raises(ValueError, match="record"):
            ColumnBatch("t", 0, keys, values, (), more)


def test_two_records_must_fit_and_one_always_does():
    assert record_batch(ColumnBatch("t", 0, [b"k"], [bytes(500)]), 0, 100)[1] == 1
    with pytest.raises(BatchTooLarge):
        record_batch(ColumnBatch("t", 0, [b"k"] * 2, [bytes(50)] * 2), 0, 100)


def _content(made):
    builder, count = made
    read = DefaultRecordBatch(bytes(builder.build()))
    assert (read.last_offset_delta, read.is_transactional) == (count - 1, True)
    assert read.validate_crc()
    return [(record.key, record.value, record.headers) for record in read]
