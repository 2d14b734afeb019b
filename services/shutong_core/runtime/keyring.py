"""The keyring: secrets, signing keys, trusted public keys and API keys in one private directory.

Layout: `master.key` (32 bytes, from which every HMAC and AES key is derived by its id, so a backup
of one file restores them all), `signing/*.pem` (Ed25519), `trust.json` (public keys by key id),
`api-keys.json` (SHA-256 of each API key -> system). Everything is made at first use under one file
lock, so several processes may start at once. Nothing of it is ever logged but key ids.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.runtime.durablefile import write_durably

SECRET_BYTES = 32
API_KEY_PREFIX = "stk_"
_API_KEY = re.compile(r"stk_[A-Za-z0-9_-]{43}")
#: `control`, `intake`, `agency/<uscc>`, …
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}(/[A-Za-z0-9-]{1,48})?")
_KEY_ID_CHARS_MAX = 120

Verify = Callable[[str, bytes, bytes], bool]
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Signer:
    """An Ed25519 private key under its id `<name>/<16 hex of the public key's SHA-256>`."""

    key_id: str
    _key: Ed25519PrivateKey

    def sign(self, data: bytes) -> bytes:
        """The signature over `data` (64 bytes, RFC 8032)."""
        return self._key.sign(data)

    @property
    def public(self) -> bytes:
        """The public key (32 bytes)."""
        return _raw(self._key.public_key())

    def pem(self) -> bytes:
        """The private key as its file holds it."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


