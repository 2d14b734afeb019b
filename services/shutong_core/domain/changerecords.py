"""One record of control.lists: a part of a signed change, written and read.

A record is RFC 8785 JSON `{"body": …, "key": key id, "signature": base64}` with an Ed25519
signature (RFC 8032) over the RFC 8785 form of `body`. Signing and verifying are passed in, so
nothing here knows a key. Reading goes in steps, row by row: a large list comes in hundreds of
kilobytes, and who reads it has other work to do as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shutong_core.domain.canonical import canonical
from shutong_core.domain.errors import Rejected
from shutong_core.domain.steps import Steps, run
from shutong_core.domain.version import AnyRow, ListVersion, parse_row_json

PART_BYTES_MAX = 512 * 1024
PARTS_MAX = 1024
#: Rows that one step of `decoding` reads: about a millisecond.
ROWS_A_STEP = 16
# Said in the signed bytes, so that a signature made for another purpose never fits.
_TYPE = "shutong-list-change-v1"

Verify = Callable[[str, bytes, bytes], bool]
"""(key id, signed bytes, signature) -> whether a trusted key of that id made the signature."""


class Signer(Protocol):
    """An Ed25519 key that signs."""

    @property
    def key_id(self) -> str:
        """Name under which readers find the public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over `data` (64 bytes)."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """One part (0-based `part` of `parts`) of the step from the list `previous` to version `n`.

    `previous` and `list_digest` are list hashes in hex; `effective_ms` is milliseconds since 1970.
    A `snapshot` repeats version `n` whole, for readers that hold nothing. `adds` says that version
    `n` only adds to the one before (`additions`), which readers find true or refuse the change.
    """

    n: int
    part: int
    parts: int
    previous: str
    upserts: tuple[AnyRow, ...]
    removals: tuple[str, ...]
    list_digest: str
    effective_ms: int
    snapshot: bool = False
    adds: bool = False
    #: Hashes of `upserts`, where they were worked out already.
    digests: tuple[bytes, ...] = field(default=(), repr=False, compare=False)

    def body(self) -> dict[str, Any]:
        """The signed part of the record, as JSON values."""
        return {
            "type": _TYPE,
            "n": self.n,
            "part": self.part,
            "parts": self.parts,
            "previous": self.previous,
            "upserts": [row.body() for row in self.upserts],
            "removals": list(self.removals),
            "list_digest": self.list_digest,
            "effective_ms": self.effective_ms,
            "snapshot": self.snapshot,
            "adds": self.adds,
        }


def encode_change(change: Change, signer: Signer) -> bytes:
    """The record of one part, signed. Raises Rejected if it exceeds PART_BYTES_MAX."""
    body = change.body()
    signature = signer.sign(canonical(body))
    record = canonical(
        {"body": body, "key": signer.key_id, "signature": base64.b64encode(signature).decode()}
    )
    if len(record) > PART_BYTES_MAX:
        raise Rejected(f"part {change.part} of change {change.n} has {len(record)} bytes")
    return record


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _short(error: Exception) -> str:
    """What went wrong without the input, which may hold anything."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
    return type(error).__name__


class _Envelope(BaseModel):
    """The body without its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: str = Field(pattern=f"^{_TYPE}$")
    n: int = Field(ge=1)
    part: int = Field(ge=0)
    parts: int = Field(ge=1, le=PARTS_MAX)
    previous: str = Field(pattern=r"^[0-9a-f]{64}$")
    removals: list[str]
    list_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    effective_ms: int = Field(ge=0)
    snapshot: bool
    adds: bool


class _Seal(BaseModel):
    """What stands behind the body."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str = Field(max_length=200)
    signature: str = Field(max_length=88)  # 64 bytes in base64


def decode_change(data: bytes, verify: Verify) -> Change:
    """The part in one record. Raises Rejected unless it is canonical, signed and well-formed."""
    return run(decoding(data, verify))


