"""Invented codes of organisations: valid only in their check characters (GB 32100, GB 11714)."""

from __future__ import annotations

_USCC = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))
_BODY = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BODY_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)


def organisation_code(kind: str, region6: str, number: int) -> str:
    """A 统一社会信用代码: `kind` 11 (机关) or 12 (事业单位), subject `DEM` and five digits."""
    subject = f"DEM{number:05d}"
    rest = sum(_BODY.index(c) * w for c, w in zip(subject, _BODY_WEIGHTS, strict=True)) % 11
    first17 = f"{kind}{region6}{subject}{'0' if rest == 0 else 'X' if rest == 1 else 11 - rest}"
    total = sum(_USCC.index(c) * w for c, w in zip(first17, _USCC_WEIGHTS, strict=True))
    return first17 + _USCC[(31 - total % 31) % 31]
