"""Go's libraries for transparency logs judge our trees and checkpoints as we do."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.audit.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
)
from shutong_core.audit.signednote import Algorithm, NoteKey, cosign, with_signatures

SOURCE = Path(__file__).parent / "go_proofs"
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 100)
Judge = Callable[[list[dict[str, object]]], list[str]]

TREE = TreeName("5L6g3nShT-eMCtK--X86sw/shutong", "audit", 3)
LOG = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = TREE.key(LOG.public_key().public_bytes_raw())


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Answers of the Go program, one for each question."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    program = tmp_path_factory.mktemp("go") / "proofs"
    environment = {**os.environ, "GOFLAGS": "-mod=readonly"}
    build = ["go", "build", "-o", str(program), "."]
    there = subprocess.run(
        ["go", "mod", "download"],
        cwd=SOURCE,
        env=environment,
        capture_output=True,
        timeout=300,
        check=False,
    )
    if there.returncode:
        pytest.skip("Go's modules cannot be had here")
    subprocess.run(build, cwd=SOURCE, env=environment, check=True, timeout=300)

    def ask(questions: list[dict[str, object]]) -> list[str]:
        lines = "".join(json.dumps(each) + "\n" for each in questions)
        answer = subprocess.run(
            [str(program)], input=lines, capture_output=True, text=True, check=True, timeout=60
        )
        answers = answer.stdout.splitlines()
        assert len(answers) == len(questions)
        return answers

    return ask


def leaves_of(size: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(size)]


def node(level: int, index: int) -> bytes:
    return root_of(
        leaf_hash(each) for each in leaves_of(200)[index << level : (index + 1) << level]
    )


def root(size: int) -> bytes:
    return root_of(map(leaf_hash, leaves_of(size)))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def inclusion(index: int, size: int) -> dict[str, object]:
    return {
        "Kind": "inclusion",
        "Index": index,
        "Size": size,
        "Leaf": text(leaves_of(size)[index]),
        "Root": text(root(size)),
        "Proof": [*map(text, inclusion_proof(index, size, node))],
    }


def consistency(old: int, size: int) -> dict[str, object]:
    return {
        "Kind": "consistency",
        "Old": old,
        "Size": size,
        "OldRoot": text(root(old)),
        "Root": text(root(size)),
        "Proof": [*map(text, consistency_proof(old, size, node))],
    }


def test_go_accepts_every_inclusion_proof(judge: Judge) -> None:
    questions = [inclusion(index, size) for size in SIZES for index in range(size)]
    assert set(judge(questions)) == {"ok"}


def test_go_accepts_every_consistency_proof(judge: Judge) -> None:
    questions = [consistency(old, size) for size in SIZES for old in range(1, size + 1)]
    assert set(judge(questions)) == {"ok"}


def test_go_refuses_proofs_of_something_else(judge: Judge) -> None:
    wrong = [
        inclusion(3, 9) | {"Index": 4},
        inclusion(3, 9) | {"Leaf": text(b"another")},
        inclusion(3, 9) | {"Root": text(root(8))},
        consistency(3, 9) | {"OldRoot": text(root(4))},
        consistency(3, 9) | {"Proof": []},
    ]
    assert all(each.startswith("refused") for each in judge(wrong))


def test_go_opens_a_cosigned_checkpoint_by_the_key_of_its_tree(judge: Judge) -> None:
    witness = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    public = witness.public_key().public_bytes_raw()
    theirs = NoteKey("witness.example/1", public, Algorithm.COSIGNATURE)
    note = Checkpoint(TREE.origin, 100, root(100)).sign(KEY, LOG.sign)
    both = with_signatures(note, [cosign(note.text, theirs, witness.sign, 1_790_000_000)])
    altered = both.encode().decode().replace("\n100\n", "\n101\n")
    elsewhere = TreeName(TREE.cluster, TREE.topic, 4).key(KEY.public)
    questions: list[dict[str, object]] = [
        {"Kind": "note", "Note": note.encode().decode(), "VKey": KEY.vkey},
        {"Kind": "note", "Note": both.encode().decode(), "VKey": KEY.vkey},
        {"Kind": "note", "Note": altered, "VKey": KEY.vkey},
        {"Kind": "note", "Note": both.encode().decode(), "VKey": elsewhere.vkey},
    ]
    answers = judge(questions)
    assert answers[:2] == ["ok", "ok"]
    assert all(each.startswith("refused") for each in answers[2:])
