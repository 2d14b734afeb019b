"""Merkle trees as RFC 9162 defines them: held against its recursive definitions."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    check_consistency,
    check_inclusion,
    consistency_proof,
    frontier_at,
    inclusion_path,
    inclusion_proof,
    leaf_hash,
    root_of,
    tree_root,
)
from shutong_core.domain.errors import Rejected

#: The reference leaves of Certificate Transparency's tests and the roots of their first n.
LEAVES = [
    bytes.fromhex(each)
    for each in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
SIZES = range(1, 70)


def leaves_of(size: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(size)]


# RFC 9162, 2.1.1, 2.1.3.1 and 2.1.4.1, word by word, over leaf data.
def mth(data: list[bytes]) -> bytes:
    if not data:
        return hashlib.sha256().digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = half(len(data))
    return hashlib.sha256(b"\x01" + mth(data[:k]) + mth(data[k:])).digest()


def half(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def path(m: int, data: list[bytes]) -> list[bytes]:
    if len(data) == 1:
        return []
    k = half(len(data))
    if m < k:
        return [*path(m, data[:k]), mth(data[k:])]
    return [*path(m - k, data[k:]), mth(data[:k])]


def subproof(m: int, data: list[bytes], whole: bool) -> list[bytes]:
    if m == len(data):
        return [] if whole else [mth(data)]
    k = half(len(data))
    if m <= k:
        return [*subproof(m, data[:k], whole), mth(data[k:])]
    return [*subproof(m - k, data[k:], False), mth(data[:k])]


def node_of(data: list[bytes]):
    return lambda level, index: mth(data[index << level : (index + 1) << level])


def test_the_reference_leaves_have_the_reference_roots():
    for size, root in enumerate(ROOTS, 1):
        assert root_of(map(leaf_hash, LEAVES[:size])).hex() == root


def test_the_tree_without_leaves_has_the_hash_of_nothing():
    assert root_of([]) == EMPTY_ROOT == Frontier().root() == mth([])


@pytest.mark.parametrize("size", SIZES)
def test_every_way_to_a_root_gives_that_of_the_definition(size):
    data = leaves_of(size)
    grown = Frontier()
    for leaf in data:
        grown.add(leaf_hash(leaf))
    assert grown.size == size
    assert grown.root() == root_of(map(leaf_hash, data)) == mth(data)
    assert tree_root(size, node_of(data)) == mth(data)


def test_a_frontier_taken_up_again_grows_as_if_it_had_never_stopped():
    data = leaves_of(70)
    for size in SIZES:
        again = frontier_at(size, node_of(data))
        for leaf in data[size:]:
            again.add(leaf_hash(leaf))
        assert again.root() == mth(data)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 21, 64, 69])
def test_inclusion_proofs_are_those_of_the_definition_and_hold(size):
    data = leaves_of(size)
    for index in range(size):
        proof = inclusion_proof(index, size, node_of(data))
        assert proof == path(index, data) == inclusion_path([*map(leaf_hash, data)], index)
        check_inclusion(index, size, leaf_hash(data[index]), proof, mth(data))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 21, 64, 69])
def test_consistency_proofs_are_those_of_the_definition_and_hold(size):
    data = leaves_of(size)
    for old in range(1, size + 1):
        proof = consistency_proof(old, size, node_of(data))
        assert proof == subproof(old, data, True)
        check_consistency(old, size, mth(data[:old]), mth(data), proof)
    check_consistency(0, size, EMPTY_ROOT, mth(data), [])


@given(st.integers(1, 40), st.data())
def test_no_altered_inclusion_proof_holds(size, draw):
    data = leaves_of(size)
    index = draw.draw(st.integers(0, size - 1))
    proof, root = path(index, data), mth(data)
    leaf = leaf_hash(data[index])
    for wrong in range(size):
        if wrong != index:
            with pytest.raises(Rejected):
                check_inclusion(wrong, size, leaf_hash(data[wrong]), proof, root)
            with pytest.raises(Rejected):
                check_inclusion(index, size, leaf_hash(data[wrong]), proof, root)
    for at in range(len(proof)):
        changed = [*proof]
        changed[at] = bytes(32)
        for bad in (changed, proof[:at], [*proof, bytes(32)]):
            with pytest.raises(Rejected):
                check_inclusion(index, size, leaf, bad, root)


@given(st.integers(2, 40), st.data())
def test_no_consistency_proof_holds_for_a_rewritten_history(size, draw):
    data = leaves_of(size)
    old = draw.draw(st.integers(1, size - 1))
    altered = draw.draw(st.integers(0, old - 1))
    forked = [*data]
    forked[altered] = b"another"
    honest = subproof(old, data, True)
    for proof in (honest, subproof(old, forked, True), honest[:-1], [*honest, bytes(32)]):
        with pytest.raises(Rejected):
            check_consistency(old, size, mth(data[:old]), mth(forked), proof)


def test_a_step_back_is_never_consistent():
    data = leaves_of(5)
    with pytest.raises(Rejected, match="step back"):
        check_consistency(5, 4, mth(data), mth(data[:4]), [])
    with pytest.raises(Rejected):
        check_consistency(5, 5, mth(data), mth([*data[:4], b"other"]), [])


def test_proofs_are_asked_only_for_leaves_that_are_there():
    data = leaves_of(3)
    hashes = [*map(leaf_hash, data)]
    for wrong in (-1, 3):
        with pytest.raises(IndexError):
            inclusion_proof(wrong, 3, node_of(data))
        with pytest.raises(IndexError):
            inclusion_path(hashes, wrong)
        with pytest.raises(Rejected):
            check_inclusion(wrong, 3, hashes[0], [], mth(data))
    with pytest.raises(IndexError):
        consistency_proof(4, 3, node_of(data))
    with pytest.raises(Rejected):
        Frontier(3, [bytes(32)])
