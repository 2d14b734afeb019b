"""C2SP signed notes: a text with the signatures of keys known by name.

Ed25519 signs the text itself (algorithm 0x01); a cosignature/v1 (0x04, tlog-cosignature) signs the
text with the time at which the witness saw it. A signature by an unknown key is passed over, one
by a known key that does not hold is an error.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, unique

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shutong_core.domain.errors import Rejected

NOTE_BYTES_MAX = 64 * 1024
SIGNATURES_MAX = 64
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_NAME = re.compile(r"[^\s+\u0000-\u0020]{1,255}")
_LINE = re.compile("— ([^\\s+]{1,255}) ([A-Za-z0-9+/]+={0,2})")

#: Ed25519 signature (64 bytes) of the message.
Sign = Callable[[bytes], bytes]


@unique
class Algorithm(IntEnum):
    """What a key signs with; the number is C2SP's."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key (32 bytes) under the name it signs for."""

    name: str
    public: bytes
    algorithm: Algorithm = Algorithm.ED25519

    def __post_init__(self) -> None:
        """Raises Rejected for what cannot name a key or be one."""
        if not _NAME.fullmatch(self.name) or len(self.public) != _KEY_BYTES:
            raise Rejected("note key: a name without spaces or plus, and 32 bytes, are needed")

    @property
    def id(self) -> bytes:
        """First 4 bytes of SHA-256(name ‖ 0x0A ‖ algorithm ‖ public key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed).digest()[:4]

    @property
    def vkey(self) -> str:
        """`<name>+<8 hex digits>+<base64>`: how tools of the field take a key."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(self._typed).decode()}"

    @property
    def _typed(self) -> bytes:
        return bytes((self.algorithm,)) + self.public


@dataclass(frozen=True, slots=True)
class Signature:
    """One line under a note: whose, by which key; `data` without the key id."""

    name: str
    key_id: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text (with its last newline) and the signatures under it; none of them checked yet."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note as stored and sent."""
        lines = "".join(map(_line, self.signatures))
        return f"{self.text}\n{lines}".encode()


def parse_vkey(text: str) -> NoteKey:
    """The key in `<name>+<id>+<base64>`. Raises Rejected for anything else."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    typed = _base64(encoded, "note key")
    try:
        key = NoteKey(name, typed[1:], Algorithm(typed[0]))
    except (ValueError, IndexError):
        raise Rejected("note key: unknown algorithm") from None
    if key_id != key.id.hex():
        raise Rejected("note key: its id is not that of its name and key")
    return key


def sign_note(text: str, key: NoteKey, sign: Sign) -> SignedNote:
    """`text` signed by an Ed25519 key."""
    return SignedNote(text, (Signature(key.name, key.id, sign(text.encode())),))


def cosign(text: str, key: NoteKey, sign: Sign, at_s: int) -> Signature:
    """A witness's signature under `text`, seen at `at_s` (seconds since 1970 UTC)."""
    return Signature(key.name, key.id, at_s.to_bytes(8, "big") + sign(_cosigned(text, at_s)))


def parse_note(data: bytes) -> SignedNote:
    """The note in `data`. Raises Rejected if it is no signed note in its one form."""
    if len(data) > NOTE_BYTES_MAX:
        raise Rejected(f"signed note of {len(data)} bytes, limit {NOTE_BYTES_MAX}")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise Rejected("signed note: not UTF-8") from None
    text, separator, rest = whole.rpartition("\n\n")
    if not separator or not text or not rest.endswith("\n"):
        raise Rejected("signed note: a blank line and signatures are needed")
    if any(ord(each) < 0x20 and each != "\n" for each in whole):
        raise Rejected("signed note: control characters")
    lines = rest[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise Rejected(f"signed note: more than {SIGNATURES_MAX} signatures")
    return SignedNote(text + "\n", tuple(map(parse_signature, lines)))


def parse_signature(line: str) -> Signature:
    """The signature in a line without its newline. Raises Rejected for anything else."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise Rejected("signed note: a signature line is malformed")
    data = _base64(found[2], "signed note")
    if len(data) < 5:
        raise Rejected("signed note: a signature is too short")
    return Signature(found[1], data[:4], data[4:])


def signature_line(signature: Signature) -> str:
    """The signature as a line with its newline."""
    return _line(signature)


def verified_by(note: SignedNote, keys: Iterable[NoteKey]) -> dict[NoteKey, int]:
    """The keys of `keys` that signed the note → time in seconds for a cosignature, else 0.

    Raises Rejected if a signature that claims one of the keys does not hold, or if one key signed
    twice.
    """
    known = {(key.name, key.id): key for key in keys}
    found: dict[NoteKey, int] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if key in found:
            raise Rejected(f"signed note: two signatures by {key.name}")
        found[key] = _verify(note.text, key, signature.data)
    return found


def with_signatures(note: SignedNote, more: Sequence[Signature]) -> SignedNote:
    """The note with signatures added below."""
    return SignedNote(note.text, (*note.signatures, *more))


def _verify(text: str, key: NoteKey, data: bytes) -> int:
    at_s, message = 0, text.encode()
    if key.algorithm is Algorithm.COSIGNATURE:
        at_s = int.from_bytes(data[:8], "big")
        message, data = _cosigned(text, at_s), data[8:]
    if len(data) != _SIGNATURE_BYTES:
        raise Rejected(f"signed note: the signature by {key.name} has the wrong length")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(data, message)
    except (InvalidSignature, ValueError):
        raise Rejected(f"signed note: the signature by {key.name} does not hold") from None
    return at_s


def _cosigned(text: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()


def _line(signature: Signature) -> str:
    encoded = base64.b64encode(signature.key_id + signature.data).decode()
    return f"— {signature.name} {encoded}\n"


def _base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Rejected(f"{what}: not base64") from None
    # Base64 has spare bits at the end: only their zero form counts.
    if base64.b64encode(data).decode() != text:
        raise Rejected(f"{what}: not base64 in its one form")
    return data
