"""Signed notes and checkpoints as C2SP writes them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shutong_core.audit.checkpoint import Checkpoint, TreeName, parse_checkpoint, parse_origin
from shutong_core.audit.merkle import EMPTY_ROOT
from shutong_core.audit.signednote import (
    Algorithm,
    NoteKey,
    SignedNote,
    cosign,
    parse_note,
    parse_vkey,
    sign_note,
    verified_by,
    with_signatures,
)
from shutong_core.domain.errors import Rejected

#: The example of the documentation of Go's golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpR"
    "Zb6KE6RyyBwJnAM=\n"
).encode()

TREE = TreeName("5L6g3nShT-eMCtK--X86sw/shutong", "audit", 3)
LOG = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
LOG_KEY = TREE.key(LOG.public_key().public_bytes_raw())
WITNESS_KEY = NoteKey(
    "witness.example/1", WITNESS.public_key().public_bytes_raw(), Algorithm.COSIGNATURE
)
CHECKPOINT = Checkpoint(TREE.origin, 17, EMPTY_ROOT)


def signed() -> SignedNote:
    note = CHECKPOINT.sign(LOG_KEY, LOG.sign)
    return with_signatures(note, [cosign(note.text, WITNESS_KEY, WITNESS.sign, 1_790_000_000)])


def test_the_note_of_gos_documentation_verifies():
    key = parse_vkey(GO_KEY)
    assert key.vkey == GO_KEY
    assert verified_by(parse_note(GO_NOTE), [key]) == {key: 0}
    assert parse_note(GO_NOTE).encode() == GO_NOTE


def test_a_checkpoint_reads_back_with_the_keys_that_signed_it():
    note = parse_note(signed().encode())
    assert verified_by(note, [LOG_KEY, WITNESS_KEY]) == {LOG_KEY: 0, WITNESS_KEY: 1_790_000_000}
    assert parse_checkpoint(note.text) == CHECKPOINT
    assert parse_origin(CHECKPOINT.origin) == TREE


def test_signatures_of_strangers_are_passed_over():
    other = NoteKey("someone-else", LOG_KEY.public)
    assert verified_by(signed(), [other]) == {}


def test_one_key_does_not_sign_for_another_tree():
    elsewhere = TreeName(TREE.cluster, "audit", 4).key(LOG_KEY.public)
    moved = SignedNote(signed().text.replace("/3\n", "/4\n"), signed().signatures)
    assert verified_by(moved, [elsewhere]) == {}
    with pytest.raises(Rejected, match="does not hold"):
        verified_by(moved, [LOG_KEY])


@pytest.mark.parametrize("at", range(len(CHECKPOINT.text) - 1))
def test_no_altered_text_keeps_its_signatures(at):
    text = signed().text
    changed = text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :]
    for key in (LOG_KEY, WITNESS_KEY):
        with pytest.raises(Rejected):
            verified_by(SignedNote(changed, signed().signatures), [key])


def test_a_cosignature_binds_its_time():
    note = signed()
    mine = note.signatures[1]
    later = (1_790_000_001).to_bytes(8, "big") + mine.data[8:]
    forged = SignedNote(note.text, (type(mine)(mine.name, mine.key_id, later),))
    with pytest.raises(Rejected, match="does not hold"):
        verified_by(forged, [WITNESS_KEY])


def test_one_key_signs_a_note_once():
    note = sign_note("text\n", LOG_KEY, LOG.sign)
    with pytest.raises(Rejected, match="two signatures"):
        verified_by(with_signatures(note, note.signatures), [LOG_KEY])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n\n", b"text\n", b"text\n\n", b"text\n\nno signature\n",
        "text\n\n— name AAAA\n".encode(), "text\n\n— name AAAAAAA\n".encode(),
        "text\n\n— na+me AAAAAAAAAA==\n".encode(), "text\n\n— name AAAAAAB=\n".encode(),
        "text\n\n— name AAAAAAAA".encode(), b"\xff\n\n", b"te\rxt" + GO_NOTE, bytes(65_537),
        b"text\n\n" + "— name AAAAAAAA\n".encode() * 65,
    ],
)  # fmt: skip
def test_what_is_no_signed_note_is_refused(data):
    with pytest.raises(Rejected):
        parse_note(data)


@pytest.mark.parametrize(
    "text",
    [
        "", "origin\n1\n", "origin\n01\nAAAA\n", "origin\n-1\nAAAA\n", "origin\n1\nAAAA\n",
        f"origin\n1\n{'A' * 43}=\nextension\n", f"origin\n1\n{'A' * 42}B=\n",
        f"origin\n9223372036854775808\n{'A' * 43}=\n", f"\n1\n{'A' * 43}=\n",
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(Rejected):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "text", ["", "name", "a b+00+AA==", GO_KEY[:-1], GO_KEY.replace("c74f", "c74e"), "n+00+//8="]
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(Rejected):
        parse_vkey(text)


@pytest.mark.parametrize("origin", ["", "bus/audit", "bus/audit/01", "bus/other/1", "bus/audit/-1"])
def test_what_names_no_tree_is_refused(origin):
    with pytest.raises(Rejected):
        parse_origin(origin)
