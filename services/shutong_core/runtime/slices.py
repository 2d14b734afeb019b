"""Runs long work on the event loop in slices, so that whatever else runs there is never held up.

A slice is short, but not shorter than what the others took since the last one, up to a limit:
with a fixed short slice, busy lanes would leave the work a tenth of the processor, and a new list
would not be taken up before the lease of the old one ends. Half of it is its share. What may take
its time goes gently: a transaction comes back to the loop some thirty times, and waits for a slice
each time.

Not a thread: it would hold the interpreter for `sys.getswitchinterval()` each time the loop lets
go of it, which is at every read and write of a socket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from shutong_core.domain.steps import Steps, T

#: Shortest and longest slice, in seconds: of what others wait for, and of what may take its time.
BRISK, GENTLE = (0.004, 0.020), (0.001, 0.006)


async def in_slices(
    steps: Steps[T],
    clock: Callable[[], float] = time.perf_counter,
    *,
    pace: tuple[float, float] = BRISK,
) -> T:
    """The result of `steps`; other tasks run between slices. Raises what `steps` raises."""
    shortest_s, longest_s = pace
    others_s = 0.0
    while True:
        began = clock()
        end = began + min(max(others_s, shortest_s), longest_s)
        now = began
        while now < end:
            try:
                next(steps)
            except StopIteration as done:
                result: T = done.value
                return result
            now = clock()
        await asyncio.sleep(0)
        others_s = clock() - now