class ApiKeys:
    """Looks API keys up; sees newly issued and revoked keys at the next call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._systems: dict[str, str] = {}

    def lookup(self, key: str) -> str | None:
        """The system id that holds `key`; None if nobody does."""
        if not _API_KEY.fullmatch(key):
            return None
        self._refresh()
        # The table is by hash of 256 random bits: time of the search tells nothing of a key.
        return self._systems.get(hashlib.sha256(key.encode()).hexdigest())

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._seen, self._systems = None, {}
            return
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._systems, self._seen = _read_texts(self._path), seen


class Keyring:
    """One keyring directory. Raises Fatal if others may read it or a file is damaged."""

    def __init__(self, directory: Path) -> None:
        """Opens the directory, makes it at first run."""
        self.directory = directory
        self._secrets: dict[str, bytes] = {}
        self._signers: dict[str, Signer] = {}
        self._prepare()
        self._master = self._load_master()

    def secret(self, key_id: str) -> bytes:
        """The 32-byte key of that id, e.g. `grant/<id>/<epoch>`, `tokens/1`; same id, same key."""
        found = self._secrets.get(key_id)
        if found is None:
            if not 0 < len(key_id) <= _KEY_ID_CHARS_MAX:
                raise ValueError("a key id has 1-120 characters")
            info = b"shutong-secret-v1\0" + key_id.encode()
            found = HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=info).derive(self._master)
            self._secrets[key_id] = found
        return found

    def signer(self, name: str) -> Signer:
        """The signing key of that name; made and trusted at first use."""
        found = self._signers.get(name)
        if found is None:
            found = self._signers[name] = self._load_signer(name)
        return found

    def next_signer(self, name: str) -> Signer:
        """A new signing key for `name`, trusted beside the old one, not stored yet."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a name of a signing key: {name[:60]!r}")
        private = Ed25519PrivateKey.generate()
        with self._locked():
            return Signer(self._add_trust(name, _raw(private.public_key())), private)

    def replace_signer(self, name: str, signer: Signer) -> None:
        """Make `signer` the key of `name`; the old private key is gone, its public key trusted."""
        path = self.directory / "signing" / f"{name.replace('/', '+')}.pem"
        with self._locked():
            write_durably(path, signer.pem())
        self._signers[name] = signer
        _log.warning("signing key replaced: back it up", key_id=signer.key_id, path=str(path))

    def trust(self, name: str, public: bytes) -> str:
        """Trust a public key (32 bytes) for `name`; returns its key id."""
        Ed25519PublicKey.from_public_bytes(public)
        with self._locked():
            return self._add_trust(name, public)

    def distrust(self, key_id: str) -> None:
        """Stop trusting a key. Raises Rejected if it is not trusted."""
        with self._locked():
            table = _read_texts(self.directory / "trust.json")
            if table.pop(key_id, None) is None:
                raise Rejected(f"no trusted key has the id {key_id!r}")
            write_durably(self.directory / "trust.json", _dump(table))
        _log.info("public key no longer trusted", key_id=key_id)

    def trusted(self) -> dict[str, bytes]:
        """Trusted public keys (32 bytes each) by key id."""
        table = _read_texts(self.directory / "trust.json")
        return {key_id: base64.b64decode(text) for key_id, text in table.items()}

    def publics(self, name: str) -> Callable[[], tuple[bytes, ...]]:
        """A call that gives the public keys (32 bytes each) trusted for `name` now."""
        ids = self.trust_watch(name)
        seen: frozenset[str] = frozenset()
        found: tuple[bytes, ...] = ()

        def now() -> tuple[bytes, ...]:
            nonlocal seen, found
            if (trusted := ids()) != seen:
                table = self.trusted()
                seen, found = trusted, tuple(table[each] for each in trusted if each in table)
            return found

        return now

    def trust_watch(self, name: str) -> Callable[[], frozenset[str]]:
        """A call that gives the key ids trusted for `name` now; cheap enough to ask often."""
        path = self.directory / "trust.json"
        seen: tuple[int, int, int] | None = None
        found: frozenset[str] = frozenset()

        def now() -> frozenset[str]:
            nonlocal seen, found
            try:
                stated = path.stat()
            except FileNotFoundError:
                return frozenset()
            mark = (stated.st_ino, stated.st_mtime_ns, stated.st_size)
            if mark != seen:
                ids = (key_id for key_id in self.trusted() if key_id.rpartition("/")[0] == name)
                seen, found = mark, frozenset(ids)
            return found

        return now

    def verifier(self, name: str) -> Verify:
        """(key id, data, signature) -> True only for a trusted key *of that name*.

        A key that may sign receipts can thus never sign a list. The trust file is read again for
        a key id not seen before, so a rotation needs no restart; a revocation does.
        """
        known: dict[str, Ed25519PublicKey] = {}

        def verify(key_id: str, data: bytes, signature: bytes) -> bool:
            if key_id.rpartition("/")[0] != name:
                return False
            if key_id not in known:
                public = self.trusted().get(key_id)
                if public is None or key_id_of(name, public) != key_id:
                    return False
                known[key_id] = Ed25519PublicKey.from_public_bytes(public)
            try:
                known[key_id].verify(signature, data)
            except InvalidSignature:
                return False
            return True

        return verify

    def issue_api_key(self, system: str) -> str:
        """A new API key for `system`. It is shown only now: the keyring keeps its hash."""
        key = API_KEY_PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()[:43]
        with self._locked():
            table = _read_texts(self.directory / "api-keys.json")
            table[hashlib.sha256(key.encode()).hexdigest()] = system
            write_durably(self.directory / "api-keys.json", _dump(table))
        _log.info("API key issued", system=system)
        return key

    def revoke_api_keys(self, system: str) -> int:
        """Take all keys of `system` away; returns how many there were."""
        with self._locked():
            table = _read_texts(self.directory / "api-keys.json")
            kept = {digest: held for digest, held in table.items() if held != system}
            write_durably(self.directory / "api-keys.json", _dump(kept))
        _log.info("API keys revoked", system=system, count=len(table) - len(kept))
        return len(table) - len(kept)

    def api_keys(self) -> ApiKeys:
        """The look-up for services."""
        return ApiKeys(self.directory / "api-keys.json")

    def _prepare(self) -> None:
        try:
            self.directory.mkdir(parents=True, mode=0o700)
            # Aloud, because a keyring made by accident means keys nobody backs up.
            _log.warning("keyring made: back it up", path=str(self.directory))
        except FileExistsError:
            _refuse_open_to_others(self.directory)
        (self.directory / "signing").mkdir(mode=0o700, exist_ok=True)

    def _load_master(self) -> bytes:
        path = self.directory / "master.key"
        with self._locked():
            if not path.exists():
                if any((self.directory / "signing").iterdir()):
                    # A new one would silently change every delivered key and token.
                    raise Fatal(
                        f"密钥环 {self.directory} 缺少 master.key，请从备份恢复。"
                        f" The keyring {self.directory} lacks master.key: restore it from backup."
                    )
                write_durably(path, secrets.token_bytes(SECRET_BYTES))
                _log.warning("master key made: back it up", path=str(path))
        _refuse_open_to_others(path)
        master = path.read_bytes()
        if len(master) != SECRET_BYTES:
            raise Fatal(f"{path} 已损坏，请从备份恢复。 {path} is damaged: restore it from backup.")
        return master

    def _load_signer(self, name: str) -> Signer:
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a name of a signing key: {name[:60]!r}")
        path = self.directory / "signing" / f"{name.replace('/', '+')}.pem"
        made = False
        with self._locked():
            if not path.exists():
                private = Ed25519PrivateKey.generate()
                text = Signer("", private).pem()
                # Trusted first: after a crash in between, a key remains that signs nothing. The
                # other way round one would sign what nobody believes.
                self._add_trust(name, _raw(private.public_key()))
                write_durably(path, text)
                made = True
        _refuse_open_to_others(path)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise Fatal(f"{path} 不是 Ed25519 私钥。 {path} is no Ed25519 private key.")
        signer = Signer(key_id_of(name, _raw(key.public_key())), key)
        if made:
            _log.warning("signing key made: back it up", key_id=signer.key_id, path=str(path))
        elif signer.key_id not in self.trusted():
            # Never mended in silence: somebody may have taken the trust away on purpose.
            _log.error("signing key is not trusted here", key_id=signer.key_id, path=str(path))
        return signer

    def _add_trust(self, name: str, public: bytes) -> str:
        """Under the lock."""
        key_id = key_id_of(name, public)
        table = _read_texts(self.directory / "trust.json")
        table[key_id] = base64.b64encode(public).decode()
        write_durably(self.directory / "trust.json", _dump(table))
        _log.info("public key trusted", key_id=key_id)
        return key_id

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def key_id_of(name: str, public: bytes) -> str:
    """The id under which a public key (32 bytes) is trusted for `name`."""
    return f"{name}/{hashlib.sha256(public).hexdigest()[:16]}"


def _raw(public: Ed25519PublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _refuse_open_to_others(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise Fatal(
            f"{path} 可被其他用户访问，请执行 chmod go-rwx {path}。"
            f" {path} is open to other users: run chmod go-rwx {path}."
        )


def _read_texts(path: Path) -> dict[str, str]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise Fatal(f"{path} 已损坏，请从备份恢复。 {path} is damaged: restore it from backup.")
    return found


def _dump(table: dict[str, str]) -> bytes:
    return json.dumps(table, indent=1, sort_keys=True).encode() + b"\n"
