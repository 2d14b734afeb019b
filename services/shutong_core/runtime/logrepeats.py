"""Keeps a fault that repeats itself from flooding the log.

Rule: of lines of one kind the first few in a span of time are written; the others are counted and
said in one line when the span is over, so nothing is silently lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

SPAN_S = 10.0
LINES_PER_SPAN = 5
#: Kinds remembered at once; further ones share one kind.
KINDS_MAX = 500


@dataclass(slots=True)
class _Kind:
    label: str
    since: float
    written: int = 0
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class Withheld:
    """How many lines of one kind were not written in the span that is over."""

    label: str
    count: int


class Repeats:
    """Counts lines by kind; safe for use from several threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._kinds: dict[Hashable, _Kind] = {}
        self._lock = threading.Lock()

    def admit(self, kind: Hashable, label: str) -> bool:
        """True if a line of this kind may be written now."""
        now = self._monotonic()
        with self._lock:
            if kind not in self._kinds and len(self._kinds) >= KINDS_MAX:
                kind, label = "", "other lines"
            found = self._kinds.setdefault(kind, _Kind(label, now))
            if found.written < LINES_PER_SPAN:
                found.written += 1
                return True
            found.withheld += 1
            return False

    def over(self, *, everything: bool = False) -> list[Withheld]:
        """What was withheld in spans that are over since the last call (or, at the end, in all)."""
        now = self._monotonic()
        with self._lock:
            ended = [
                kind
                for kind, found in self._kinds.items()
                if everything or now - found.since >= SPAN_S
            ]
            gone = [self._kinds.pop(kind) for kind in ended]
        return [Withheld(each.label, each.withheld) for each in gone if each.withheld]
