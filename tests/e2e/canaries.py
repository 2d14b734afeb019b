"""Canaries: values that nobody else has, and the search for them in whatever form they took.

A canary is found as text, in Avro's and in fixed-width encodings, in base64 (at each alignment)
and hexadecimal, and as an unkeyed digest, which of a guessable value tells the value.
"""

from __future__ import annotations

import base64
import hashlib
import random
import string
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643
HEAD_BYTES = 5  # no needle is shorter
ID_AREA = "990011"  # what mask keep may show of an identity number


@dataclass(frozen=True)
class Canary:
    """One value: of which record and item, what it is after decoding, how it may look."""

    record: str
    item: str
    value: Any
    needles: tuple[bytes, ...]

    def __str__(self) -> str:
        return f"{self.record}.{self.item}"


class Mint:
    """Makes canaries and remembers them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.made: list[Canary] = []

    def text(self, record: str, item: str, lead: str = "") -> str:
        """`lead` and 22 letters and digits; only what follows `lead` is searched for."""
        token = "".join(self._random.choices(string.ascii_lowercase + string.digits, k=22))
        return self._keep(record, item, lead + token, _of_bytes(token.encode()))

    def octets(self, record: str, item: str) -> bytes:
        """24 bytes."""
        found = self._random.randbytes(24)
        return self._keep(record, item, found, _of_bytes(found))

    def number(self, record: str, item: str) -> int:
        """A whole number of 15 digits: JSON keeps it exactly."""
        found = self._random.randrange(10**14, 10**15)
        wide = (found.to_bytes(8, "big"), found.to_bytes(8, "little"), _zigzag(found))
        return self._keep(record, item, found, (*wide, *_of_bytes(str(found).encode())))

    def real(self, record: str, item: str, whole: int) -> float:
        """`whole` and a fraction of 12 digits."""
        found = float(f"{whole}.{self._random.randrange(10**11, 10**12)}")
        wide = (struct.pack("<d", found), struct.pack(">d", found))
        return self._keep(record, item, found, (*wide, *_of_bytes(repr(found).encode())))

    def amount(self, record: str, item: str) -> Decimal:
        """Nine digits before the point, two after it."""
        cents = self._random.randrange(10**10, 9 * 10**10)
        found = Decimal(cents).scaleb(-2)
        whole = cents.to_bytes((cents.bit_length() + 8) // 8, "big", signed=True)
        texts = (*_of_bytes(str(found).encode()), *_of_bytes(str(cents).encode()))
        return self._keep(record, item, found, (whole, *texts))

    def day(self, record: str, item: str, year: int) -> date:
        """A day of that year; only its text is searched for, its Avro form is too short."""
        found = date(year, 1, 1) + timedelta(days=self._random.randrange(365))
        return self._keep(record, item, found, (found.isoformat().encode(),))

    def id_number(self, record: str, item: str, birth: date) -> str:
        """A valid identity number; what follows the area is searched for."""
        body = f"{ID_AREA}{birth:%Y%m%d}{self._random.randrange(1000):03d}"
        check = "10X98765432"[sum(w * int(d) for w, d in zip(_WEIGHTS, body, strict=True)) % 11]
        number = body + check
        digests = _digests(number.encode())
        forms = (number[len(ID_AREA) :].encode(), *_of_bytes(number.encode()), *digests)
        return self._keep(record, item, number, forms)

    def of(self, *records: str) -> list[Canary]:
        """The canaries of those records."""
        return [each for each in self.made if each.record in records]

    def _keep(self, record: str, item: str, value: Any, needles: tuple[bytes, ...]) -> Any:
        self.made.append(Canary(record, item, value, needles))
        return value


def search(hay: Mapping[str, bytes], canaries: Iterable[Canary]) -> dict[str, set[Canary]]:
    """Place → canaries found there, in any form."""
    by_head: dict[bytes, list[tuple[bytes, Canary]]] = {}
    for each in canaries:
        for needle in each.needles:
            by_head.setdefault(needle[:HEAD_BYTES], []).append((needle, each))
    return {place: _found(raw, by_head) for place, raw in hay.items()}


def _found(raw: bytes, by_head: Mapping[bytes, list[tuple[bytes, Canary]]]) -> set[Canary]:
    # One look-up for each place in `raw`: searching for each of thousands of needles takes minutes.
    found = set()
    for at in range(len(raw) - HEAD_BYTES + 1):
        if raw[at : at + HEAD_BYTES] in by_head:
            for needle, canary in by_head[raw[at : at + HEAD_BYTES]]:
                if raw.startswith(needle, at):
                    found.add(canary)
    return found


def leaves(value: Any) -> Iterable[Any]:
    """Every value inside a decoded record."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def _of_bytes(raw: bytes) -> tuple[bytes, ...]:
    hexed = raw.hex().encode()
    return (raw, hexed, hexed.upper(), *_base64_forms(raw), *_digests(raw))


def _base64_forms(raw: bytes) -> tuple[bytes, ...]:
    """What base64 of any text around `raw` must contain, by where `raw` begins in it."""
    found = []
    for shift in range(3):
        shifted = b"\0" * shift + raw
        first, last = (0, 2, 3)[shift], len(shifted) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.append(encode(shifted)[first:last])
    return tuple(dict.fromkeys(found))


def _digests(raw: bytes) -> tuple[bytes, ...]:
    found = [hashlib.sha256(raw).digest(), hashlib.md5(raw).digest()]
    found += [hashlib.blake2b(raw, digest_size=size).digest() for size in (8, 16)]
    return (*found, *(each.hex().encode() for each in found))


def _zigzag(number: int) -> bytes:
    left, made = number << 1, bytearray()
    while left > 0x7F:
        made.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes((*made, left))
