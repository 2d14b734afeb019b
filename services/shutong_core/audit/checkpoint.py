"""C2SP checkpoints: the signed size and root of one tree of the audit.

Each lane of topic `audit` and each partition of topic `access` has a tree of its own, whose name
(origin) is that of the key that signs it.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from shutong_core.audit.merkle import HASH_BYTES
from shutong_core.audit.signednote import NoteKey, Sign, SignedNote, sign_note
from shutong_core.domain.errors import Rejected

SIZE_MAX = 2**63 - 1
AUDIT = "audit"
ACCESS = "access"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_ORIGIN = re.compile(r"(.+)/(audit|access)/(0|[1-9][0-9]{0,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class TreeName:
    """Which tree: of lane or partition `number` of `topic` (AUDIT or ACCESS) on bus `cluster`."""

    cluster: str
    topic: str
    number: int

    @property
    def origin(self) -> str:
        """`<cluster>/<topic>/<number>`, the first line of its checkpoints."""
        return f"{self.cluster}/{self.topic}/{self.number}"

    def key(self, public: bytes) -> NoteKey:
        """The auditor's public key (32 bytes) under the tree's name."""
        return NoteKey(self.origin, public)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was said of a tree: leaves, root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def sign(self, key: NoteKey, sign: Sign) -> SignedNote:
        """The signed checkpoint; `key` bears the tree's name."""
        return sign_note(self.text, key, sign)


def parse_origin(origin: str) -> TreeName:
    """The tree of that name. Raises Rejected if it is none of a bus."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise Rejected("checkpoint: its origin names no tree of a bus")
    return TreeName(found[1], found[2], int(found[3]))


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in a note's text. Raises Rejected for anything else, extensions included."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise Rejected("checkpoint: origin, size and root are needed, nothing else")
    if not _SIZE.fullmatch(lines[1]) or int(lines[1]) > SIZE_MAX:
        raise Rejected("checkpoint: the size is no number of leaves")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except ValueError:
        raise Rejected("checkpoint: the root is not base64") from None
    if len(root) != HASH_BYTES or base64.b64encode(root).decode() != lines[2]:
        raise Rejected("checkpoint: the root is not 32 bytes in base64")
    return Checkpoint(lines[0], int(lines[1]), root)
