"""The cursor of pull and SSE: the next offset of each partition, opaque to the reader.

base64url, without padding, of `v1;p<partition>:<offset>,…` in ascending partition order. Each
position has exactly one cursor text, so cursors can be compared.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from shutong_core.domain.reasons import Reason

PARTITIONS_MAX = 64  # most lanes a node may have
OFFSET_MAX = 2**63 - 1
#: `v1;` and 64 times `p63:<19 digits>,`, as base64.
CURSOR_CHARS_MAX = 2200

_NUMBER = "(?:0|[1-9][0-9]*)"
_BODY = re.compile(rf"v1;p{_NUMBER}:{_NUMBER}(?:,p{_NUMBER}:{_NUMBER})*")


def encode_cursor(offsets: Mapping[int, int]) -> str:
    """The cursor for next offsets by partition. Raises ValueError out of range or if empty."""
    if not 1 <= len(offsets) <= PARTITIONS_MAX:
        raise ValueError(f"a cursor has 1-{PARTITIONS_MAX} partitions, not {len(offsets)}")
    for partition, offset in offsets.items():
        if not (0 <= partition < PARTITIONS_MAX and 0 <= offset <= OFFSET_MAX):
            raise ValueError(f"partition {partition} or its offset is out of range")
    body = "v1;" + ",".join(f"p{partition}:{offsets[partition]}" for partition in sorted(offsets))
    return base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()


def decode_cursor(text: str) -> Mapping[int, int] | Reason:
    """Next offsets by partition, or `BAD_CURSOR` for anything `encode_cursor` does not write."""
    if len(text) > CURSOR_CHARS_MAX:
        return Reason.BAD_CURSOR
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        body = raw.decode("ascii")
    except (binascii.Error, ValueError):
        return Reason.BAD_CURSOR
    if not _BODY.fullmatch(body):
        return Reason.BAD_CURSOR
    offsets: dict[int, int] = {}
    for part in body[len("v1;") :].split(","):
        partition, _, offset = part[1:].partition(":")
        offsets[int(partition)] = int(offset)
    try:
        canonical = encode_cursor(offsets)
    except ValueError:
        return Reason.BAD_CURSOR
    return offsets if canonical == text else Reason.BAD_CURSOR
