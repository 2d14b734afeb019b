"""Level 1 and the delivery part of level 2: what is whole passes, what is not is named."""

from __future__ import annotations

import dataclasses

import pytest

from audit_samples import CLUSTER, Record, SampleLane, filled, sample_lane
from shutong_core.audit.block import (
    Block,
    body_hash,
    encode_body,
    encode_header,
    header_hash,
    parse_body,
    parse_header,
)
from shutong_core.audit.chain import SEGMENT_HEADER
from shutong_core.audit.verdict import FINDINGS_MAX, Finding, Statement, Verdict
from shutong_core.audit.verify import Anchor, LaneVerifier
from shutong_core.audit.verify_delivery import DeliveryVerifier, Ledger

GRANT = "deaths-city"


def _level1(blocks: list[Block], head: Anchor | None = None, **options) -> list[Finding]:
    verifier = LaneVerifier(CLUSTER, 0, **options)
    found = []
    for offset, block in enumerate(blocks):
        found += verifier.feed(offset, block.header, block.body)[0]
    return found + verifier.finish(head)


def _codes(found: list[Finding]) -> list[str]:
    return [finding.code for finding in found]


def _head(lane: SampleLane) -> Anchor:
    return Anchor(len(lane.blocks), lane.previous)


def _reheaded(block: Block, **changes) -> Block:
    header = encode_header(dataclasses.replace(parse_header(block.header), **changes))
    return Block(header, block.body, header_hash(header))


def _rebodied(block: Block, change) -> Block:
    body = encode_body(change(parse_body(block.body)))
    made = _reheaded(block, body_length=len(body), body_hash=body_hash(body))
    return dataclasses.replace(made, body=body)


def _rechained(blocks: list[Block], at: int, changed: Block) -> list[Block]:
    """`changed` in the place of block `at`, all later headers made to fit: a clever operator."""
    out = [*blocks[:at], changed]
    for block in blocks[at + 1 :]:
        out.append(_reheaded(block, previous=out[-1].hash))
    return out


def test_a_whole_lane_verifies():
    lane = sample_lane(5)
    assert _level1(lane.blocks, _head(lane)) == []


def test_the_verifier_adds_up_what_it_saw():
    lane = sample_lane(3)
    verifier = LaneVerifier(CLUSTER, 0)
    for block in lane.blocks:
        verifier.feed(None, block.header, block.body)
    assert verifier.last == _head(lane)
    assert verifier.totals.rows == 3 * 16
    assert verifier.totals.after_abort == 1
    assert verifier.next_offsets["deaths", ""] == lane.offsets["deaths"]
    position = verifier.grants[GRANT]
    assert (position.k, position.chain) == lane.heads[GRANT]


def test_an_altered_header_shows_at_the_block_after_it():
    lane = sample_lane(4)
    lane.blocks[1] = _reheaded(lane.blocks[1], decided_ms=1)
    (found,) = _level1(lane.blocks, _head(lane))
    assert (found.code, found.lane, found.block, found.offset) == ("previous", 0, 3, 2)


def test_an_altered_last_header_shows_against_the_head():
    lane = sample_lane(3)
    head = _head(lane)
    lane.blocks[-1] = _reheaded(lane.blocks[-1], decided_ms=1)
    assert _codes(_level1(lane.blocks, head)) == ["head"]


def test_an_altered_body_shows_at_its_block():
    lane = sample_lane(3)
    block = lane.blocks[1]
    lane.blocks[1] = dataclasses.replace(block, body=block.body[:-1] + b"\x01")
    found = _level1(lane.blocks, _head(lane))
    assert [(finding.code, finding.block) for finding in found] == [("body-hash", 2)]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_missing_block_shows(at):
    lane = sample_lane(4)
    del lane.blocks[at]
    assert "sequence" in _codes(_level1(lane.blocks, None))


def test_missing_last_blocks_show_against_the_head():
    lane = sample_lane(4)
    (found,) = _level1(lane.blocks[:2], _head(lane))
    assert (found.code, found.text.en) == ("head", "blocks 3 to 4 are missing")


def test_blocks_beyond_the_head_show():
    lane = sample_lane(4)
    head = Anchor(3, lane.blocks[2].hash)
    assert _codes(_level1(lane.blocks, head)) == ["head"]


def test_an_empty_audit_shows_against_the_head():
    assert _codes(_level1([], _head(sample_lane(1)))) == ["head"]
    assert _level1([], None) == []


def test_swapped_and_repeated_blocks_show():
    lane = sample_lane(4)
    swapped = [lane.blocks[n] for n in (0, 2, 1, 3)]
    assert "sequence" in _codes(_level1(swapped))
    repeated = [lane.blocks[n] for n in (0, 1, 1, 2, 3)]
    assert "sequence" in _codes(_level1(repeated))


