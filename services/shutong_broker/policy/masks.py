"""The masks keep, hash and band: what a subscriber sees in place of a value.

The output is always a string; null stays null; `drop` has no output, so it never gets here. A
mask on a type it does not fit is refused when it is made, never skipped.
"""

from __future__ import annotations

import base64
import hmac
import math
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Band, Hash, Keep, Mask
from shutong_core.domain.schemaview import FieldType
from shutong_core.wire.projection import mask_fits

Masker = Callable[[Any], str]

#: Always eight, so that the length of what is hidden does not show.
STARS = "*" * 8
HASH_BYTES = 16


def masker(mask: Mask, field: FieldType, secret: bytes, encode: Callable[[Any], bytes]) -> Masker:
    """The function that masks one value that is not null.

    `secret` is the grant's key; `encode` gives the Avro encoding of a value of the item's type
    (without the union index), both used by *hash* only. Raises Rejected if the mask does not fit.
    """
    if not mask_fits(mask, field):
        raise Rejected(f"mask {mask.mask} does not fit item {field.name}")
    match mask:
        case Keep(first=first, last=last):
            return lambda value: keep(value, first, last)
        case Hash():
            return lambda value: keyed_hash(secret, encode(value))
        case Band(by="year"):
            return year
        case Band(by="month"):
            return month
        case Band(bounds=bounds) if bounds is not None:
            return _banding(bounds, exact=field.logical == "decimal" or field.avro[0] in "il")
        case _:
            raise Rejected(f"item {field.name} is dropped, it has no masked value")


def keep(text: str, first: int, last: int) -> str:
    """`first` and `last` code points of `text` around eight stars; stars alone if it is short.

    Short means that nothing would be left to hide.
    """
    if len(text) <= first + last:
        return STARS
    return text[:first] + STARS + text[len(text) - last :]


def keyed_hash(secret: bytes, encoding: bytes) -> str:
    """HMAC-SHA-256 of a value's Avro encoding: its first 16 bytes in base64url, unpadded.

    Equal values of a grant stay equal, so counting and joining within the grant work.
    """
    digest = hmac.digest(secret, encoding, "sha256")[:HASH_BYTES]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def year(day: date) -> str:
    """`1987`."""
    return f"{day.year:04d}"


def month(day: date) -> str:
    """`1987-05`."""
    return f"{day.year:04d}-{day.month:02d}"


def band_labels(bounds: tuple[float, ...]) -> tuple[str, ...]:
    """The labels of the bands of ascending `bounds`: `<a`, `[a,b)`, …, `≥z`; one more than bounds.

    Bounds are written as short as they can be: `18`, not `18.0`.
    """
    texts = [format(Decimal(repr(bound)).normalize() + 0, "f") for bound in bounds]
    between = [f"[{low},{high})" for low, high in pairwise(texts)]
    return (f"<{texts[0]}", *between, f"≥{texts[-1]}")


def _banding(bounds: tuple[float, ...], *, exact: bool) -> Masker:
    if not all(math.isfinite(bound) for bound in bounds):
        raise Rejected("bounds must be finite numbers")
    labels = band_labels(bounds)
    # A bound of 0.1 means one tenth where the item counts exactly, and the float where it does not.
    edges = [Decimal(repr(bound)) if exact else bound for bound in bounds]

    def band(value: Any) -> str:
        if value != value:  # noqa: PLR0124 - NaN lies in no band
            raise ValueError("not a number")
        return labels[sum(1 for edge in edges if value >= edge)]

    return band
