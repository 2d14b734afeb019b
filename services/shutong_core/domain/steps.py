"""Work in steps: a generator that yields after each piece of bounded size, and returns its result.

Who shares a thread with others runs some steps, lets the others on, and comes back; who is alone
runs all of them. Either way the result is the same, because nothing else depends on the steps.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Yields between pieces of work of at most a few milliseconds; returns what the work is for."""


def run(steps: Steps[T]) -> T:
    """The result of `steps`, all of them at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
