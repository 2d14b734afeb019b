"""Named places in a transaction where a test may kill the process.

The names are the steps of a transaction; in service they do nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Literal

Step = Literal[
    "after-begin",
    "after-first-send",
    "after-sends",
    "after-flush",
    "after-offsets",
    "end-txn-sent",
    "after-commit",
]
Failpoint = Callable[[Step], None]


def no_failpoint(step: Step) -> None:
    """What runs in service."""


def kill_at(step: Step, nth: int) -> Failpoint:
    """A failpoint that ends this process by SIGKILL at the `nth` time it reaches `step`."""
    seen = 0

    def check(here: Step) -> None:
        nonlocal seen
        if here == step:
            seen += 1
            if seen == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    return check
