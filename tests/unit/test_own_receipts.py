"""What an agency with a Kafka client of its own may countersign, and what it never does."""

from __future__ import annotations

import itertools

import pytest

from audit_copies import AGENCY
from audit_samples import CLUSTER, SampleLane, sample_lane
from shutong_core.audit.ownreceipts import ChainBroken, OwnReceipts, OwnState, parse_state
from shutong_core.domain.errors import Rejected

GRANT = "births-city"
WHO = f"{AGENCY}/reader"


def lanes() -> list[SampleLane]:
    return [sample_lane(3, lane=lane) for lane in range(2)]


def partition(made: list[SampleLane]) -> list:
    return [record for lane in made for record in lane.deliveries[GRANT]]


def keeper(state: OwnState | None = None) -> OwnReceipts:
    return OwnReceipts(CLUSTER, GRANT, WHO, state)


def feed(own: OwnReceipts, records: list, first: int = 0, end: int | None = None) -> None:
    for offset in range(own.begin(0, first), len(records) if end is None else end):
        own.feed(0, offset, *records[offset])


def test_whole_segments_are_countersigned_each_once_with_the_chain_that_was_placed() -> None:
    made, own = lanes(), keeper()
    records = partition(made)
    feed(own, records)
    own.at_end(0, len(records))
    found = {each.lane: each for each in own.receipts(5)}
    for lane in made:
        k, chain = lane.heads[GRANT]
        each = found[lane.lane]
        assert (each.first, each.last, each.chain, each.agency) == (1, k, chain.hex(), WHO)
    assert own.receipts(6) == []


def test_an_open_segment_waits_and_a_restart_at_any_record_signs_the_same() -> None:
    made = lanes()
    records = partition(made)
    for stop in range(len(records) + 1):
        first = keeper()
        feed(first, records, end=stop)
        signed = first.receipts(1)
        again = keeper(parse_state(first.state.encode()))
        feed(again, records)
        again.at_end(0, len(records))
        signed += again.receipts(2)
        for lane in made:
            of_lane = [each for each in signed if each.lane == lane.lane]
            assert of_lane[0].first == 1
            assert all(a.last + 1 == b.first for a, b in itertools.pairwise(of_lane))
            assert (of_lane[-1].last, of_lane[-1].chain) == (
                lane.heads[GRANT][0],
                lane.heads[GRANT][1].hex(),
            )


@pytest.mark.parametrize("damage", ["drop", "alter", "swap", "repeat"])
def test_nothing_is_countersigned_at_or_after_records_that_do_not_fit(damage: str) -> None:
    records = partition(lanes())
    headers, key, value = records[1]
    if damage == "drop":
        del records[1]
    elif damage == "alter":
        records[1] = (headers, key, value + b"x")
    elif damage == "swap":
        records[1], records[2] = records[2], records[1]
    else:
        records.insert(1, records[1])
    own = keeper()
    with pytest.raises(ChainBroken, match="lane 0"):
        feed(own, records)
    # The bad segment itself was whole as far as it could tell; the break shows at the next one.
    assert all(each.last <= 3 + (damage == "repeat") for each in own.receipts(1))


def test_who_starts_late_signs_only_what_he_read_and_says_so() -> None:
    made = lanes()
    records = partition(made)
    own = keeper()
    feed(own, records, first=4)
    own.at_end(0, len(records))
    assert own.late == {0}
    first = next(each for each in own.receipts(1) if each.lane == 0)
    assert first.first > 4
    assert first.chain == made[0].heads[GRANT][1].hex()


def test_records_past_their_term_since_the_last_time_are_not_countersigned() -> None:
    made = lanes()
    records = partition(made)
    own = keeper()
    feed(own, records, end=4)
    own.receipts(1)
    again = keeper(parse_state(own.state.encode()))
    feed(again, records, first=8)
    again.at_end(0, len(records))
    assert again.late
    assert all(each.first > 8 for each in again.receipts(2) if each.lane == 0)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b"[" * 5000, b'{"format":"x"}', b" " * 2_000_000]
)
def test_a_damaged_state_is_refused(data: bytes) -> None:
    with pytest.raises(Rejected):
        parse_state(data)