def decoding(data: bytes, verify: Verify, held: ListVersion | None = None) -> Steps[Change]:
    """`decode_change` in steps; a row that stands in `held` letter by letter is taken from there.

    The signature is checked before any row is read. Then each row must be written just as this
    release writes it, so the whole is in RFC 8785 form and no field goes unseen.
    """
    if len(data) > PART_BYTES_MAX:
        raise Rejected(f"a change record has {len(data)} bytes, {PART_BYTES_MAX} are allowed")
    try:
        body = _unsealed(data, verify)
        yield
        head, found, rows = body.partition(_ROWS_BEGIN)
        if not found or not rows.endswith(_ROWS_END):
            raise Rejected(_NOT_CANONICAL)
        envelope = _Envelope.model_validate(_exactly(head + "}"))
        upserts, digests = yield from _rows(rows.removesuffix(_ROWS_END), envelope.n, held)
    except (ValidationError, ValueError, RecursionError) as error:
        raise Rejected(f"a change record cannot be read: {_short(error)}") from error
    return Change(
        n=envelope.n,
        part=envelope.part,
        parts=envelope.parts,
        previous=envelope.previous,
        upserts=tuple(upserts),
        removals=tuple(envelope.removals),
        list_digest=envelope.list_digest,
        effective_ms=envelope.effective_ms,
        snapshot=envelope.snapshot,
        adds=envelope.adds,
        digests=tuple(digests),
    )


# How a record in RFC 8785 form is cut: keys are sorted, and a quote inside text is escaped, so
# these can stand nowhere else.
_BODY_BEGIN, _SEAL_BEGIN = '{"body":', '},"key":'
_ROWS_BEGIN, _ROWS_END = ',"upserts":[', "]}"
_NOT_CANONICAL = "a change record is not in RFC 8785 form"
_SCAN = json.JSONDecoder(parse_constant=_no_constant).raw_decode


def _unsealed(data: bytes, verify: Verify) -> str:
    """The text of the body, if a trusted key signed it."""
    record = data.decode()
    cut = record.rfind(_SEAL_BEGIN)
    if not record.startswith(_BODY_BEGIN + "{") or cut < 0:
        raise Rejected(_NOT_CANONICAL)
    body = record[len(_BODY_BEGIN) : cut + 1]
    seal = _Seal.model_validate(_exactly("{" + record[cut + 2 :]))
    signature = base64.b64decode(seal.signature, validate=True)
    if base64.b64encode(signature).decode() != seal.signature:
        raise Rejected("the signature of a change is not in canonical base64")
    if not verify(seal.key, body.encode(), signature):
        raise Rejected(f"a change is not signed by a trusted key (key id {seal.key!r})")
    return body


def _exactly(text: str) -> Any:
    """The value of `text`, which must be in RFC 8785 form."""
    value, end = _SCAN(text)
    if end != len(text) or canonical(value) != text.encode():
        raise Rejected(_NOT_CANONICAL)
    return value


def _rows(
    text: str, number: int, held: ListVersion | None
) -> Steps[tuple[list[AnyRow], list[bytes]]]:
    """The rows in `text`, separated by commas, with their digests."""
    rows: list[AnyRow] = []
    digests: list[bytes] = []
    at = 0
    while at < len(text):
        if rows:
            if text[at] != ",":
                raise Rejected(_NOT_CANONICAL)
            at += 1
        value, end = _SCAN(text, at)
        row, digest = _row(value, text[at:end].encode(), number, held)
        rows.append(row)
        digests.append(digest)
        at = end
        if len(rows) % ROWS_A_STEP == 0:
            yield
    return rows, digests


def _row(value: Any, written: bytes, number: int, held: ListVersion | None) -> tuple[AnyRow, bytes]:
    if not isinstance(value, dict):
        raise Rejected(f"change {number} holds something that is no row")
    digest = hashlib.sha256(written).digest()
    if held is not None:
        row_id = f"{value.get('kind')}/{value.get('id')}"
        if held.digests.get(row_id) == digest:
            return held.rows[row_id], digest
    row = parse_row_json(value, written)
    if row.canonical() != written:
        if canonical(value) != written:
            raise Rejected(_NOT_CANONICAL)
        # Else a field that this release reads differently could pass unseen.
        raise Rejected(f"change {number} says a row in another form than this release does")
    return row, digest
