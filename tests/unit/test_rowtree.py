"""A block's rows as a tree: one row can be shown, its neighbours stay hidden."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from audit_samples import filled, sample_lane
from shutong_core.audit.block import parse_block
from shutong_core.audit.merkle import check_inclusion
from shutong_core.audit.rowtree import (
    ROW_SALT_BYTES,
    Fate,
    block_leaf,
    encode_row,
    encoded_rows,
    parse_row,
    prove_row,
    row_hashes,
    row_leaf_hash,
    row_root,
    row_salts,
    split_block_leaf,
)
from shutong_core.domain.errors import Rejected

SALT = filled("salt", 16)


def bodies():
    return [parse_block(each.header, each.body)[1] for each in sample_lane(blocks=4).blocks]


@pytest.mark.parametrize("rows", [0, 1, 2, 509, 510, 511, 1021])
def test_row_salts_are_pieces_of_hkdf(rows):
    expected = b""
    for group in range(3):
        tag = b"shutong-row-salt-v1"
        info = len(tag).to_bytes(4, "big") + tag + group.to_bytes(4, "big")
        expected += HKDF(hashes.SHA256(), 255 * 32, None, info).derive(SALT)
    assert row_salts(SALT, rows) == expected[: rows * 16]


def test_a_row_says_what_the_body_says_of_it():
    for body in bodies():
        for section in body.inputs:
            shown = [parse_row(data) for data in encoded_rows(body, section)]
            rows = list(body.rows(section))
            assert [each.offset for each in shown] == [each.offset for each in rows]
            assert [each.digest for each in shown] == [each.digest for each in rows]
            assert [each.refusal for each in shown] == [each.refusal for each in rows]
            assert [each.publisher for each in shown] == [each.publisher for each in rows]
            for column in section.grants:
                placed = [
                    verdict.k
                    for each in shown
                    for verdict in each.verdicts
                    if verdict.grant == column.grant and verdict.fate is Fate.PLACED
                ]
                assert placed == list(range(column.first_k, column.first_k + column.count))
            deferred = sum(
                verdict.fate is Fate.DEFERRED for each in shown for verdict in each.verdicts
            )
            assert deferred == sum(
                end - first for column in section.grants for first, end in column.deferred
            )
            withheld = {
                (verdict.grant, verdict.reason, number)
                for number, each in enumerate(shown)
                for verdict in each.verdicts
                if verdict.fate is Fate.WITHHELD
            }
            assert withheld == {
                (run.grant, run.reason, number)
                for run in section.withheld
                for number in range(run.first, run.end)
            }


def test_rows_of_the_samples_meet_every_fate():
    fates = {
        verdict.fate
        for body in bodies()
        for section in body.inputs
        for data in encoded_rows(body, section)
        for verdict in parse_row(data).verdicts
    }
    assert Fate.PLACED in fates
    assert len(fates) > 1


def test_a_proved_row_leads_to_the_root_of_its_block():
    for body in bodies():
        root = row_root(body)
        for number, section in enumerate(body.inputs):
            for row in range(section.rows):
                proof = prove_row(body, number, row)
                leaf = row_leaf_hash(proof.salt, proof.row)
                check_inclusion(proof.index, proof.rows, leaf, proof.path, root)
                other = row_leaf_hash(proof.salt, proof.row + b"\x00")
                with pytest.raises(Rejected):
                    check_inclusion(proof.index, proof.rows, other, proof.path, root)


def test_a_shown_row_holds_neither_the_salt_of_the_block_nor_subject_tokens():
    body = bodies()[0]
    tokens = [
        token for section in body.inputs for row in body.rows(section) for token in row.tokens
    ]
    assert tokens
    proof = prove_row(body, 0, 1)
    shown = b"".join((proof.row, proof.salt, *proof.path))
    assert body.salt not in shown
    assert not any(token in shown for token in tokens)


def test_every_row_has_a_salt_of_its_own():
    salts = row_salts(SALT, 2_000)
    each = {salts[at : at + ROW_SALT_BYTES] for at in range(0, len(salts), ROW_SALT_BYTES)}
    assert len(each) == 2_000
    assert row_salts(filled("other", 16), 1) != salts[:16]


def test_equal_rows_have_different_hashes():
    body = bodies()[0]
    hashes_of = row_hashes(body)
    assert len(set(hashes_of)) == len(hashes_of) == sum(each.rows for each in body.inputs)


def test_the_leaf_of_a_block_is_its_header_and_the_root_of_its_rows():
    block = sample_lane(blocks=1).blocks[0]
    root = row_root(parse_block(block.header, block.body)[1])
    assert split_block_leaf(block_leaf(block.header, root)) == (block.header, root)
    with pytest.raises(Rejected):
        split_block_leaf(bytes(32))


def test_a_row_has_one_form():
    body = bodies()[0]
    for section in body.inputs:
        for data in encoded_rows(body, section):
            assert encode_row(parse_row(data)) == data
            for cut in range(len(data)):
                with pytest.raises(Rejected):
                    parse_row(data[:cut])
            with pytest.raises(Rejected):
                parse_row(data + b"\x00")


@given(st.binary(max_size=300))
def test_garbage_is_no_row(data):
    with pytest.raises(Rejected):
        parse_row(data)


@given(st.integers(0, 200), st.integers(0, 255))
def test_an_altered_row_is_refused_or_reads_as_another_in_its_one_form(at, value):
    body = bodies()[0]
    data = bytearray(next(encoded_rows(body, body.inputs[0])))
    data[at % len(data)] = value
    try:
        row = parse_row(bytes(data))
    except Rejected:
        return
    assert encode_row(row) == bytes(data)


def test_the_first_salt_is_the_first_half_of_the_first_block():
    key = hmac.new(bytes(32), SALT, hashlib.sha256).digest()
    info = b"\x00\x00\x00\x13shutong-row-salt-v1" + bytes(4)
    assert row_salts(SALT, 1) == hmac.new(key, info + b"\x01", hashlib.sha256).digest()[:16]


def test_a_row_names_each_grant_once_and_in_order():
    body = bodies()[0]
    row = next(
        row
        for section in body.inputs
        for row in map(parse_row, encoded_rows(body, section))
        if len(row.verdicts) > 1
    )
    first, *others = row.verdicts
    for verdicts in ((*others, first), (first, first)):
        with pytest.raises(Rejected, match="ascending"):
            parse_row(encode_row(dataclasses.replace(row, verdicts=tuple(verdicts))))
