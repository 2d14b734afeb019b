"""Which checkpoint of a tree counts as its newest."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_samples import filled
from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.audit.treeheads import TreeHeads

CLUSTER = "abc/shutong"
TREE = TreeName(CLUSTER, "audit", 3)
AUDITOR = Ed25519PrivateKey.from_private_bytes(filled("auditor", 32))
STRANGER = Ed25519PrivateKey.from_private_bytes(filled("stranger", 32))


def signed(size: int, root: str = "", tree: TreeName = TREE, by: Ed25519PrivateKey = AUDITOR):
    public = by.public_key().public_bytes_raw()
    checkpoint = Checkpoint(tree.origin, size, filled(f"root {root or size}", 32))
    return checkpoint.sign(tree.key(public), by.sign).encode()


def heads() -> TreeHeads:
    return TreeHeads(CLUSTER, lambda: [AUDITOR.public_key().public_bytes_raw()])


def test_the_newest_signed_checkpoint_of_a_tree_counts() -> None:
    found = heads()
    for at_ms, size in enumerate((0, 5, 5, 9)):
        assert found.add(TREE.origin.encode(), signed(size), at_ms)
    newest = found.newest(TREE)
    assert newest is not None
    assert (newest.checkpoint.size, newest.at_ms) == (9, 3)
    assert found.newest(TreeName(CLUSTER, "access", 3)) is None
    assert found.fault(TREE) is None


def test_a_step_back_or_another_root_never_counts_and_is_told() -> None:
    for bad, said in ((signed(4), "follows one of 9"), (signed(9, "other"), "different roots")):
        found = heads()
        found.add(TREE.origin.encode(), signed(9), 1)
        assert found.add(TREE.origin.encode(), bad, 2) is None
        assert said in str(found.fault(TREE))
        newest = found.newest(TREE)
        assert newest is not None
    assert newest.at_ms == 1


def test_what_no_trusted_auditor_signed_for_this_tree_is_passed_over() -> None:
    key, other = TREE.origin.encode(), TreeName("other/shutong", "audit", 3)
    bad = [
        (key, signed(5, by=STRANGER)),
        (key, signed(5, tree=TreeName(CLUSTER, "audit", 4))),
        (other.origin.encode(), signed(5, tree=other)),
        (key, signed(5)[:-3]),
        (key, signed(5).replace(b"\n5\n", b"\n6\n")),
        (key, b"\xff" * 40),
        (key, None),
        (None, signed(5)),
        (f"{CLUSTER}/audit/99999".encode(), signed(5, tree=TreeName(CLUSTER, "audit", 99999))),
    ]
    found = heads()
    for at, (name, value) in enumerate(bad):
        assert found.add(name, value, at) is None, at
    assert found.refused == len(bad)
    assert found.newest(TREE) is None
    assert found.fault(TREE) is None


def test_a_record_of_key_rotation_is_no_refused_checkpoint() -> None:
    found = heads()
    assert found.add(f"{CLUSTER}/rotation".encode(), b"anything", 1) is None
    assert found.refused == 0
