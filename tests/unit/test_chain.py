"""The delivery chain, as broker and any reader compute it."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from audit_samples import CLUSTER, SampleLane, sample_lane
from shutong_core.audit.chain import (
    SEGMENT_HEADER,
    Segment,
    extend,
    genesis,
    parse_segment,
    record_bytes,
    segment_of,
    territory_genesis,
)
from shutong_core.audit.follow import ChainFollower, Mismatch, Position, SegmentEnd, Wrong
from shutong_core.domain.errors import Rejected

GRANT = "deaths-city"


def _follow(records, grant=GRANT, **options):
    follower = ChainFollower(CLUSTER, grant, **options)
    events = [event for record in records for event in follower.feed(*record)]
    return follower, events + list(follower.end_segment())


def _mismatches(records, **options):
    return [event for event in _follow(records, **options)[1] if isinstance(event, Mismatch)]


def test_chains_start_apart_for_each_cluster_grant_lane_and_territory():
    values = {
        genesis("a", "g", 0),
        genesis("b", "g", 0),
        genesis("a", "h", 0),
        genesis("a", "g", 1),
        territory_genesis("a", "g", "330100000000", 0),
        territory_genesis("a", "g", "330200000000", 0),
    }
    assert len(values) == 6


def test_a_chain_value_is_the_hash_over_lengths_keys_and_values():
    start = genesis("a", "g", 0)
    expected = hashlib.sha256(start + b"\0\0\0\1k\0\0\0\2vv" + b"\xff\xff\xff\xff\0\0\0\0").digest()
    assert extend(start, [(b"k", b"vv"), (None, b"")]) == expected


def test_a_null_value_is_not_an_empty_one():
    assert record_bytes(b"k", None) != record_bytes(b"k", b"")
    assert extend(bytes(32), [(None, None)]) == hashlib.sha256(bytes(32) + b"\xff" * 8).digest()


def test_bytes_cannot_move_between_key_and_value():
    assert record_bytes(b"ab", b"c") != record_bytes(b"a", b"bc")


def test_a_segment_header_has_45_bytes_and_one_form():
    segment = Segment(3, 70_000, bytes(range(32)))
    encoded = segment.encode()
    assert encoded == b"\1\0\0\0\3" + (70_000).to_bytes(8, "big") + bytes(range(32))
    assert parse_segment(encoded) == segment
    wrong = [b"", encoded[:-1], encoded + b"\0", b"\2" + encoded[1:], Segment(0, 0, bytes(32))]
    for data in wrong:
        with pytest.raises(Rejected):
            parse_segment(data.encode() if isinstance(data, Segment) else data)


def test_two_segment_headers_on_one_record_are_rejected():
    encoded = Segment(0, 1, bytes(32)).encode()
    with pytest.raises(Rejected):
        segment_of([(SEGMENT_HEADER, encoded)] * 2)
    assert segment_of([("ce_id", b"x")]) is None


def test_a_reader_comes_to_the_same_chain_as_the_broker():
    lane = sample_lane(4)
    for grant, records in lane.deliveries.items():
        follower, events = _follow(records, grant)
        assert all(isinstance(event, SegmentEnd) for event in events)
        assert follower.positions == {0: Position(*lane.heads[grant])}


def test_segment_ends_tell_their_records_without_gaps():
    _, events = _follow(sample_lane(3).deliveries[GRANT])
    assert events[0].first == 1
    for before, after in itertools.pairwise(events):
        assert after.first == before.last + 1


def test_lanes_interleave_by_batch():
    lanes = [sample_lane(3, lane=number) for number in (0, 1, 5)]
    batches = [_batches(lane) for lane in lanes]
    mixed = [record for turn in zip(*batches, strict=True) for batch in turn for record in batch]
    follower, events = _follow(mixed)
    assert all(isinstance(event, SegmentEnd) for event in events)
    assert follower.positions == {lane.lane: Position(*lane.heads[GRANT]) for lane in lanes}


def _batches(lane: SampleLane):
    batches = []
    for record in lane.deliveries[GRANT]:
        if record[0]:
            batches.append([])
        batches[-1].append(record)
    return batches


@pytest.mark.parametrize("at", [0, 1, 2, 3, 7])
def test_an_altered_value_shows_with_its_segment(at):
    records = list(sample_lane(3).deliveries[GRANT])
    headers, key, value = records[at]
    records[at] = (headers, key, value[:-1] + bytes((value[-1] ^ 1,)))
    (found,) = _mismatches(records)
    first = max(n + 1 for n in range(at + 1) if records[n][0])
    assert (found.lane, found.k, found.wrong) == (0, first, Wrong.CHAIN)


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_dropped_record_shows(at):
    records = list(sample_lane(3).deliveries[GRANT])
    dropped = records.pop(at)
    assert not dropped[0] or at == 3
    assert _mismatches(records)[0].wrong in (Wrong.SEQUENCE, Wrong.CHAIN)


def test_a_dropped_segment_shows_as_a_gap():
    batches = _batches(sample_lane(3))
    missing = batches.pop(1)
    found = _mismatches([record for batch in batches for record in batch])
    assert found[0].wrong is Wrong.SEQUENCE
    assert int(found[0].expected) == int(found[0].found) - len(missing)


def test_swapped_segments_show():
    batches = _batches(sample_lane(3))
    batches[1], batches[2] = batches[2], batches[1]
    assert _mismatches([record for batch in batches for record in batch])


def test_swapped_records_show():
    records = list(sample_lane(3).deliveries[GRANT])
    records[1], records[2] = records[2], records[1]
    assert [found.wrong for found in _mismatches(records)] == [Wrong.CHAIN]


def test_an_invented_record_shows():
    records = list(sample_lane(3).deliveries[GRANT])
    records.insert(2, ((), b"key", b"value"))
    assert _mismatches(records)


def test_records_of_another_grant_do_not_fit():
    found = _mismatches(sample_lane(1).deliveries["births-city"])
    assert [each.wrong for each in found] == [Wrong.GENESIS]


def test_a_record_outside_any_segment_shows():
    (found, *_) = _mismatches([((), b"k", b"v")])
    assert (found.lane, found.wrong) == (None, Wrong.OUTSIDE)


def test_a_malformed_segment_header_shows():
    records = list(sample_lane(2).deliveries[GRANT])
    records[3] = (((SEGMENT_HEADER, b"garbage"),), *records[3][1:])
    assert _mismatches(records)[0].wrong is Wrong.MALFORMED


def test_who_starts_late_follows_from_a_known_position():
    lane = sample_lane(2)
    known = {0: Position(*lane.heads[GRANT])}
    before = len(lane.deliveries[GRANT])
    lane.add_block()
    follower, events = _follow(lane.deliveries[GRANT][before:], known=known)
    assert all(isinstance(event, SegmentEnd) for event in events)
    assert follower.positions == {0: Position(*lane.heads[GRANT])}


def test_who_starts_late_without_a_position_is_told_what_is_unproven():
    lane = sample_lane(3)
    records = lane.deliveries[GRANT][2:]
    follower, events = _follow(records, from_start=False)
    assert not any(isinstance(event, Mismatch) for event in events)
    assert (follower.skipped, follower.unproven) == (1, {0})
    assert follower.positions == {0: Position(*lane.heads[GRANT])}


def test_a_segment_of_a_lane_that_begins_is_held_against_its_genesis_even_when_late():
    records = sample_lane(1).deliveries["births-city"]
    assert _mismatches(records, from_start=False)[0].wrong is Wrong.GENESIS
