"""Kills this process at a named place, for tests; in service nothing of it is in the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def kill_at(step: str, nth: int) -> Callable[[str], None]:
    """A failpoint that ends this process by SIGKILL at the `nth` time it reaches `step`."""
    seen = 0

    def check(here: str) -> None:
        nonlocal seen
        if here == step:
            seen += 1
            if seen == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    return check
