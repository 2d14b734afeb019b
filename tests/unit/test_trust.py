"""The trust bundle: what it accepts of a checkpoint, and that only one form of it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_samples import filled
from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.audit.signednote import Algorithm, NoteKey, SignedNote, cosign, with_signatures
from shutong_core.audit.trust import TRUST_BYTES_MAX, TrustBundle, parse_trust
from shutong_core.domain.errors import Rejected

TREE = TreeName("abc/shutong", "audit", 0)


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(filled(name, 32))


def public(name: str) -> bytes:
    return private(name).public_key().public_bytes_raw()


WITNESSES = tuple(
    NoteKey(f"office/{name}", public(name), Algorithm.COSIGNATURE) for name in ("w1", "w2")
)
BUNDLE = TrustBundle(TREE.cluster, (public("a1"), public("a2")), WITNESSES, 1)


def note(by: str = "a1", witnesses: tuple[str, ...] = ("w1",), tree: TreeName = TREE) -> SignedNote:
    made = Checkpoint(tree.origin, 7, filled("root", 32)).sign(
        tree.key(public(by)), private(by).sign
    )
    keys = {"w1": WITNESSES[0], "w2": WITNESSES[1]}
    return with_signatures(
        made, [cosign(made.text, keys[each], private(each).sign, 9) for each in witnesses]
    )


def test_a_bundle_is_read_as_it_was_written() -> None:
    assert parse_trust(BUNDLE.encode()) == BUNDLE


def test_a_checkpoint_counts_with_an_auditor_and_enough_witnesses() -> None:
    for by in ("a1", "a2"):
        assert BUNDLE.accept(note(by), TREE).size == 7
    assert BUNDLE.accept(note(witnesses=("w2", "w1")), TREE).size == 7


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (note("stranger"), "no auditor's key"),
        (note(witnesses=()), "0 witnesses cosigned it, 1 are needed"),
        (note(tree=TreeName("abc/shutong", "audit", 1)), "not of"),
        (note(tree=TreeName("other/shutong", "audit", 0)), "not of"),
    ],
)
def test_what_is_not_signed_as_needed_for_this_tree_does_not_count(
    bad: SignedNote, said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        BUNDLE.accept(bad, TREE)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.pop("witnesses"),
        lambda table: table.update(more=1),
        lambda table: table.update(format="shutong-trust-v2"),
        lambda table: table.update(cluster=""),
        lambda table: table.update(auditor=[]),
        lambda table: table.update(auditor=table["auditor"] * 2),
        lambda table: table.update(auditor=["AAAA"]),
        lambda table: table.update(auditor="x"),
        lambda table: table.update(auditor=[1]),
        lambda table: table.update(witnesses=table["witnesses"] * 40),
        lambda table: table.update(witnesses=[table["witnesses"][0]] * 2),
        lambda table: table.update(witnesses=[TREE.key(public("a1")).vkey]),
        lambda table: table.update(witnesses_needed=3),
        lambda table: table.update(witnesses_needed=True),
        lambda table: table.update(witnesses_needed=-1),
    ],
)
def test_any_other_form_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    table = json.loads(BUNDLE.encode())
    change(table)
    with pytest.raises(Rejected):
        parse_trust(json.dumps(table).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 10_000, b" " * (TRUST_BYTES_MAX + 1)])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(Rejected):
        parse_trust(data)
