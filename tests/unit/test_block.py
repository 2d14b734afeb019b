"""The audit block: what goes in comes out, and nothing but the one form is read."""

from __future__ import annotations

import dataclasses

import pytest

from audit_samples import PUBLISHER, facts, filled, sample_lane
from shutong_core.audit import bitmaps
from shutong_core.audit.block import (
    BODY_BYTES_MAX,
    HEADER_BYTES_MAX,
    NO_BLOCK,
    BlockBuilder,
    RowOperation,
    body_hash,
    encode_body,
    encode_header,
    header_hash,
    id_hash,
    parse_block,
    parse_body,
    parse_header,
    row_digest,
    seal,
)
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.domain.reasons import Reason

SALT = filled("salt", 16)
CHAIN = filled("chain", 32)


def _builder(rows: int = 10):
    builder = BlockBuilder(SALT)
    part = builder.add_input("deaths", 100)
    for number in range(rows):
        part.add_row(100 + number, PUBLISHER, filled(str(number), 32))
    part.end(100 + rows)
    return builder, part


def _built(builder: BlockBuilder, exposed=None):
    return builder.build(facts(0, 1, NO_BLOCK), exposed)


def test_a_row_comes_back_as_it_went_in():
    builder = BlockBuilder(SALT)
    part = builder.add_input("deaths", 5)
    tokens = (filled("a", 16), filled("b", 16), filled("c", 16))
    part.add_row(5, PUBLISHER, filled("x", 32), tokens, filled("id", 8), RowOperation.CORRECT)
    part.add_row(9, "", filled("y", 32), (), None, RowOperation.UNKNOWN, Reason.UNKNOWN_PUBLISHER)
    part.end(11)
    head, body = parse_block(*_bytes(_built(builder)))
    first, second = body.rows(body.inputs[0])
    assert (first.offset, first.publisher, first.digest) == (5, PUBLISHER, filled("x", 32))
    assert (first.tokens, first.id_hash) == (tokens, filled("id", 8))
    assert (first.operation, first.refusal) == (RowOperation.CORRECT, None)
    assert (second.offset, second.publisher, second.tokens, second.id_hash) == (9, "", (), None)
    assert (second.operation, second.refusal) == (RowOperation.UNKNOWN, Reason.UNKNOWN_PUBLISHER)
    assert (body.inputs[0].first, body.inputs[0].next) == (5, 11)
    assert (head.inputs, head.rows, head.refused, head.placed) == (1, 2, 1, 0)


def _bytes(block) -> tuple[bytes, bytes]:
    return block.header, block.body


def test_allowed_rows_are_bits_lowest_first():
    builder, part = _builder(10)
    for row in (0, 3, 9):
        part.allow(row, "g")
    part.place("g", 41, 300, CHAIN)
    head, body = parse_block(*_bytes(_built(builder)))
    column = body.inputs[0].grants[0]
    assert column.allowed == bytes((0b0000_1001, 0b0000_0010))
    assert (column.first_k, column.count, column.placed_bytes) == (41, 3, 300)
    assert column.chain_after == CHAIN
    assert head.placed == 3


def test_allowing_rows_at_once_equals_one_by_one():
    one, part_one = _builder(10)
    many, part_many = _builder(10)
    for row in (1, 2, 8):
        part_one.allow(row, "g")
    part_many.allow_rows("g", (1, 2, 8))
    for part in (part_one, part_many):
        part.place("g", 1, 3, CHAIN)
    assert _built(one) == _built(many)


def test_deferred_rows_become_maximal_ranges_without_refused_rows():
    builder = BlockBuilder(SALT)
    part = builder.add_input("deaths", 0)
    for number in range(6):
        refusal = Reason.MALFORMED if number == 3 else None
        part.add_row(number, PUBLISHER, filled("x", 32), refusal=refusal)
    part.end(6)
    part.defer_all("all")
    part.defer(1, "some")
    part.defer(2, "some")
    part.defer(5, "some")
    part.place("all", 1, 0, CHAIN)
    part.place("some", 8, 0, CHAIN)
    head, body = parse_block(*_bytes(_built(builder)))
    every, some = body.inputs[0].grants
    assert every.deferred == ((0, 3), (4, 6))
    assert some.deferred == ((1, 3), (5, 6))
    assert head.deferred == 8


