"""What the generated walk calls where a number is longer than it is written inline for."""

from __future__ import annotations

import re

_VARINT_BYTES_MAX = 10
#: The one form of RFC 9562, as `wire.walk` admits it.
UUID_FORM = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Declined(Exception):  # noqa: N818 - not an error: another reading decides
    """The generated code does not decide this record: the plain interpreter says why not.

    So there is one place that names a fault and its path.
    """


def decline() -> bool:
    """Raises Declined, for use in an expression."""
    raise Declined


def varint(body: bytes, at: int) -> tuple[int, int]:
    """The zig-zag number at `at`, not yet decoded, and the place after it.

    Raises Declined if it is not minimal or too long, IndexError at the end of the body.
    """
    raw = shift = 0
    while True:
        byte = body[at]
        at += 1
        raw |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift >= 7 * _VARINT_BYTES_MAX:
            raise Declined
    if byte == 0 and shift > 7:
        raise Declined
    return raw, at


def length(body: bytes, at: int) -> tuple[int, int]:
    """The length at `at` and the place after it. Raises as `varint`; Declined if negative."""
    raw, at = varint(body, at)
    if raw & 1:
        raise Declined
    return raw >> 1, at
