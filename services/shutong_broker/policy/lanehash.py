"""Kafka's partitions of many keys at once: the same numbers as `wire.keys.partition_of`.

Keys of one length are hashed side by side: word i of every key stands in its own 64 bits of one
long integer, so that a step of murmur2 is one multiplication for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from shutong_core.wire.keys import partition_of

_M = 0x5BD1E995
_SEED = 0x9747B28C
_SLOT_BYTES = 8
#: Fewer keys are hashed one by one.
_KEYS_LEAST = 8


def lanes_of(keys: Sequence[bytes | None], lanes: int) -> list[int]:
    """The lane of each key, 0 … lanes-1; -1 for a null key."""
    sizes = {-1 if key is None else len(key) for key in keys}
    if len(keys) < _KEYS_LEAST or len(sizes) > 1 or -1 in sizes:
        return [-1 if key is None else partition_of(key, lanes) for key in keys]
    joined = b"".join(key for key in keys if key is not None)
    hashes = _murmur2(joined, sizes.pop(), len(keys)).to_bytes(_SLOT_BYTES * len(keys), "little")
    return [hash_ % lanes for hash_ in memoryview(hashes).cast("Q").tolist()]


def _murmur2(joined: bytes, size: int, count: int) -> int:
    """Positive murmur2 hashes (31 bits) of `count` keys of `size` bytes, one in each slot."""
    each = int.from_bytes(b"\x01\0\0\0\0\0\0\0" * count, "little")
    low = each * 0xFFFFFFFF

    def column(at: int, width: int) -> int:
        """Bytes at … at+width-1 of every key, little-endian."""
        slots = bytearray(_SLOT_BYTES * count)
        for byte in range(width):
            slots[byte::_SLOT_BYTES] = joined[at + byte :: size]
        return int.from_bytes(slots, "little")

    state = each * ((_SEED ^ size) & 0xFFFFFFFF)
    whole = size & ~3
    for at in range(0, whole, 4):
        word = column(at, 4) * _M & low
        word = (word ^ word >> 24 & low) * _M & low
        state = state * _M & low ^ word
    if size > whole:
        state = (state ^ column(whole, size - whole)) * _M & low
    state = (state ^ state >> 13 & low) * _M & low
    return (state ^ state >> 15 & low) & each * 0x7FFFFFFF