def test_withheld_rows_of_one_reason_become_one_run():
    builder, part = _builder(5)
    for row in range(4):
        part.withhold(row, "g", Reason.EXPIRED)
    part.withhold(4, "g", Reason.SUSPENDED)
    _, body = parse_block(*_bytes(_built(builder)))
    runs = [(run.reason, run.first, run.end) for run in body.inputs[0].withheld]
    assert runs == [(Reason.EXPIRED, 0, 4), (Reason.SUSPENDED, 4, 5)]


def test_region_and_condition_are_implied_and_cost_nothing():
    plain, _ = _builder(5)
    implied, part = _builder(5)
    for row in range(5):
        part.withhold(row, "g", Reason.REGION_OUT_OF_SCOPE)
        part.withhold(row, "h", Reason.CONDITION_NOT_MET)
    assert _built(plain).body == _built(implied).body


def test_a_loading_input_stands_beside_the_main_cursor():
    builder, part = _builder(3)
    part.defer_all("late")
    part.place("late", 1, 0, CHAIN)
    loading = builder.add_input("deaths", 0, loading="late")
    row = loading.add_row(0, PUBLISHER, filled("x", 32))
    loading.allow(row, "late")
    loading.place("late", 1, 9, filled("after", 32))
    loading.end(1)
    _, body = parse_block(*_bytes(_built(builder)))
    assert [section.loading for section in body.inputs] == ["", "late"]


def test_a_loading_input_may_place_nothing():
    builder = BlockBuilder(SALT)
    loading = builder.add_input("deaths", 0, loading="late")
    loading.withhold(loading.add_row(0, PUBLISHER, CHAIN), "late", Reason.REGION_OUT_OF_SCOPE)
    loading.end(1)
    _, body = parse_block(*_bytes(_built(builder)))
    assert body.inputs[0].loading == "late"


def test_several_inputs_may_be_filled_in_turns():
    builder = BlockBuilder(SALT)
    one, two = builder.add_input("a", 0), builder.add_input("b", 0)
    one.add_row(0, "p/x", filled("1", 32))
    two.add_row(0, "p/y", filled("2", 32))
    one.add_row(1, "p/y", filled("3", 32))
    one.end(2)
    two.end(1)
    _, body = parse_block(*_bytes(_built(builder)))
    assert body.publishers == ("p/x", "p/y")
    assert [section.rows for section in body.inputs] == [2, 1]


def test_an_abort_names_what_was_exposed():
    builder, _ = _builder(1)
    block = _built(builder, exposed=("b", "a"))
    head, body = parse_block(*_bytes(block))
    assert head.after_abort
    assert body.exposed == ("a", "b")


def test_after_a_crash_the_flag_stands_without_names():
    builder, _ = _builder(1)
    head, body = parse_block(*_bytes(_built(builder, exposed=())))
    assert head.after_abort
    assert body.exposed == ()


def test_no_exposed_grants_without_an_abort():
    builder, _ = _builder(1)
    block = _built(builder, exposed=("a",))
    forged = seal(facts(0, 1, NO_BLOCK), parse_body(block.body), after_abort=False)
    with pytest.raises(Rejected, match="no abort"):
        parse_block(forged.header, forged.body)


def test_an_empty_block_is_a_block():
    block = _built(BlockBuilder(SALT))
    head, body = parse_block(*_bytes(block))
    assert (head.rows, body.inputs) == (0, ())


def test_the_hash_of_a_header_is_what_the_next_one_holds():
    lane = sample_lane(3)
    second = parse_header(lane.blocks[1].header)
    assert second.previous == header_hash(lane.blocks[0].header) == lane.blocks[0].hash
    assert parse_header(lane.blocks[0].header).previous == NO_BLOCK


