"""Kafka's partition of a key, faster than the plain form: the same numbers as `wire.keys`.

Keys are mostly digits, so the same bytes come again and again: what the first eight come to and
what each word after them contributes is remembered, up to a limit that random keys cannot push.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from shutong_core.wire.keys import partition_of

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C
_POSITIVE = 0x7FFFFFFF
_REMEMBERED_MAX = 1 << 15
_BEGIN_BYTES = 8
_KEY_BYTES_READY = 255
_WORDS = tuple(struct.Struct(f"<{words}I").unpack_from for words in range(64))


def lane_finder(lanes: int) -> Callable[[bytes], int]:  # noqa: C901 - no calls, for speed
    """The function that gives a key's lane, 0 … lanes-1."""
    begun: dict[tuple[int, bytes], int] = {}
    mixed: dict[int, int] = {}

    def lane_of(key: bytes, m: int = _M, mask: int = _MASK) -> int:  # noqa: C901
        size = len(key)
        if size < _BEGIN_BYTES or size > _KEY_BYTES_READY:
            return partition_of(key, lanes)
        # Keys of one kind begin alike: an identity number with the place and the century.
        begin = (size, key[:_BEGIN_BYTES])
        state = begun.get(begin)
        if state is None:
            state = _SEED ^ size
            for word in _WORDS[2](key, 0):
                state = state * m & mask ^ _mixed(word)
            if len(begun) < _REMEMBERED_MAX:
                begun[begin] = state
        for word in _WORDS[(size >> 2) - 2](key, _BEGIN_BYTES):
            mix = mixed.get(word)
            if mix is None:
                mix = _mixed(word)
                if len(mixed) < _REMEMBERED_MAX:
                    mixed[word] = mix
            state = state * m & mask ^ mix
        if size & 2:
            if size & 1:
                state = (state ^ key[-1] << 16 ^ key[-2] << 8 ^ key[-3]) * m & mask
            else:
                state = (state ^ key[-1] << 8 ^ key[-2]) * m & mask
        elif size & 1:
            state = (state ^ key[-1]) * m & mask
        state = (state ^ state >> 13) * m & mask
        return ((state ^ state >> 15) & _POSITIVE) % lanes

    return lane_of


def _mixed(word: int) -> int:
    k = word * _M & _MASK
    return (k ^ k >> 24) * _M & _MASK
