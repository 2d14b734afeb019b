"""Asks witnesses to cosign a checkpoint (C2SP tlog-witness) and tells what their refusal means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx2 as httpx

from shutong_core.audit.checkpoint import Checkpoint
from shutong_core.audit.signednote import (
    Algorithm,
    NoteKey,
    Signature,
    SignedNote,
    parse_signature,
    parse_vkey,
    verified_by,
    with_signatures,
)
from shutong_core.audit.witnessing import AddCheckpoint
from shutong_core.domain.errors import Fatal, Rejected, Retryable

WITNESS_S_MAX = 5.0
_ANSWER_BYTES_MAX = 16 * 1024

#: Proof that the tree begins with its first `old` leaves.
Prove = Callable[[int], Sequence[bytes]]


class WitnessDisagrees(Exception):  # noqa: N818 - what it means for the tree
    """A witness cosigned more than this tree has, or another tree: it was cut or rewritten."""


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """Where a witness answers, and its key."""

    key: NoteKey
    url: str


def parse_witness(text: str) -> WitnessAddress:
    """The witness in `<vkey> <url>`. Raises Fatal with what is wrong."""
    vkey, _, url = text.strip().partition(" ")
    try:
        key = parse_vkey(vkey)
    except Rejected as error:
        raise Fatal(f"SHUTONG_AUDITOR_WITNESSES: {vkey[:80]}: {error}") from error
    if key.algorithm is not Algorithm.COSIGNATURE or not url.startswith(("http://", "https://")):
        raise Fatal(
            "SHUTONG_AUDITOR_WITNESSES 每项应为“<见证人 vkey> <网址>”。"
            f" SHUTONG_AUDITOR_WITNESSES: each is `<vkey of the witness> <url>`, not {text[:120]!r}"
        )
    return WitnessAddress(key, url.strip().rstrip("/"))


class WitnessClient:
    """One witness as the auditor sees it; remembers the size it cosigned last, tree by tree."""

    def __init__(self, address: WitnessAddress, http: httpx.AsyncClient) -> None:
        self.key = address.key
        self._url = f"{address.url}/add-checkpoint"
        self._http = http
        self._cosigned: dict[str, int] = {}

    async def cosign(self, checkpoint: Checkpoint, note: SignedNote, prove: Prove) -> Signature:
        """Its signature, checked. Raises WitnessDisagrees, or Retryable if it gave none."""
        old = min(self._cosigned.get(checkpoint.origin, checkpoint.size), checkpoint.size)
        answer = await self._ask(old, note, prove)
        if answer.status_code == httpx.codes.CONFLICT:
            known = _size(answer.text)
            if known > checkpoint.size:
                raise WitnessDisagrees(
                    f"{self.key.name} cosigned a tree of {known} leaves, here are"
                    f" {checkpoint.size}: cut short, or restored from an old backup"
                )
            if known == old:
                raise WitnessDisagrees(f"{self.key.name} cosigned another tree of {known} leaves")
            answer = await self._ask(known, note, prove)
        if answer.status_code == httpx.codes.UNPROCESSABLE_CONTENT:
            raise WitnessDisagrees(
                f"{self.key.name} cosigned a tree that is no beginning of this one: rewritten"
            )
        if answer.status_code != httpx.codes.OK:
            raise Retryable(f"witness {self.key.name} answers {answer.status_code}")
        found = self._checked(note, answer.text)
        self._cosigned[checkpoint.origin] = checkpoint.size
        return found

    async def _ask(self, old: int, note: SignedNote, prove: Prove) -> httpx.Response:
        body = AddCheckpoint(old, tuple(prove(old)), note).encode()
        try:
            return await self._http.post(self._url, content=body, timeout=WITNESS_S_MAX)
        except httpx.HTTPError as error:
            raise Retryable(f"witness {self.key.name}: {type(error).__name__}") from error

    def _checked(self, note: SignedNote, text: str) -> Signature:
        if len(text) > _ANSWER_BYTES_MAX:
            raise Retryable(f"witness {self.key.name}: its answer is too long")
        try:
            for line in text.splitlines():
                found = parse_signature(line)
                if (found.name, found.key_id) == (self.key.name, self.key.id):
                    verified_by(with_signatures(note, [found]), [self.key])
                    return found
        except Rejected as error:
            raise Retryable(f"witness {self.key.name}: {error}") from error
        raise Retryable(f"witness {self.key.name} did not sign by its key")


def _size(text: str) -> int:
    digits = text.strip()
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
        raise Retryable("a witness names a conflict without a size")
    return int(digits)