def test_size_estimate_is_never_below_the_body():
    lane = sample_lane(2, rows=50)
    assert len(lane.blocks[0].body) > 0
    for rows in (0, 1, 7, 64, 500):
        builder, part = _builder(rows)
        part.defer_all("late")
        part.place("late", 1, 0, CHAIN)
        for row in range(0, rows, 2):
            part.withhold(row, "w", Reason.EXPIRED)
            part.allow(row, "g")
        part.place("g", 1, 1, CHAIN)
        assert builder.size_estimate() >= len(_built_unless_conflict(builder).body)


def _built_unless_conflict(builder):
    # defer_all and allow contradict each other on purpose elsewhere; here keep them apart.
    part = builder._inputs[0]
    part._deferred_all.clear()
    return _built(builder)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda part: part.allow(10, "g"), id="placed row that is not there"),
        pytest.param(lambda part: part.withhold(10, "g", Reason.EXPIRED), id="withheld beyond"),
        pytest.param(
            lambda part: (part.allow(1, "g"), part.defer(1, "g"), part.place("g", 1, 1, CHAIN)),
            id="placed and deferred",
        ),
        pytest.param(
            lambda part: (
                part.allow(1, "g"),
                part.withhold(1, "g", Reason.EXPIRED),
                part.place("g", 1, 1, CHAIN),
            ),
            id="placed and withheld",
        ),
        pytest.param(lambda part: part.allow(1, "g"), id="placed without sequence"),
        pytest.param(lambda part: part.end(105), id="next offset inside the rows"),
        pytest.param(
            lambda part: (part.add_row(110, PUBLISHER, b"short"), part.end(111)), id="digest size"
        ),
        pytest.param(
            lambda part: (part.add_row(110 + 2**32, PUBLISHER, CHAIN), part.end(2**40)),
            id="offset too far",
        ),
        pytest.param(
            lambda part: (part.add_row(110, "x" * 256, CHAIN), part.end(111)), id="long publisher"
        ),
    ],
)
def test_contradicting_verdicts_never_become_a_block(wrong):
    builder, part = _builder(10)
    wrong(part)
    with pytest.raises(Fatal):
        _built(builder)


def test_a_refused_row_can_neither_be_placed_nor_withheld():
    for verdict in ("allow", "withhold"):
        builder, part = _builder(1)
        row = part.add_row(101, PUBLISHER, CHAIN, refusal=Reason.MALFORMED)
        part.end(102)
        if verdict == "allow":
            part.allow(row, "g")
            part.place("g", 1, 1, CHAIN)
        else:
            part.withhold(row, "g", Reason.EXPIRED)
        with pytest.raises(Fatal):
            _built(builder)


def test_the_same_input_twice_is_refused():
    builder, _ = _builder(1)
    builder.add_input("deaths", 500)
    with pytest.raises(Fatal):
        _built(builder)


def test_a_body_over_the_limit_is_refused():
    builder, part = _builder(0)
    tokens = tuple(filled(str(n), 16) for n in range(250))
    for number in range(600):
        part.add_row(100 + number, PUBLISHER, CHAIN, tokens)
    part.end(700)
    with pytest.raises(Fatal, match="limit"):
        _built(builder)
    with pytest.raises(Rejected, match="limit"):
        parse_body(bytes(BODY_BYTES_MAX + 1))


def test_a_header_is_at_most_4_kib():
    longest = dataclasses.replace(
        parse_header(sample_lane(1).blocks[0].header), cluster="统" * 85, engine="e" * 255
    )
    assert len(encode_header(longest)) < HEADER_BYTES_MAX
    with pytest.raises(Rejected):
        parse_header(bytes(HEADER_BYTES_MAX + 1))


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_cut_or_longer_header_or_body_is_rejected(cut):
    block = sample_lane(1).blocks[0]
    for data, parse in ((block.header, parse_header), (block.body, parse_body)):
        with pytest.raises(Rejected):
            parse(data[:cut])
        with pytest.raises(Rejected):
            parse(data + b"\0")