def test_blocks_of_another_bus_or_lane_show():
    assert _codes(_level1(sample_lane(1, lane=4).blocks))[0] == "place"


def test_garbage_in_the_audit_shows_once_and_later_blocks_are_still_checked():
    lane = sample_lane(4)
    lane.blocks[1] = dataclasses.replace(lane.blocks[1], header=b"garbage")
    found = _level1(lane.blocks, _head(lane))
    assert [(finding.code, finding.block) for finding in found] == [("header", 2), ("previous", 3)]


def test_a_lane_never_decides_by_an_older_list():
    lane = sample_lane(3)
    changed = _reheaded(lane.blocks[2], list_number=6, list_digest=filled("list 6", 32))
    assert _codes(_level1(_rechained(lane.blocks, 2, changed))) == ["list-back"]


def test_a_list_has_one_digest():
    lane = sample_lane(3)
    changed = _reheaded(lane.blocks[1], list_digest=filled("forged", 32))
    assert _codes(_level1(_rechained(lane.blocks, 1, changed))) == ["list-digest"]
    given = {7: filled("another list", 32)}
    assert set(_codes(_level1(lane.blocks, lists=given))) == {"list-digest"}


def test_lists_learnt_on_one_lane_hold_for_the_next():
    lists: dict[int, bytes] = {}
    _level1(sample_lane(1).blocks, lists=lists)
    assert lists == {7: filled("list 7", 32)}


def test_forged_counts_show_even_in_a_chain_made_to_fit():
    lane = sample_lane(3)
    changed = _reheaded(lane.blocks[1], placed=1)
    assert _codes(_level1(_rechained(lane.blocks, 1, changed))) == ["body"]


def _with_first_input(body, **changes):
    first, *rest = body.inputs
    return dataclasses.replace(body, inputs=(dataclasses.replace(first, **changes), *rest))


def test_skipped_input_records_show_even_in_a_chain_made_to_fit():
    lane = sample_lane(3)
    changed = _rebodied(
        lane.blocks[1], lambda body: _with_first_input(body, first=body.inputs[0].first + 1)
    )
    (found, *_) = _level1(_rechained(lane.blocks, 1, changed))
    assert (found.code, found.block) == ("input", 2)


def test_a_grant_goes_on_where_it_was():
    lane = sample_lane(3)

    def forged(body):
        first, *rest = body.inputs[0].grants
        column = dataclasses.replace(first, first_k=first.first_k + 1)
        return _with_first_input(body, grants=(column, *rest))

    found = _level1(_rechained(lane.blocks, 1, _rebodied(lane.blocks[1], forged)))
    assert _codes(found) == ["grant-sequence", "grant-sequence"]


def test_a_chain_value_moves_exactly_when_records_were_placed():
    lane = sample_lane(2)

    def forged(body):
        columns = [
            dataclasses.replace(column, chain_after=filled("x", 32)) if not column.count else column
            for column in body.inputs[0].grants
        ]
        return _with_first_input(body, grants=tuple(columns))

    found = _level1(_rechained(lane.blocks, 1, _rebodied(lane.blocks[1], forged)))
    assert _codes(found) == ["grant-chain"]


def test_a_cut_audit_verifies_from_what_is_trusted():
    lane = sample_lane(5)
    start = Anchor(2, lane.blocks[1].hash)
    assert _level1(lane.blocks[2:], _head(lane), start=start) == []
    wrong = Anchor(2, filled("other", 32))
    assert _codes(_level1(lane.blocks[2:], _head(lane), start=wrong)) == ["previous"]


def test_headers_alone_verify_as_a_chain():
    lane = sample_lane(4)
    verifier = LaneVerifier(CLUSTER, 0)
    for block in lane.blocks:
        assert verifier.feed(None, block.header, None) == ([], None)
    assert (verifier.totals.blocks, verifier.totals.bodies) == (4, 0)
    assert verifier.finish(_head(lane)) == []


# Deliveries


def _ledger(*lanes: SampleLane, **options) -> Ledger:
    ledger = Ledger(**options)
    for lane in lanes:
        for block in lane.blocks:
            ledger.add(lane.lane, parse_body(block.body))
    return ledger


def _level2(
    records: list[Record], ledger: Ledger, lanes=(0,), newer_from: int | None = None, **options
) -> list[Finding]:
    verifier = DeliveryVerifier(CLUSTER, GRANT, lanes, ledger, **options)
    found = []
    for offset, (headers, key, value) in enumerate(records):
        newer = newer_from is not None and offset >= newer_from
        found += verifier.feed(offset, headers, key, value, newer=newer)
    return found + verifier.finish()


