"""C2SP tlog-witness: asking a witness to cosign a checkpoint, deciding whether it may.

A witness cosigns only what a trusted auditor signed and what provably begins with the last
checkpoint it cosigned for that tree: so it never vouches for a tree that was cut or forked.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique

from shutong_core.audit.checkpoint import SIZE_MAX, Checkpoint, parse_checkpoint
from shutong_core.audit.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    PROOF_HASHES_MAX,
    check_consistency,
)
from shutong_core.audit.signednote import (
    NOTE_BYTES_MAX,
    NoteKey,
    SignedNote,
    parse_note,
    verified_by,
)
from shutong_core.domain.errors import Rejected

REQUEST_BYTES_MAX = NOTE_BYTES_MAX + 8 * 1024
_OLD = re.compile(rb"old (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """The request: `note` is to be cosigned, `proof` leads to it from a tree of `old` leaves."""

    old: int
    proof: tuple[bytes, ...]
    note: SignedNote

    def encode(self) -> bytes:
        """The body of `POST /add-checkpoint`."""
        lines = [f"old {self.old}", *(base64.b64encode(each).decode() for each in self.proof)]
        return "\n".join(lines).encode() + b"\n\n" + self.note.encode()


def parse_request(data: bytes) -> AddCheckpoint:
    """The request in `data`. Raises Rejected for anything else."""
    if len(data) > REQUEST_BYTES_MAX:
        raise Rejected(f"add-checkpoint: {len(data)} bytes, limit {REQUEST_BYTES_MAX}")
    head, separator, rest = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    found = _OLD.fullmatch(first)
    if not separator or found is None or int(found[1]) > SIZE_MAX:
        raise Rejected("add-checkpoint: `old <size>`, proof lines and an empty line are needed")
    if len(lines) > PROOF_HASHES_MAX:
        raise Rejected(f"add-checkpoint: more than {PROOF_HASHES_MAX} proof lines")
    return AddCheckpoint(int(found[1]), tuple(map(_hash, lines)), parse_note(rest))


@unique
class Answer(Enum):
    """Why a witness does not cosign; the value is the HTTP status C2SP gives it."""

    MALFORMED = 400
    NOT_SIGNED = 403
    UNKNOWN_LOG = 404
    CONFLICT = 409
    NOT_CONSISTENT = 422


class NotCosigned(Exception):  # noqa: N818 - an answer, not a fault
    """The witness refuses; `known_size` (for CONFLICT): leaves of the tree it last cosigned."""

    def __init__(self, answer: Answer, why: str, known_size: int = 0) -> None:
        super().__init__(why)
        self.answer = answer
        self.known_size = known_size


def judge(request: AddCheckpoint, known: Checkpoint | None, keys: Sequence[NoteKey]) -> Checkpoint:
    """The checkpoint to cosign. Raises NotCosigned.

    `known`: the last one cosigned for this tree; `keys`: the auditor's under the tree's name, none
    if the tree is not of a bus that is witnessed.
    """
    try:
        checkpoint = parse_checkpoint(request.note.text)
    except Rejected as error:
        raise NotCosigned(Answer.MALFORMED, str(error)) from error
    if not keys:
        raise NotCosigned(Answer.UNKNOWN_LOG, "no such log is witnessed here")
    try:
        signers = verified_by(request.note, keys)
    except Rejected as error:
        raise NotCosigned(Answer.NOT_SIGNED, str(error)) from error
    if not signers:
        raise NotCosigned(Answer.NOT_SIGNED, "no auditor that is trusted here signed it")
    if request.old > checkpoint.size:
        raise NotCosigned(Answer.MALFORMED, "the old size is larger than the checkpoint's")
    before = known or Checkpoint(checkpoint.origin, 0, EMPTY_ROOT)
    if request.old != before.size:
        raise NotCosigned(Answer.CONFLICT, "another size was cosigned last", before.size)
    if checkpoint.size == before.size and checkpoint.root != before.root:
        raise NotCosigned(Answer.CONFLICT, "another root of this size was cosigned", before.size)
    try:
        check_consistency(before.size, checkpoint.size, before.root, checkpoint.root, request.proof)
    except Rejected as error:
        raise NotCosigned(Answer.NOT_CONSISTENT, str(error)) from error
    return checkpoint


def _hash(line: bytes) -> bytes:
    try:
        found = base64.b64decode(line, validate=True)
    except ValueError:
        found = b""
    if len(found) != HASH_BYTES or base64.b64encode(found) != line:
        raise Rejected("add-checkpoint: a proof line is no hash in base64")
    return found