def _resealed(change):
    """A body that no builder makes, under a header that matches it."""
    body = parse_body(sample_lane(2).blocks[1].body)
    return encode_body(change(body))


def _first_input(body, **changes):
    first, *rest = body.inputs
    return dataclasses.replace(body, inputs=(dataclasses.replace(first, **changes), *rest))


def _renamed_input(body, index, dataset):
    inputs = list(body.inputs)
    inputs[index] = dataclasses.replace(inputs[index], dataset=dataset)
    return dataclasses.replace(body, inputs=tuple(inputs))


def _swapped(indexes):
    """Publishers 0 and 1 exchanged in a column of u16."""
    return bytes(byte if at % 2 == 0 else 1 - byte for at, byte in enumerate(indexes))


def _first_column(body, **changes):
    first, *rest = body.inputs[0].grants
    return _first_input(body, grants=(dataclasses.replace(first, **changes), *rest))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda b: dataclasses.replace(b, exposed=("b", "a")), "not ascending"),
        (lambda b: dataclasses.replace(b, grants=(*b.grants, "zzz")), "not used"),
        (lambda b: _first_input(b, publishers=_swapped(b.inputs[0].publishers)), "first use"),
        (lambda b: dataclasses.replace(b, publishers=b.publishers[:1] * 2), "listed twice"),
        (lambda b: dataclasses.replace(b, publishers=b.publishers[:1]), "dictionary"),
        (lambda b: _renamed_input(b, 1, b.inputs[0].dataset), "an input occurs twice"),
        (lambda b: _first_input(b, dataset="Deaths"), "not an id"),
        (lambda b: _first_input(b, next=0), "next offset"),
        (lambda b: _first_input(b, next=b.inputs[0].first + 3), "do not ascend"),
        (lambda b: _first_input(b, offset_deltas=bytes(32)), "do not ascend"),
        (lambda b: _first_input(b, operations=b"\x04" + b.inputs[0].operations[1:]), "operation"),
        (lambda b: _first_input(b, refusals=b"\x63" + b.inputs[0].refusals[1:]), "reason"),
        (lambda b: _first_input(b, refusals=b"\x64" + b.inputs[0].refusals[1:]), "reason"),
        (lambda b: _first_input(b, refusals=b"\x07" + b.inputs[0].refusals[1:]), "refused row"),
        (lambda b: _first_input(b, grants=b.inputs[0].grants[::-1]), "not ascending"),
        (lambda b: _first_input(b, loading="deaths-city"), "another grant"),
        (lambda b: _first_input(b, loading="Deaths City"), "names no grant"),
        (lambda b: _first_column(b, count=1), "bitmap"),
        (lambda b: _first_column(b, count=0, allowed=b"\0"), "empty grant column"),
        (lambda b: _first_column(b, first_k=0), "sequence"),
        (lambda b: _first_column(b, first_k=2**64 - 1), "sequence"),
        (lambda b: _first_column(b, deferred=((0, 1),)), "another verdict"),
        (lambda b: _first_column(b, deferred=((2, 3),)), "another verdict"),
        (lambda b: _first_column(b, deferred=((3, 3),)), "empty or too far"),
        (lambda b: _first_column(b, deferred=((3, 99),)), "empty or too far"),
        (lambda b: _first_column(b, deferred=((3, 4), (4, 5))), "touch"),
    ],
)
def test_only_the_canonical_form_is_read(change, problem):
    with pytest.raises(Rejected, match=problem):
        parse_body(_resealed(change))


