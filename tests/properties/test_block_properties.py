"""Blocks under random content, garbage and single flipped bits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_samples import CLUSTER, facts, sample_lane
from shutong_core.audit import bitmaps
from shutong_core.audit.block import (
    NO_BLOCK,
    Block,
    BlockBuilder,
    encode_body,
    encode_header,
    parse_block,
    parse_body,
    parse_header,
)
from shutong_core.audit.chain import Segment, parse_segment
from shutong_core.audit.verify import Anchor, LaneVerifier
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import IMPLIED, Reason

IDS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,47}", fullmatch=True)
REFUSALS = st.sampled_from([reason for reason in Reason if reason.number < 100])
WITHHELD = st.sampled_from(
    [reason for reason in Reason if 100 <= reason.number < 150 and reason not in IMPLIED]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def blocks(draw) -> Block:
    """A block whose rows and verdicts are anything a lane may decide."""
    builder = BlockBuilder(draw(st.binary(min_size=16, max_size=16)))
    grants = draw(st.lists(IDS, unique=True, max_size=4))
    for dataset in draw(st.lists(IDS, unique=True, max_size=3)):
        at = first = draw(st.integers(0, 2**62))
        part = builder.add_input(dataset, first)
        decided: dict[str, bool] = dict.fromkeys(grants, False)
        for _ in range(draw(st.integers(0, 12))):
            at += draw(st.integers(0, 5))
            refusal = draw(st.none() | REFUSALS)
            row = part.add_row(
                at,
                draw(TEXT),
                draw(st.binary(min_size=32, max_size=32)),
                draw(st.lists(st.binary(min_size=16, max_size=16), max_size=3)),
                draw(st.none() | st.binary(min_size=8, max_size=8)),
                draw(st.integers(0, 3)),
                refusal,
            )
            at += 1
            for grant in grants if refusal is None else ():
                verdict = draw(st.sampled_from(["allow", "defer", "withhold", "implied"]))
                if verdict == "allow":
                    part.allow(row, grant)
                elif verdict == "defer":
                    part.defer(row, grant)
                elif verdict == "withhold":
                    part.withhold(row, grant, draw(WITHHELD))
                decided[grant] |= verdict == "allow"
        part.end(at + draw(st.integers(0, 3)))
        for grant, placed in decided.items():
            size = draw(st.integers(0, 2**40)) if placed else 0
            k = draw(st.integers(1, 2**40))
            part.place(grant, k, size, draw(st.binary(min_size=32, max_size=32)))
    exposed = draw(st.none() | st.lists(IDS, max_size=3))
    return builder.build(facts(draw(st.integers(0, 2**32 - 1)), 1, NO_BLOCK), exposed)


@settings(deadline=None, max_examples=150)
@given(blocks())
def test_what_is_built_is_read_and_encodes_to_the_same_bytes(block):
    header, body = parse_block(block.header, block.body)
    assert encode_header(header) == block.header
    assert encode_body(body) == block.body
    assert parse_body(encode_body(body)) == body
    for section in body.inputs:
        assert len(list(body.rows(section))) == section.rows


@given(st.binary(max_size=400))
def test_garbage_is_rejected_and_nothing_else_happens(data):
    for parse in (parse_header, parse_body, parse_segment):
        with pytest.raises(Rejected):
            parse(data)


@settings(deadline=None)
@given(block=blocks(), data=st.data())
def test_what_is_read_at_all_is_the_one_encoding_of_its_content(block, data):
    """Any bytes near a real body: rejected, or exactly the encoding of what was read."""
    changed = bytearray(block.body)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        body = parse_body(bytes(changed))
    except Rejected:
        return
    assert encode_body(body) == bytes(changed)


LANE = sample_lane(4, rows=6)


def _findings(stored: list[tuple[bytes, bytes]]) -> int:
    verifier = LaneVerifier(CLUSTER, 0)
    found = 0
    for offset, (header, body) in enumerate(stored):
        found += len(verifier.feed(offset, header, body)[0])
    return found + len(verifier.finish(Anchor(len(LANE.blocks), LANE.previous)))


@settings(deadline=None, max_examples=400)
@given(st.integers(0, len(LANE.blocks) - 1), st.booleans(), st.data())
def test_every_flipped_bit_is_found_by_level_1(at, in_header, data):
    stored = [(block.header, block.body) for block in LANE.blocks]
    assert _findings(stored) == 0
    parts = list(stored[at])
    which = 0 if in_header else 1
    changed = bytearray(parts[which])
    bit = data.draw(st.integers(0, len(changed) * 8 - 1))
    changed[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(changed)
    stored[at] = (parts[0], parts[1])
    assert _findings(stored) > 0


def test_every_flipped_bit_of_every_header_is_found_by_level_1():
    for at, block in enumerate(LANE.blocks):
        for bit in range(0, len(block.header) * 8, 3):
            stored = [(block.header, block.body) for block in LANE.blocks]
            changed = bytearray(block.header)
            changed[bit // 8] ^= 1 << bit % 8
            stored[at] = (bytes(changed), block.body)
            assert _findings(stored) > 0


@given(st.sets(st.integers(0, 300)), st.integers(301, 400))
def test_bitmaps_hold_exactly_their_rows(rows, size):
    bits = bitmaps.of_rows(rows, size)
    data = bitmaps.to_bytes(bits, size)
    assert bitmaps.rows_of(bitmaps.to_bits(data)) == sorted(rows)
    assert sum(end - first for first, end in bitmaps.ranges(bits)) == len(rows)
    for row in rows:
        assert data[row // 8] >> row % 8 & 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 2**64 - 1), st.binary(min_size=32, max_size=32))
def test_segment_headers_roundtrip(lane, k, chain):
    segment = Segment(lane, k, chain)
    assert parse_segment(segment.encode()) == segment
