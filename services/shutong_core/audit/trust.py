"""The trust bundle: which keys of a bus's auditor and witnesses somebody decided to believe.

It reaches its user by a way that is not the bus; whatever a bus shows is held against it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shutong_core.audit.checkpoint import Checkpoint, TreeName, parse_checkpoint
from shutong_core.audit.rotation import follow_rotations
from shutong_core.audit.signednote import Algorithm, NoteKey, SignedNote, parse_vkey, verified_by
from shutong_core.domain.errors import Rejected

TRUST_BYTES_MAX = 4 * 1024 * 1024
FORMAT = "shutong-trust-v1"
_KEYS_MAX = 64
_AGENCIES_MAX = 20_000
_FIELDS = ("format", "cluster", "auditor", "witnesses", "witnesses_needed", "agencies")


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """Keys of one bus: the auditor's (32 bytes each), its witnesses' and how many must cosign.

    `agencies`: organisation → public keys that may sign its receipts.
    """

    cluster: str
    auditor: tuple[bytes, ...]
    witnesses: tuple[NoteKey, ...] = ()
    witnesses_needed: int = 0
    agencies: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)

    def keys(self, tree: TreeName) -> list[NoteKey]:
        """The auditor's keys under the tree's name; none for a tree of another bus."""
        return [tree.key(each) for each in self.auditor] if tree.cluster == self.cluster else []

    def rotated(self, records: Iterable[bytes]) -> TrustBundle:
        """The bundle with the auditor's keys that rotation records lead to."""
        return replace(self, auditor=follow_rotations(self.auditor, records, self.cluster))

    def accept(self, note: SignedNote, tree: TreeName) -> Checkpoint:
        """The checkpoint of `tree` in `note`. Raises Rejected unless it is signed as needed."""
        checkpoint = parse_checkpoint(note.text)
        if tree.cluster != self.cluster or checkpoint.origin != tree.origin:
            raise Rejected(f"checkpoint: it is of {checkpoint.origin}, not of {tree.origin}")
        if not verified_by(note, self.keys(tree)):
            raise Rejected("checkpoint: no auditor's key of the trust bundle signed it")
        cosigned = len(verified_by(note, self.witnesses))
        if cosigned < self.witnesses_needed:
            raise Rejected(
                f"checkpoint: {cosigned} witnesses cosigned it, {self.witnesses_needed} are needed"
            )
        return checkpoint

    def agency_signed(self, key_id: str, message: bytes, signature: bytes) -> bool:
        """Whether a trusted key with that id, `agency/<organisation>/<16 hex>`, signed."""
        name, _, mark = key_id.rpartition("/")
        for public in self.agencies.get(name.removeprefix("agency/"), ()):
            if name.startswith("agency/") and hashlib.sha256(public).hexdigest()[:16] == mark:
                try:
                    Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
                except (InvalidSignature, ValueError):
                    return False
                return True
        return False

    def encode(self) -> bytes:
        """The bundle as a file: JSON, one field a line."""
        table = {
            "format": FORMAT,
            "cluster": self.cluster,
            "auditor": [base64.b64encode(each).decode() for each in self.auditor],
            "witnesses": [each.vkey for each in self.witnesses],
            "witnesses_needed": self.witnesses_needed,
            "agencies": {
                name: [base64.b64encode(each).decode() for each in keys]
                for name, keys in sorted(self.agencies.items())
            },
        }
        return json.dumps(table, indent=1, ensure_ascii=False).encode() + b"\n"


def parse_trust(data: bytes) -> TrustBundle:
    """The bundle in `data`. Raises Rejected that names the field which is wrong."""
    if len(data) > TRUST_BYTES_MAX:
        raise Rejected(f"trust bundle of {len(data)} bytes, limit {TRUST_BYTES_MAX}")
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        raise Rejected("trust bundle: not JSON") from None
    if not isinstance(table, dict) or set(table) != set(_FIELDS) or table["format"] != FORMAT:
        raise Rejected(f"trust bundle: {FORMAT} has exactly the fields {', '.join(_FIELDS)}")
    cluster, needed = table["cluster"], table["witnesses_needed"]
    if not isinstance(cluster, str) or not 0 < len(cluster) <= 255:
        raise Rejected("trust bundle: cluster is no name of a bus")
    auditor = tuple(map(_public, _texts(table, "auditor")))
    witnesses = tuple(map(_witness, _texts(table, "witnesses")))
    if not auditor or len(set(auditor)) != len(auditor):
        raise Rejected("trust bundle: auditor needs one key or more, each once")
    if len({key.public for key in witnesses}) != len(witnesses):
        raise Rejected("trust bundle: a witness's key is named twice")
    if type(needed) is not int or not 0 <= needed <= len(witnesses):
        raise Rejected("trust bundle: witnesses_needed is more than there are witnesses")
    return TrustBundle(cluster, auditor, witnesses, needed, _agencies(table["agencies"]))


def _agencies(value: object) -> dict[str, tuple[bytes, ...]]:
    if not isinstance(value, dict) or len(value) > _AGENCIES_MAX:
        raise Rejected(f"trust bundle: agencies has at most {_AGENCIES_MAX} organisations")
    return {name: tuple(map(_public, _texts(value, name))) for name in value}


def _texts(table: dict[str, object], name: str) -> list[str]:
    found = table[name]
    if not isinstance(found, list) or len(found) > _KEYS_MAX:
        raise Rejected(f"trust bundle: {name} is a list of at most {_KEYS_MAX} keys")
    if not all(isinstance(each, str) for each in found):
        raise Rejected(f"trust bundle: {name} holds texts")
    return found


def _public(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        found = b""
    if len(found) != 32 or base64.b64encode(found).decode() != text:
        raise Rejected("trust bundle: a public key is not 32 bytes in base64")
    return found


def _witness(text: str) -> NoteKey:
    key = parse_vkey(text)
    if key.algorithm is not Algorithm.COSIGNATURE:
        raise Rejected("trust bundle: a witness's key does not cosign (algorithm 4)")
    return key
