"""Rotation of the auditor's key: a note that the old key and the new one both signed.

Who trusts the old key comes to trust the new one by it, and by nothing less: a record with one of
the two signatures, or with one that does not hold, changes nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from shutong_core.audit.signednote import (
    NoteKey,
    Sign,
    SignedNote,
    parse_note,
    sign_note,
    verified_by,
    with_signatures,
)
from shutong_core.domain.errors import Rejected

FORMAT = "shutong-rotation-v1"
#: Name of the key that signs checkpoints and certificates.
SIGNER = "auditor"


def rotation_key(cluster: str) -> bytes:
    """Kafka key of the bus's rotation records in topic `checkpoints`."""
    return f"{cluster}/rotation".encode()


def encode_rotation(
    cluster: str, old: tuple[bytes, Sign], new: tuple[bytes, Sign], at_s: int
) -> bytes:
    """The record: from public key `old` to `new` (32 bytes each, with what signs by it)."""
    text = "\n".join((FORMAT, cluster, _text(old[0]), _text(new[0]), str(at_s))) + "\n"
    first = sign_note(text, _named(cluster, old[0]), old[1])
    second = sign_note(text, _named(cluster, new[0]), new[1])
    return with_signatures(first, second.signatures).encode()


def parse_rotation(data: bytes, cluster: str) -> tuple[bytes, bytes]:
    """(old, new) public keys of a record that both signed. Raises Rejected."""
    note = parse_note(data)
    lines = note.text.split("\n")
    if len(lines) != 6 or lines[0] != FORMAT or lines[1] != cluster or lines[5]:
        raise Rejected("rotation: not a record of this bus")
    old, new = _key(lines[2]), _key(lines[3])
    if old == new or not lines[4].isdigit():
        raise Rejected("rotation: two keys and a time are needed")
    _require_both(note, cluster, old, new)
    return old, new


def follow_rotations(
    trusted: Sequence[bytes], records: Iterable[bytes], cluster: str
) -> tuple[bytes, ...]:
    """`trusted` with every key that a record, in their order, leads to from one of them."""
    found = list(trusted)
    for record in records:
        try:
            old, new = parse_rotation(record, cluster)
        except Rejected:
            continue
        if old in found and new not in found:
            found.append(new)
    return tuple(found)


def _require_both(note: SignedNote, cluster: str, old: bytes, new: bytes) -> None:
    keys = [_named(cluster, old), _named(cluster, new)]
    if len(verified_by(note, keys)) != len(keys):
        raise Rejected("rotation: both the old and the new key must have signed it")


def _named(cluster: str, public: bytes) -> NoteKey:
    return NoteKey(f"{cluster}/{SIGNER}", public)


def _text(public: bytes) -> str:
    return base64.b64encode(public).decode()


def _key(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        found = b""
    if len(found) != 32 or _text(found) != text:
        raise Rejected("rotation: a key is not 32 bytes in base64")
    return found
