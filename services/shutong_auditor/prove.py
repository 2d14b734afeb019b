"""Makes the proof of one record from topic `audit` and the auditor's tree files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shutong_auditor.rowsearch import FoundRow, find_row
from shutong_auditor.treereader import TreeReader, tree_directory
from shutong_core.audit.checkpoint import AUDIT, parse_checkpoint
from shutong_core.audit.merkle import inclusion_proof
from shutong_core.audit.proof import Proof
from shutong_core.audit.rowtree import block_leaf, prove_row, row_root
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.wire.topics import Topics


async def make_proof(
    client: Mapping[str, Any],
    topics: Topics,
    data_dir: Path,
    place: tuple[str, int, int],
    loading: str = "",
) -> Proof:
    """The proof of what became of the record at `place` (dataset, lane, input offset).

    `loading`: of the verdict that this grant's loading cursor gave. Raises Rejected if the audit
    does not speak of it or the trees are not here, Retryable if it is not under a checkpoint yet.
    """
    tree = TreeReader(tree_directory(data_dir, AUDIT, place[1]))
    found = await find_row(client, topics, place, loading)
    return _proof(tree, found)


def _proof(tree: TreeReader, found: FoundRow) -> Proof:
    header, body = found.header, found.body
    note = tree.checkpoint()
    if note is None:
        raise Rejected(
            f"{tree.directory} 中没有审计树：请在审计服务所在的机器上执行。"
            f" There is no tree in {tree.directory}: run this on the auditor's machine."
        )
    size, index = parse_checkpoint(note.text).size, header.sequence - 1
    if index >= size:
        raise Retryable(
            f"第 {header.sequence} 块尚未进入检查点，请稍后再试。"
            f" Block {header.sequence} is not under a checkpoint yet (it has {size}): try again."
        )
    if tree.leaf(index, size) != block_leaf(found.stored, row_root(body)):
        raise Rejected(
            f"第 {header.sequence} 块与已签名的树不同：请执行 shutong audit verify。"
            f" Block {header.sequence} is not the one in the signed tree: verify the audit."
        )
    path = tuple(inclusion_proof(index, size, tree.node(size)))
    return Proof(note, found.stored, path, prove_row(body, found.section, found.row))