def test_deliveries_agree_with_the_audit_at_every_block_end():
    lane = sample_lane(4)
    ledger = _ledger(lane)
    verifier = DeliveryVerifier(CLUSTER, GRANT, (0,), ledger)
    for offset, record in enumerate(lane.deliveries[GRANT]):
        assert verifier.feed(offset, *record) == []
    assert verifier.caught_up()
    assert verifier.finish() == []
    assert (verifier.records, verifier.compared) == (lane.heads[GRANT][0], 4)
    assert ledger.placed(GRANT) == verifier.records


@pytest.mark.parametrize("at", range(9))
def test_every_altered_record_is_found(at):
    lane = sample_lane(3)
    records = list(lane.deliveries[GRANT])
    headers, key, value = records[at]
    records[at] = (headers, key, bytes((value[0] ^ 1,)) + value[1:])
    assert _level2(records, _ledger(lane))


def test_a_last_record_altered_has_no_successor_but_the_audit():
    lane = sample_lane(2)
    records = list(lane.deliveries[GRANT])
    headers, key, _ = records[-1]
    records[-1] = (headers, key, b"other")
    (found,) = _level2(records, _ledger(lane))
    assert (found.code, found.grant, found.lane) == ("delivery-audit", GRANT, 0)


@pytest.mark.parametrize("keep", [0, 1, 5, -1])
def test_a_topic_cut_at_its_end_is_short_of_the_audit(keep):
    lane = sample_lane(3)
    found = _level2(lane.deliveries[GRANT][:keep], _ledger(lane))
    assert found[-1].code == "count"


def test_records_that_no_block_knows_are_named():
    lane = sample_lane(2)
    ledger = _ledger(lane)
    audited = len(lane.deliveries[GRANT])
    lane.add_block()
    (found,) = _level2(lane.deliveries[GRANT], ledger)
    assert (found.code, found.offset, found.k) == ("unaudited", audited, audited + 1)


def test_records_placed_after_the_audit_was_read_are_not_held_against_it():
    lane = sample_lane(2)
    ledger = _ledger(lane)
    audited = len(lane.deliveries[GRANT])
    lane.add_block()
    assert _level2(lane.deliveries[GRANT], ledger, newer_from=audited) == []


def test_a_forged_history_with_its_own_segment_headers_is_found():
    """All records and headers made anew by someone who holds the topic, but not the audit."""
    lane, forged = sample_lane(3), SampleLane(0, segment_records=2)
    for _ in range(3):
        forged.add_block(rows=9)
    assert _level2(forged.deliveries[GRANT], _ledger(lane))


def test_a_lane_that_does_not_write_here_is_named():
    lane = sample_lane(1)
    assert "lane" in _codes(_level2(lane.deliveries[GRANT], _ledger(lane), lanes=(1,)))


def test_a_partition_whose_start_is_past_its_term_verifies_from_there():
    lane = sample_lane(4)
    records = lane.deliveries[GRANT]
    for start in (1, 3, 7, len(records)):
        assert _level2(records[start:], _ledger(lane), from_start=False) == []
    altered = records[4:]
    altered[5] = (*altered[5][:2], b"other")
    assert _level2(altered, _ledger(lane), from_start=False)


def test_a_segment_never_crosses_a_block():
    lane = sample_lane(2)
    records = [
        (headers if n == 0 else (), key, value)
        for n, (headers, key, value) in enumerate(lane.deliveries[GRANT])
    ]
    assert "delivery-audit" in _codes(_level2(records, _ledger(lane)))
    assert records[0][0][0][0] == SEGMENT_HEADER


def test_a_ledger_beyond_its_bound_still_knows_the_last_block_end():
    lane = sample_lane(5)
    ledger = _ledger(lane, boundaries_max=1)
    assert ledger.thinned
    assert _level2(lane.deliveries[GRANT], ledger) == []
    assert _level2(lane.deliveries[GRANT][:-1], ledger)


# The verdict


def test_a_verdict_says_what_was_and_was_not_checked_in_both_languages():
    verdict = Verdict()
    verdict.checked.append(Statement("查了甲", "checked a"))
    verdict.not_checked.append(Statement("乙", "b"))
    assert verdict.ok
    assert verdict.text("en").splitlines() == ["Verified.", "  ✓ checked a", "  – not checked: b"]
    assert "未检查: 乙" in verdict.text("zh")


def test_a_verdict_keeps_the_first_findings_and_counts_the_rest():
    verdict = Verdict()
    for number in range(FINDINGS_MAX + 5):
        finding = Finding("x", Statement("坏", "bad"), lane=1, block=number)
        verdict.add(finding)
        if number < 3:
            verdict.add(finding)
    assert not verdict.ok
    assert (len(verdict.findings), verdict.findings_count) == (FINDINGS_MAX, FINDINGS_MAX + 5)
    assert "[lane 1 block 0]" in verdict.text("en")
    assert "and 5 more" in verdict.text("en")
