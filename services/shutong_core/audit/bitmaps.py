"""Sets of row numbers as bitmaps: row r is bit r mod 8 (lowest first) of byte r div 8.

As an integer read little-endian, row r is bit r; unused bits of the last byte are zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress

# A column of bytes becomes the text of a binary number: zero stays "0", everything else is "1".
_AS_DIGITS = b"0" + b"1" * 255
_AS_FLAGS = bytes(each & 1 for each in range(256))  # digits "0" and "1" become 0 and 1


def size_of(rows: int) -> int:
    """Bytes of a bitmap over `rows` rows."""
    return (rows + 7) // 8


def to_bytes(bits: int, rows: int) -> bytes:
    """The bitmap over `rows` rows that holds `bits`."""
    return bits.to_bytes(size_of(rows), "little")


def to_bits(bitmap: bytes) -> int:
    """The bitmap as an integer: row r is bit r."""
    return int.from_bytes(bitmap, "little")


def of_rows(numbers: Iterable[int], rows: int) -> int:
    """Bits of the given row numbers; IndexError if one is not below `rows`."""
    column = bytearray(rows)
    for number in numbers:
        column[number] = 1
    return of_column(column)


def of_column(column: bytes | bytearray) -> int:
    """Bits of the rows whose byte in `column` is not zero."""
    # Power-of-two bases parse in linear time, much faster than setting bits one by one.
    return int(column[::-1].translate(_AS_DIGITS), 2) if column else 0


def of_range(first: int, end: int) -> int:
    """Bits first … end-1."""
    return ((1 << (end - first)) - 1) << first


def ranges(bits: int) -> Iterator[tuple[int, int]]:
    """Maximal runs of set bits as (first, end), ascending."""
    at = 0
    while bits:
        gap = (bits & -bits).bit_length() - 1
        bits >>= gap
        run = (~bits & (bits + 1)).bit_length() - 1
        bits >>= run
        at += gap
        yield at, at + run
        at += run


def rows_of(bits: int) -> list[int]:
    """The row numbers in `bits`, ascending."""
    # Digits and compress go through a dense bitmap many times faster than shifting does.
    digits = format(bits, "b").encode()[::-1].translate(_AS_FLAGS)
    return list(compress(range(len(digits)), digits))
