"""Bytes of the audit formats: integers big-endian, strings with a u32 length, bounded reading.

Readers never trust a length: what is declared must still be there before anything is allocated.
"""

from __future__ import annotations

import re

from shutong_core.domain.errors import Fatal, Rejected

#: Longest string in a header or body, in UTF-8 bytes (a publisher is 18 + 1 + 48).
TEXT_BYTES_MAX = 255
U16_MAX = 0xFFFF
U32_MAX = 0xFFFFFFFF
U64_MAX = 0xFFFFFFFFFFFFFFFF
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9-]{0,47}", re.ASCII)


def u16(value: int) -> bytes:
    """`value` as 2 bytes. Raises Fatal if it does not fit."""
    return _unsigned(value, 2)


def u32(value: int) -> bytes:
    """`value` as 4 bytes. Raises Fatal if it does not fit."""
    return _unsigned(value, 4)


def u64(value: int) -> bytes:
    """`value` as 8 bytes. Raises Fatal if it does not fit."""
    return _unsigned(value, 8)


def _unsigned(value: int, width: int) -> bytes:
    try:
        return value.to_bytes(width, "big")
    except OverflowError:
        raise Fatal(f"{value} does not fit into {width} bytes of an audit record") from None


def text(value: str) -> bytes:
    """u32 length ‖ UTF-8. Raises Fatal if longer than TEXT_BYTES_MAX or not encodable."""
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise Fatal("a string of an audit record is not valid Unicode") from None
    if len(data) > TEXT_BYTES_MAX:
        raise Fatal(f"a string of an audit record has {len(data)} bytes, limit {TEXT_BYTES_MAX}")
    return len(data).to_bytes(4, "big") + data


def fixed(value: bytes, width: int, name: str) -> bytes:
    """`value`, known to have `width` bytes. Raises Fatal otherwise."""
    if len(value) != width:
        raise Fatal(f"{name} has {len(value)} bytes, not {width}")
    return bytes(value)


class Reader:
    """Takes fields off `data` from the front; every shortage is Rejected with its position."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    def fail(self, problem: str) -> Rejected:
        """The error to raise: what is read, where, what is wrong."""
        return Rejected(f"{self._what}, byte {self._at}: {problem}")

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise self.fail(f"{count} bytes expected, {len(self._data) - self._at} left")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def u8(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """The next 2 bytes as an integer."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """The next 4 bytes as an integer."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """The next 8 bytes as an integer."""
        return int.from_bytes(self.take(8), "big")

    def text(self) -> str:
        """A string of at most TEXT_BYTES_MAX bytes of valid UTF-8."""
        length = self.u32()
        if length > TEXT_BYTES_MAX:
            raise self.fail(f"string of {length} bytes, limit {TEXT_BYTES_MAX}")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise self.fail("string is not UTF-8") from None

    def identifier(self) -> str:
        """A dataset or grant id."""
        found = self.text()
        if not IDENTIFIER.fullmatch(found):
            raise self.fail("not an id of a dataset or grant")
        return found

    def end(self) -> None:
        """Nothing may follow."""
        left = len(self._data) - self._at
        if left:
            raise self.fail(f"{left} bytes after the end")
