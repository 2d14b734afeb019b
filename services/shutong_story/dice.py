"""Chance that gives the same on every machine and every Python: only `Random.random` is used.

The standard library promises the sequence of `random()` for a seed across versions, and nothing
for `choice`, `sample` or `shuffle`; the committed expectation of the story needs that promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Seeded chance for one part of the story; parts do not disturb each other's sequence."""

    def __init__(self, seed: int, part: str) -> None:
        self._random = Random(f"{seed}/{part}")  # noqa: S311 - sample data, not security

    def below(self, bound: int) -> int:
        """An integer in [0, bound)."""
        return int(self._random.random() * bound)

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return low + self.below(high - low + 1)

    def happens(self, per_mille: int) -> bool:
        """True in `per_mille` of 1,000 cases."""
        return self.below(1000) < per_mille

    def pick(self, values: Sequence[T]) -> T:
        """One of `values`, each as likely as the others."""
        return values[self.below(len(values))]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """`values` in another order (Fisher-Yates)."""
        result = list(values)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result
