"""The keyring makes its keys once, keeps them private, and trusts a key only for its name."""

from __future__ import annotations

import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.runtime import keyring
from shutong_core.runtime.keyring import Keyring


def test_directory_and_files_are_private(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring")
    ring.signer("control")
    ring.issue_api_key("wuhua-minzheng")
    assert stat.S_IMODE((tmp_path / "ring").stat().st_mode) == 0o700
    for path in (tmp_path / "ring").rglob("*"):
        if path.is_file() and path.name != ".lock":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_secret_is_the_same_for_ever_and_differs_by_id_and_ring(tmp_path: Path) -> None:
    first = Keyring(tmp_path / "a")
    again = Keyring(tmp_path / "a")
    other = Keyring(tmp_path / "b")
    assert first.secret("grant/g/1") == again.secret("grant/g/1")
    different = {
        first.secret("grant/g/1"),
        first.secret("grant/g/2"),
        first.secret("tokens/1"),
        other.secret("grant/g/1"),
    }
    assert len(different) == 4
    assert all(len(secret) == 32 for secret in different)


def test_master_key_alone_restores_every_secret(tmp_path: Path) -> None:
    first = Keyring(tmp_path / "a")
    (tmp_path / "b").mkdir(mode=0o700)
    copied = tmp_path / "b" / "master.key"
    copied.write_bytes((tmp_path / "a" / "master.key").read_bytes())
    copied.chmod(0o600)
    assert Keyring(tmp_path / "b").secret("tokens/1") == first.secret("tokens/1")


def test_a_signature_verifies_under_its_name_only(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring")
    control, agency = ring.signer("control"), ring.signer("agency/11440000MB2D0000XX")
    signature = control.sign(b"data")
    assert ring.verifier("control")(control.key_id, b"data", signature)
    assert not ring.verifier("control")(control.key_id, b"other", signature)
    assert not ring.verifier("intake")(control.key_id, b"data", signature)
    forged = agency.sign(b"data")
    assert not ring.verifier("control")(agency.key_id, b"data", forged)
    assert not ring.verifier("control")(control.key_id, b"data", forged)
    assert not ring.verifier("control")(control.key_id, b"data", b"short")
    name = "agency/11440000MB2D0000XX"
    assert ring.verifier(name)(agency.key_id, b"data", forged)


def test_a_key_from_elsewhere_is_trusted_only_after_it_was_said(tmp_path: Path) -> None:
    here, there = Keyring(tmp_path / "here"), Keyring(tmp_path / "there")
    signer = there.signer("control")
    verify = here.verifier("control")
    assert not verify(signer.key_id, b"x", signer.sign(b"x"))
    assert here.trust("control", signer.public) == signer.key_id
    assert verify(signer.key_id, b"x", signer.sign(b"x"))
    here.distrust(signer.key_id)
    assert not here.verifier("control")(signer.key_id, b"x", signer.sign(b"x"))
    with pytest.raises(Rejected):
        here.distrust(signer.key_id)


def test_an_api_key_is_known_at_once_and_only_as_a_hash(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring")
    keys = ring.api_keys()
    assert keys.lookup("stk_" + "A" * 43) is None
    key = ring.issue_api_key("wuhua-minzheng")
    assert key.startswith("stk_")
    assert keys.lookup(key) == "wuhua-minzheng"
    assert keys.lookup(key[:-1]) is None
    assert keys.lookup("") is None
    assert key not in (tmp_path / "ring" / "api-keys.json").read_text()
    second = ring.issue_api_key("wuhua-minzheng")
    assert ring.revoke_api_keys("wuhua-minzheng") == 2
    assert keys.lookup(key) is None
    assert keys.lookup(second) is None


def test_a_keyring_open_to_others_is_refused(tmp_path: Path) -> None:
    Keyring(tmp_path / "ring")
    (tmp_path / "ring" / "master.key").chmod(0o644)
    with pytest.raises(Fatal, match="chmod"):
        Keyring(tmp_path / "ring")
    (tmp_path / "ring" / "master.key").chmod(0o600)
    (tmp_path / "ring").chmod(0o755)
    with pytest.raises(Fatal, match="chmod"):
        Keyring(tmp_path / "ring")


def test_a_lost_master_key_is_never_silently_replaced(tmp_path: Path) -> None:
    Keyring(tmp_path / "ring").signer("control")
    (tmp_path / "ring" / "master.key").unlink()
    with pytest.raises(Fatal, match="backup"):
        Keyring(tmp_path / "ring")


@pytest.mark.parametrize("name", ["master.key", "signing/control.pem", "trust.json"])
def test_a_damaged_file_is_fatal(tmp_path: Path, name: str) -> None:
    ring = Keyring(tmp_path / "ring")
    ring.signer("control")
    (tmp_path / "ring" / name).write_bytes(b"\x00damaged")

    def use_everything() -> None:
        again = Keyring(tmp_path / "ring")
        again.signer("control")
        again.trusted()

    with pytest.raises(Fatal):
        use_everything()


@pytest.mark.parametrize("name", ["", "../x", "Control", "a/b/c", "a b", "agency/"])
def test_names_of_signing_keys_are_strict(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Keyring(tmp_path / "ring").signer(name)


def test_processes_that_start_together_share_one_ring(tmp_path: Path) -> None:
    code = textwrap.dedent(f"""
        import hashlib
        from pathlib import Path
        from shutong_core.runtime.keyring import Keyring
        ring = Keyring(Path({str(tmp_path / "ring")!r}))
        print("@", hashlib.sha256(ring.secret("tokens/1")).hexdigest(),
              ring.signer("control").key_id, len(ring.trusted()))
    """)
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = set()
    for process in running:
        out = process.communicate(timeout=60)[0]
        said |= {line for line in out.splitlines() if line.startswith("@")}
        assert process.returncode == 0
    assert len({line.rsplit(" ", 1)[0] for line in said}) == 1
    assert len(Keyring(tmp_path / "ring").trusted()) == 1


@pytest.mark.parametrize("crash_at", [1, 2])
def test_a_crash_while_a_signing_key_is_made_leaves_none_that_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    Keyring(tmp_path / "ring")
    write, writes = keyring.write_durably, 0

    def crashing(path: Path, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == crash_at:
            raise InterruptedError
        write(path, data)

    monkeypatch.setattr(keyring, "write_durably", crashing)
    with pytest.raises(InterruptedError):
        Keyring(tmp_path / "ring").signer("control")
    after = Keyring(tmp_path / "ring")
    signer = after.signer("control")
    assert after.verifier("control")(signer.key_id, b"x", signer.sign(b"x"))


def test_a_key_that_was_distrusted_is_not_trusted_again_by_loading_it(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring")
    key_id = ring.signer("control").key_id
    ring.distrust(key_id)
    assert Keyring(tmp_path / "ring").signer("control").key_id == key_id
    assert key_id not in ring.trusted()


def test_the_watch_sees_keys_of_its_name_come_and_go(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring")
    watch = Keyring(tmp_path / "ring").trust_watch("control")
    assert watch() == frozenset()
    ring.signer("intake")
    assert watch() == frozenset()
    key_id = ring.signer("control").key_id
    assert watch() == {key_id}
    ring.distrust(key_id)
    assert watch() == frozenset()
