"""The audit block: what one transaction of one lane decided and placed.

The way in: build with `BlockBuilder`, read with `parse_block`; the parts live in modules beside.
"""

from __future__ import annotations

from shutong_core.audit.body import (
    BODY_BYTES_MAX,
    Body,
    Counts,
    GrantColumn,
    InputSection,
    Row,
    RowOperation,
    Withholding,
    body_hash,
    encode_body,
)
from shutong_core.audit.bodyparse import parse_body
from shutong_core.audit.builder import Block, BlockBuilder, BlockFacts, seal
from shutong_core.audit.digests import SALT_BYTES, id_hash, row_digest
from shutong_core.audit.header import (
    FLAG_AFTER_ABORT,
    FORMAT_VERSION,
    HEADER_BYTES_MAX,
    NO_BLOCK,
    Header,
    encode_header,
    header_hash,
    parse_header,
)
from shutong_core.audit.inputbuilder import InputBuilder
from shutong_core.domain.errors import Rejected

__all__ = [
    "BODY_BYTES_MAX",
    "FLAG_AFTER_ABORT",
    "FORMAT_VERSION",
    "HEADER_BYTES_MAX",
    "NO_BLOCK",
    "SALT_BYTES",
    "Block",
    "BlockBuilder",
    "BlockFacts",
    "Body",
    "Counts",
    "GrantColumn",
    "Header",
    "InputBuilder",
    "InputSection",
    "Row",
    "RowOperation",
    "Withholding",
    "body_hash",
    "encode_body",
    "encode_header",
    "header_hash",
    "id_hash",
    "parse_block",
    "parse_body",
    "parse_header",
    "row_digest",
    "seal",
]


def parse_block(header: bytes, body: bytes) -> tuple[Header, Body]:
    """A block from its stored bytes. Raises Rejected if header and body do not belong together."""
    head = parse_header(header)
    if len(body) != head.body_length or body_hash(body) != head.body_hash:
        raise Rejected(f"lane {head.lane} block {head.sequence}: body differs from its hash")
    parsed = parse_body(body)
    check_counts(head, parsed)
    return head, parsed


def check_counts(header: Header, body: Body) -> None:
    """Raises Rejected if the header's counts or flags are not those of the body."""
    claimed = Counts(header.inputs, header.rows, header.refused, header.placed, header.deferred)
    where = f"lane {header.lane} block {header.sequence}"
    if claimed != body.counts():
        raise Rejected(f"{where}: counts differ from the body")
    if body.exposed and not header.after_abort:
        raise Rejected(f"{where}: names exposed grants but no abort")
