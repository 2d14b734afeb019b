"""When this process looks for garbage that refers to itself, so that no lane waits for it.

Python's full collection goes through every object there is: with a list of 10,000 grants that is
half a second in which no lane moves, and it comes whenever a quarter more objects were made, that
is, just while a large list is being read. Here a full collection comes only at start, when the
process has little to do, or when very much has piled up; what survives one is frozen, so that the
next goes only through what came since. The two young generations stay with Python: a millisecond.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

_NEVER = 2**31 - 1
#: Changed rows after which frozen objects are looked at again: a policy of a list that is gone is
#: some 300 objects, 26 KB.
ROWS_DUE = 1000
#: Little to do: at most this share of a processor since the last look, as often in a row.
IDLE_SHARE, IDLE_LOOKS = 0.1, 4
#: Collections of the middle generation (each 7,000 objects more) before a full one, which is short
#: unless frozen objects are due; while they are, only when memory may become short.
MIDDLE_MAX, MIDDLE_MAX_DUE = 100, 10_000


class Collector:
    """Python's collector in this process; make one, once, before the first list."""

    def __init__(
        self,
        processor_s: Callable[[], float] = time.process_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processor_s, self._monotonic = processor_s, monotonic
        self._looked = (monotonic(), processor_s())
        self._idle_looks = 0
        self._rows = 0
        self._started = False
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)

    def taken_up(self, rows: int) -> None:
        """A list that changed so many rows is in force."""
        self._rows += rows
        if not self._started:
            # No lane runs before the first list.
            self._started = True
            self._renew()

    def tend(self) -> None:
        """Collect if it is time to; call it every half second or so."""
        idle, middles = self._idle(), gc.get_count()[2]
        due = self._rows >= ROWS_DUE
        if idle and due:
            self._renew()
        elif (idle and middles) or middles >= (MIDDLE_MAX_DUE if due else MIDDLE_MAX):
            gc.collect()
            gc.freeze()

    def _renew(self) -> None:
        """Go through everything, frozen or not."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._rows = 0

    def _idle(self) -> bool:
        now = self._monotonic(), self._processor_s()
        passed, worked = now[0] - self._looked[0], now[1] - self._looked[1]
        self._looked = now
        self._idle_looks = self._idle_looks + 1 if worked <= IDLE_SHARE * passed else 0
        return self._idle_looks >= IDLE_LOOKS
