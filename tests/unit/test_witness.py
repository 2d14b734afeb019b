"""The witness: cosigns what provably goes on from what it knew, refuses every other thing."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.testclient import TestClient

from audit_samples import filled
from shutong_auditor.cosigning import (
    WitnessClient,
    WitnessDisagrees,
    parse_witness,
)
from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.audit.merkle import consistency_proof, leaf_hash, root_of, tree_root
from shutong_core.audit.signednote import (
    Algorithm,
    NoteKey,
    SignedNote,
    parse_note,
    parse_signature,
    verified_by,
    with_signatures,
)
from shutong_core.audit.trust import TrustBundle
from shutong_core.audit.witnessing import REQUEST_BYTES_MAX, AddCheckpoint
from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.runtime.metrics import Metrics
from shutong_witness.app import Witness, make_app
from shutong_witness.memory import WitnessMemory

CLUSTER = "abc/shutong"
TREE = TreeName(CLUSTER, "audit", 0)


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(filled(name, 32))


def public(name: str) -> bytes:
    return private(name).public_key().public_bytes_raw()


WITNESS_KEY = NoteKey("audit-office/w1", public("witness"), Algorithm.COSIGNATURE)
TRUST = TrustBundle(CLUSTER, (public("auditor"),))


@dataclass
class Tree:
    """Leaves at hand, as an auditor would have them."""

    leaves: list[bytes] = field(default_factory=list)
    tree: TreeName = TREE

    def grow(self, to: int, text: str = "leaf") -> Tree:
        self.leaves += [leaf_hash(filled(f"{text} {n}", 9)) for n in range(len(self.leaves), to)]
        return self

    def node(self, level: int, index: int) -> bytes:
        return root_of(self.leaves[index << level : (index + 1) << level])

    def checkpoint(self) -> Checkpoint:
        size = len(self.leaves)
        return Checkpoint(self.tree.origin, size, tree_root(size, self.node))

    def note(self, by: str = "auditor") -> SignedNote:
        return self.checkpoint().sign(self.tree.key(public(by)), private(by).sign)

    def proof(self, old: int) -> Sequence[bytes]:
        return consistency_proof(old, len(self.leaves), self.node)

    def request(self, old: int) -> bytes:
        return AddCheckpoint(old, tuple(self.proof(old)), self.note()).encode()


def witness(directory: Path) -> Witness:
    memory = WitnessMemory(directory)
    return Witness(WITNESS_KEY, private("witness").sign, memory, TRUST.keys, lambda: 1_800_000_000)


def client(directory: Path) -> TestClient:
    return TestClient(make_app(witness(directory), Metrics("witness")))


def post(client: TestClient, body: bytes) -> httpx.Response:
    return client.post("/add-checkpoint", content=body)


def test_what_goes_on_from_the_last_checkpoint_is_cosigned(tmp_path: Path) -> None:
    http, tree, known = client(tmp_path / "w"), Tree(), 0
    for size in (0, 1, 5, 8, 300, 300):
        tree.grow(size)
        answer = post(http, tree.request(known))
        assert answer.status_code == 200, answer.text
        note = with_signatures(tree.note(), [parse_signature(answer.text.rstrip("\n"))])
        assert verified_by(note, [WITNESS_KEY]) == {WITNESS_KEY: 1_800_000_000}
        known = size
    kept = http.get("/checkpoint", params={"origin": TREE.origin})
    assert parse_note(kept.content).text == tree.note().text
    assert http.get("/vkey").text == f"{WITNESS_KEY.vkey}\n"


def test_a_witness_remembers_after_a_restart_and_refuses_rollback_and_fork(tmp_path: Path) -> None:
    tree = Tree().grow(9)
    assert post(client(tmp_path / "w"), tree.request(0)).status_code == 200
    http = client(tmp_path / "w")
    rollback = post(http, Tree().grow(5).request(0))
    assert (rollback.status_code, rollback.text) == (409, "9\n")
    assert rollback.headers["content-type"].startswith("text/x.tlog.size")
    assert post(http, Tree().grow(12).request(5)).status_code == 409
    assert post(http, Tree().grow(5).request(5)).status_code == 409
    forked = Tree().grow(9, "other").grow(12)
    assert post(http, forked.request(9)).status_code == 422
    assert post(http, Tree().grow(9, "other").request(9)).status_code == 409
    assert post(http, tree.grow(12).request(9)).status_code == 200


def test_what_is_not_signed_by_a_trusted_auditor_is_refused(tmp_path: Path) -> None:
    http, tree = client(tmp_path / "w"), Tree().grow(3)
    strange = AddCheckpoint(0, (), tree.note("stranger"))
    assert post(http, strange.encode()).status_code == 403
    text = tree.note().encode().replace(b"\n3\n", b"\n4\n")
    assert post(http, b"old 0\n\n" + text).status_code == 403
    other = Tree(tree=TreeName("other/shutong", "audit", 0)).grow(3)
    assert post(http, other.request(0)).status_code == 404
    assert post(http, Tree().grow(3).request(0).replace(b"old 0", b"old 7")).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b"old\n\n",
        b"old -1\n\nx",
        b"old 00\n\nx",
        b"old 99999999999999999999\n\nx",
        b"old 0\nnot base64\n\nx",
        b"old 0\n" + base64.b64encode(bytes(31)) + b"\n\nx",
        b"old 0\n" + (base64.b64encode(bytes(32)) + b"\n") * 64 + b"\nx",
        b"old 0\n\n\xff\xfe",
        b"x" * (REQUEST_BYTES_MAX + 1),
        Tree().grow(3).request(0)[:-5],
    ],
)
def test_garbage_gets_a_clear_error_and_the_next_request_is_answered(
    tmp_path: Path, body: bytes
) -> None:
    http = client(tmp_path / "w")
    answer = post(http, body)
    assert answer.status_code in (400, 403)
    assert answer.text.strip()
    assert post(http, Tree().grow(3).request(0)).status_code == 200


def test_nothing_is_cosigned_that_is_not_on_disk_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, tree = witness(tmp_path / "w"), Tree().grow(3)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutong_witness.memory.write_durably", full_disk)
    with pytest.raises(OSError, match="No space"):
        held.add(AddCheckpoint(0, (), tree.note()))
    assert held.memory.known(TREE.origin) is None


def test_a_damaged_memory_is_not_taken_for_none(tmp_path: Path) -> None:
    post(client(tmp_path / "w"), Tree().grow(3).request(0))
    (path,) = (tmp_path / "w").glob("*.note")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(Fatal, match="without memory"):
        WitnessMemory(tmp_path / "w")


async def cosign(http: httpx.AsyncClient, tree: Tree, client: WitnessClient | None = None) -> bool:
    client = client or WitnessClient(parse_witness(f"{WITNESS_KEY.vkey} http://witness"), http)
    found = await client.cosign(tree.checkpoint(), tree.note(), tree.proof)
    return bool(verified_by(with_signatures(tree.note(), [found]), [WITNESS_KEY]))


def test_the_auditor_learns_what_the_witness_knows_and_what_its_refusal_means(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(make_app(witness(tmp_path / "w"), Metrics("witness")))
        async with httpx.AsyncClient(transport=transport) as http:
            assert await cosign(http, Tree().grow(5))
            assert await cosign(http, Tree().grow(9)), "asks for the size known, proves from it"
            with pytest.raises(WitnessDisagrees, match="of 9 leaves, here are 7"):
                await cosign(http, Tree().grow(7))
            with pytest.raises(WitnessDisagrees, match="another tree of 9"):
                await cosign(http, Tree().grow(9, "other"))
            with pytest.raises(WitnessDisagrees, match="no beginning"):
                await cosign(http, Tree().grow(9, "other").grow(20))
            assert await cosign(http, Tree().grow(9))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "text"),
    [(200, ""), (200, "— x AAAA\n"), (200, "x" * 20_000), (409, "many"), (500, ""), (404, "no")],
)
def test_a_witness_that_answers_nonsense_is_asked_again_later(status: int, text: str) -> None:
    async def run() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(status, text=text))
        async with httpx.AsyncClient(transport=transport) as http:
            with pytest.raises(Retryable):
                await cosign(http, Tree().grow(5))

    asyncio.run(run())


def test_a_cosignature_of_another_key_or_text_does_not_count(tmp_path: Path) -> None:
    lines = []
    for key, by, tree in (("w", "stranger", Tree().grow(5)), ("w", "witness", Tree().grow(6))):
        made = witness(tmp_path / f"{key}{by}")
        made = Witness(WITNESS_KEY, private(by).sign, made.memory, TRUST.keys)
        lines.append(made.add(AddCheckpoint(0, (), tree.note())))

    async def run(line: str) -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, text=line))
        async with httpx.AsyncClient(transport=transport) as http:
            with pytest.raises(Retryable, match="does not hold"):
                await cosign(http, Tree().grow(5))

    for line in lines:
        asyncio.run(run(line))


@pytest.mark.parametrize(
    "text",
    ["", "http://x", f"{TREE.key(public('auditor')).vkey} http://x", f"{WITNESS_KEY.vkey} ftp://x"],
)
def test_a_witness_that_is_set_wrongly_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(Fatal, match="SHUTONG_AUDITOR_WITNESSES"):
        parse_witness(text)