def test_bits_beyond_the_last_row_are_rejected():
    lane = sample_lane(1, rows=5)
    body = parse_body(lane.blocks[0].body)
    column = body.inputs[0].grants[0]
    padded = bytes((column.allowed[0] | 0b1000_0000,))
    with pytest.raises(Rejected, match="beyond the last row"):
        parse_body(encode_body(_first_column(body, allowed=padded)))


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        (((0, "EXPIRED", 3, 4), (0, "EXPIRED", 3, 4)), "overlap"),
        (((0, "EXPIRED", 4, 5), (0, "EXPIRED", 3, 4)), "overlap"),
        (((0, "EXPIRED", 3, 4), (0, "EXPIRED", 4, 5)), "not joined"),
        (((0, "EXPIRED", 3, 3),), "no row"),
        (((0, "EXPIRED", 3, 9),), "no row"),
        (((0, "REGION_OUT_OF_SCOPE", 3, 4),), "implied"),
        (((0, "UNAUTHENTICATED", 3, 4),), "unknown"),
        (((0, "EXPIRED", 2, 3),), "another verdict"),
        (((1, "EXPIRED", 0, 1), (0, "EXPIRED", 0, 1)), "go back"),
    ],
)
def test_withholdings_have_one_form(runs, problem):
    body = parse_body(sample_lane(1).blocks[0].body)
    section = body.inputs[0]
    names = [run.grant for run in section.withheld[:1]] + [section.grants[0].grant]
    other = section.withheld[0]
    changed = tuple(
        dataclasses.replace(other, grant=names[which], reason=Reason[reason], first=first, end=end)
        for which, reason, first, end in runs
    )
    if problem == "go back":
        names = sorted(names)
        changed = tuple(
            dataclasses.replace(run, grant=name)
            for run, name in zip(changed, reversed(names), strict=True)
        )
    with pytest.raises(Rejected, match=problem):
        parse_body(encode_body(_first_input(_without_columns(body, names[0]), withheld=changed)))


def _without_columns(body, grant):
    kept = tuple(column for column in body.inputs[0].grants if column.grant != grant)
    return _first_input(body, grants=kept)


def test_a_swapped_body_does_not_fit_its_header():
    one, two = sample_lane(2).blocks
    with pytest.raises(Rejected, match="hash"):
        parse_block(one.header, two.body)


def test_counts_in_the_header_are_those_of_the_body():
    block = sample_lane(1).blocks[0]
    head = parse_header(block.header)
    forged = dataclasses.replace(head, refused=head.refused + 1)
    with pytest.raises(Rejected, match="counts"):
        parse_block(encode_header(forged), block.body)
    assert head.body_hash == body_hash(block.body)


@pytest.mark.parametrize("flags", [2, 1 << 31])
def test_unknown_flags_are_rejected(flags):
    data = bytearray(sample_lane(1).blocks[0].header)
    at = len(data) - 32 - 4 - 8 - 8 - 4 - 4 - 4 - 4
    data[at : at + 4] = flags.to_bytes(4, "big")
    with pytest.raises(Rejected, match="flags"):
        parse_header(bytes(data))


def test_an_unknown_version_is_rejected():
    header = sample_lane(1).blocks[0].header
    with pytest.raises(Rejected, match="version"):
        parse_header(b"\x02" + header[1:])


def test_digests_depend_on_salt_key_and_every_part():
    assert row_digest(SALT, b"x") != row_digest(filled("other", 16), b"x")
    plain = id_hash("p", "d", "e")
    others = {id_hash("pd", "", "e"), id_hash("p", "de", ""), id_hash("p", "d", "e", b"key")}
    assert len(plain) == 8
    assert plain not in others
    assert len(others) == 3


def test_bitmaps_and_row_numbers_agree():
    for rows in (1, 7, 8, 9, 70):
        chosen = [row for row in range(rows) if row % 3 != 1]
        bits = bitmaps.of_rows(chosen, rows)
        data = bitmaps.to_bytes(bits, rows)
        assert len(data) == bitmaps.size_of(rows)
        assert bitmaps.rows_of(bitmaps.to_bits(data)) == chosen
    assert bitmaps.of_rows((), 0) == 0
