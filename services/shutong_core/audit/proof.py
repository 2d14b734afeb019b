"""What became of one record, proved by a file that needs nothing but the trust bundle.

The row leads to the block's row root, header and root are a leaf of the lane's tree, the tree is
the one a signed checkpoint names. docs/formats/proofs.md has the form.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from shutong_core.audit.checkpoint import AUDIT, Checkpoint, TreeName, parse_origin
from shutong_core.audit.header import HEADER_BYTES_MAX, Header, parse_header
from shutong_core.audit.merkle import (
    HASH_BYTES,
    PROOF_HASHES_MAX,
    check_inclusion,
    leaf_hash,
    root_by_inclusion,
)
from shutong_core.audit.rowtree import (
    ROW_SALT_BYTES,
    ProvedRow,
    RowProof,
    block_leaf,
    parse_row,
    row_leaf_hash,
)
from shutong_core.audit.signednote import NOTE_BYTES_MAX, SignedNote, parse_note, verified_by
from shutong_core.audit.trust import TrustBundle
from shutong_core.domain.errors import Rejected

FORMAT = "shutong-proof-v1"
PROOF_BYTES_MAX = 128 * 1024
_ROW_BYTES_MAX = 64 * 1024
_FIELDS = frozenset({"format", "checkpoint", "header", "tree_path", "row"})
_ROW_FIELDS = frozenset({"bytes", "salt", "index", "rows", "path"})


@dataclass(frozen=True, slots=True)
class Proof:
    """A row, its block's header, what leads from it to the root that `note` signs."""

    note: SignedNote
    header: bytes
    tree_path: tuple[bytes, ...]
    row: RowProof

    def encode(self) -> bytes:
        """The proof as a file: JSON."""
        row = {
            "bytes": _text(self.row.row),
            "salt": _text(self.row.salt),
            "index": self.row.index,
            "rows": self.row.rows,
            "path": list(map(_text, self.row.path)),
        }
        table = {
            "format": FORMAT,
            "checkpoint": self.note.encode().decode(),
            "header": _text(self.header),
            "tree_path": list(map(_text, self.tree_path)),
            "row": row,
        }
        return json.dumps(table, indent=1, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Proved:
    """What a proof that holds says; `cosigned`: names of the trusted witnesses under it."""

    tree: TreeName
    checkpoint: Checkpoint
    header: Header
    row: ProvedRow
    cosigned: tuple[str, ...]


def parse_proof(data: bytes) -> Proof:
    """The proof in `data`, nothing of it checked. Raises Rejected that names the wrong field."""
    if len(data) > PROOF_BYTES_MAX:
        raise Rejected(f"proof of {len(data)} bytes, limit {PROOF_BYTES_MAX}")
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        raise Rejected("proof: not JSON") from None
    if not isinstance(table, dict) or set(table) != _FIELDS or table["format"] != FORMAT:
        raise Rejected(f"proof: {FORMAT} has exactly the fields {', '.join(sorted(_FIELDS))}")
    row, note = table["row"], table["checkpoint"]
    if not isinstance(row, dict) or set(row) != _ROW_FIELDS:
        raise Rejected(f"proof: row has exactly the fields {', '.join(sorted(_ROW_FIELDS))}")
    if not isinstance(note, str) or len(note) > NOTE_BYTES_MAX:
        raise Rejected("proof: checkpoint is no text")
    return Proof(
        parse_note(note.encode("utf-8", "replace")),
        _bytes(table["header"], "header", HEADER_BYTES_MAX),
        _hashes(table["tree_path"], "tree_path"),
        RowProof(
            _count(row["index"], "row.index"),
            _count(row["rows"], "row.rows"),
            _bytes(row["bytes"], "row.bytes", _ROW_BYTES_MAX),
            _bytes(row["salt"], "row.salt", ROW_SALT_BYTES),
            _hashes(row["path"], "row.path"),
        ),
    )


def check_proof(proof: Proof, trust: TrustBundle) -> Proved:
    """What the proof proves to who trusts `trust`. Raises Rejected for the first thing wrong."""
    tree = parse_origin(proof.note.text.partition("\n")[0])
    if tree.topic != AUDIT:
        raise Rejected("proof: the checkpoint is not of a lane of the audit")
    checkpoint = trust.accept(proof.note, tree)
    header = parse_header(proof.header)
    if (header.cluster, header.lane) != (tree.cluster, tree.number):
        raise Rejected("proof: the block is of another bus or lane than the checkpoint")
    row = proof.row
    if len(row.salt) != ROW_SALT_BYTES:
        raise Rejected(f"proof: row.salt has {len(row.salt)} bytes")
    if row.rows != header.rows:
        raise Rejected(f"proof: the block has {header.rows} rows, the proof speaks of {row.rows}")
    root = root_by_inclusion(row.index, row.rows, row_leaf_hash(row.salt, row.row), row.path)
    leaf = leaf_hash(block_leaf(proof.header, root))
    try:
        check_inclusion(
            header.sequence - 1, checkpoint.size, leaf, proof.tree_path, checkpoint.root
        )
    except Rejected as error:
        raise Rejected(
            f"proof: row and block are not in the tree of the checkpoint ({error})"
        ) from error
    names = tuple(key.name for key in verified_by(proof.note, trust.witnesses))
    return Proved(tree, checkpoint, header, parse_row(row.row), names)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(value: Any, name: str, bytes_max: int) -> bytes:
    try:
        found = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or _text(found) != value:
        raise Rejected(f"proof: {name} is not base64")
    if len(found) > bytes_max:
        raise Rejected(f"proof: {name} has {len(found)} bytes, limit {bytes_max}")
    return found


def _hashes(value: Any, name: str) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > PROOF_HASHES_MAX:
        raise Rejected(f"proof: {name} is a list of at most {PROOF_HASHES_MAX} hashes")
    found = tuple(_bytes(each, name, HASH_BYTES) for each in value)
    if any(len(each) != HASH_BYTES for each in found):
        raise Rejected(f"proof: {name} holds something that is no hash")
    return found


def _count(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < 2**32:
        raise Rejected(f"proof: {name} is no number of rows")
    return value
