"""Named places in a transaction where a test may kill the process.

The names are the steps of a transaction; in service they do nothing.
"""

from __future__ import annotations

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
