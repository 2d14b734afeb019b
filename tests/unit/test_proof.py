"""Proof of one record: holds for every row, says what became of it, breaks at any change."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_samples import CLUSTER, SampleLane, facts, filled, sample_lane
from shutong_core.audit.block import NO_BLOCK, Block, BlockBuilder, parse_block, row_digest
from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.audit.merkle import inclusion_path, leaf_hash, root_of
from shutong_core.audit.proof import PROOF_BYTES_MAX, Proof, Proved, check_proof, parse_proof
from shutong_core.audit.proofwords import proof_verdict
from shutong_core.audit.rowtree import Fate, block_leaf, prove_row, row_root
from shutong_core.audit.signednote import (
    Algorithm,
    NoteKey,
    SignedNote,
    cosign,
    with_signatures,
)
from shutong_core.audit.trust import TrustBundle
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason

TREE = TreeName(CLUSTER, "audit", 0)


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(filled(name, 32))


def public(name: str) -> bytes:
    return private(name).public_key().public_bytes_raw()


WITNESSES = tuple(
    NoteKey(f"office/{name}", public(name), Algorithm.COSIGNATURE) for name in ("w1", "w2", "w3")
)
TRUST = TrustBundle(CLUSTER, (public("auditor"),), WITNESSES, 1)


def signed(leaves: list[bytes], tree: TreeName = TREE, by: str = "auditor"):
    checkpoint = Checkpoint(tree.origin, len(leaves), root_of(leaves))
    note = checkpoint.sign(tree.key(public(by)), private(by).sign)
    lines = [
        cosign(note.text, key, private(name).sign, 9)
        for key, name in zip(WITNESSES, ("w1", "w2", "w3"), strict=True)
    ]
    return with_signatures(note, lines)


def leaves_of(lane: SampleLane) -> list[bytes]:
    bodies = [parse_block(each.header, each.body)[1] for each in lane.blocks]
    pairs = zip(lane.blocks, bodies, strict=True)
    return [leaf_hash(block_leaf(each.header, row_root(body))) for each, body in pairs]


def proof_of(lane: SampleLane, block: int, section: int, row: int) -> Proof:
    leaves, stored = leaves_of(lane), lane.blocks[block]
    _, body = parse_block(stored.header, stored.body)
    path = tuple(inclusion_path(leaves, block))
    return Proof(signed(leaves), stored.header, path, prove_row(body, section, row))


def check(data: bytes, trust: TrustBundle = TRUST) -> Proved:
    return check_proof(parse_proof(data), trust)


def test_every_row_of_every_block_is_proved_with_what_became_of_it() -> None:
    lane = sample_lane(3, rows=6)
    for number, block in enumerate(lane.blocks):
        _, body = parse_block(block.header, block.body)
        for at, section in enumerate(body.inputs):
            for row, offset in enumerate(section.offsets()):
                proved = check(proof_of(lane, number, at, row).encode())
                assert (proved.row.dataset, proved.row.offset) == (section.dataset, offset)
                assert proved.header.sequence == number + 1
                assert proved.row.refusal == (Reason.BAD_ID_NUMBER if row % 3 == 2 else None)
                placed = {each.grant for each in proved.row.verdicts if each.fate is Fate.PLACED}
                assert placed == {
                    column.grant
                    for column in section.grants
                    if column.count and column.allowed[row // 8] >> row % 8 & 1
                }
                assert proved.cosigned == tuple(key.name for key in WITNESSES)


def test_any_changed_byte_of_a_proof_is_found() -> None:
    data = proof_of(sample_lane(5), 2, 1, 4).encode()
    whole = check(data)
    chance = random.Random(3)
    for _ in range(400):
        changed = bytearray(data)
        at = chance.randrange(len(data))
        changed[at] ^= 1 << chance.randrange(8)
        try:
            found = check(bytes(changed))
        except Rejected:
            continue
        # White space of the file, or a cosignature line turned into a stranger's: not what is said.
        assert (found.row, found.header, found.checkpoint) == (
            whole.row,
            whole.header,
            whole.checkpoint,
        ), at


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.pop("header"), "exactly the fields"),
        (lambda table: table.update(more=1), "exactly the fields"),
        (lambda table: table["row"].update(rows=17), "16 rows, the proof speaks of 17"),
        (lambda table: table["row"].update(index=5), "not in the tree"),
        (lambda table: table["row"].update(index=-1), "no number of rows"),
        (lambda table: table["row"].update(path=[]), "too short"),
        (lambda table: table["row"]["path"].append(table["row"]["path"][0]), "too long"),
        (lambda table: table["row"].update(salt="AAAA"), "salt"),
        (lambda table: table.update(tree_path=["AAAA"]), "no hash"),
        (lambda table: table.update(tree_path=table["tree_path"][::-1]), "not in the tree"),
        (lambda table: table.update(tree_path=["x"] * 80), "at most"),
        (lambda table: table.update(header="=="), "not base64"),
        (lambda table: table.update(checkpoint=7), "no text"),
        (lambda table: table.update(checkpoint="x\n\n"), "signed note"),
    ],
)
def test_a_wrong_field_is_named(change: Callable[[dict[str, Any]], object], said: str) -> None:
    table = json.loads(proof_of(sample_lane(5), 2, 1, 4).encode())
    change(table)
    with pytest.raises(Rejected, match=said):
        check(json.dumps(table).encode())


def test_a_row_of_another_block_a_foreign_key_and_a_strange_tree_do_not_hold() -> None:
    lane = sample_lane(5)
    first, other = proof_of(lane, 2, 1, 4), proof_of(lane, 3, 1, 4)
    leaves = leaves_of(lane)

    def of(note: SignedNote) -> Proof:
        return Proof(note, first.header, first.tree_path, first.row)

    bad = [
        Proof(first.note, first.header, first.tree_path, other.row),
        Proof(first.note, other.header, first.tree_path, first.row),
        of(signed(leaves, by="stranger")),
        Proof(
            signed(leaves, TreeName(CLUSTER, "audit", 1)), first.header, first.tree_path, first.row
        ),
        Proof(
            signed(leaves, TreeName("x/y", "audit", 0)), first.header, first.tree_path, first.row
        ),
        Proof(
            signed(leaves, TreeName(CLUSTER, "access", 0)), first.header, first.tree_path, first.row
        ),
        of(signed(leaves[:2])),
    ]
    for each in bad:
        with pytest.raises(Rejected):
            check(each.encode())
    needs_more = TrustBundle(CLUSTER, (public("auditor"),), WITNESSES[:2], 2)
    assert check(first.encode(), needs_more).cosigned == ("office/w1", "office/w2")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b"[" * 9_000, b" " * (PROOF_BYTES_MAX + 1)]
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(Rejected):
        check(data)


def test_a_proof_from_a_large_block_and_a_tree_of_a_hundred_million_leaves_is_small() -> None:
    block = _large_block()
    _, body = parse_block(block.header, block.body)
    row = prove_row(body, 0, 2_345)
    note = signed([filled("leaf", 32)])
    path = tuple(filled(f"node {n}", 32) for n in range(27))
    data = Proof(note, block.header, path, row).encode()
    assert (row.rows, len(row.path)) == (4_000, 12)
    assert len(data) <= 10 * 1024


def _large_block() -> Block:
    """4,000 rows, each withheld by name from, or placed for, 20 grants."""
    builder = BlockBuilder(filled("salt", 16))
    part = builder.add_input("x" * 48, 0)
    grants = [f"{'g' * 45}-{n:02d}" for n in range(20)]
    for number in range(4_000):
        digest = row_digest(builder.salt, filled(f"row {number}", 40))
        row = part.add_row(number, "p" * 80, digest, (), None, 0, None)
        for each, grant in enumerate(grants):
            if (number + each) % 2:
                part.allow(row, grant)
            else:
                part.withhold(row, grant, Reason.EXPIRED)
    part.end(4_000)
    for grant in grants:
        part.place(grant, 10**12, 1_000, filled("chain", 32))
    return builder.build(facts(0, 99_999_999, NO_BLOCK), None)


def test_a_verdict_says_what_is_proved_and_what_is_not_in_both_languages() -> None:
    lane = sample_lane(2)
    placed = proof_verdict(check(proof_of(lane, 0, 0, 1).encode()), "deaths-town")
    assert any("已投放，为该分道第 1 条" in each.zh for each in placed.checked)
    assert any("placed, as record 1" in each.en for each in placed.checked)
    named = proof_verdict(check(proof_of(lane, 0, 0, 0).encode()), "deaths-town")
    assert any(Reason.EXPIRED.en in each.en for each in named.checked)
    implied = proof_verdict(check(proof_of(lane, 0, 0, 0).encode()), "some-other-grant")
    assert any("by region or condition" in each.en for each in implied.checked)
    assert any("which of region and condition" in each.en for each in implied.not_checked)
    refused = proof_verdict(check(proof_of(lane, 0, 0, 2).encode()), "deaths-town")
    assert any("refused as a whole" in each.en for each in refused.checked)
    for verdict in (placed, named, implied, refused):
        assert any("content" in each.en for each in verdict.not_checked)
        assert verdict.text("zh").startswith("校验通过")
