"""Named places in the intake where a test may kill the process; in service they do nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.failpoint import kill_at

Step = Literal["before-ack", "after-ack", "between-batches"]
Failpoint = Callable[[Step], None]


def no_failpoint(step: Step) -> None:
    """What runs in service."""


def failpoint_of(text: str | None) -> Failpoint:
    """The failpoint in `<step>:<n>`: SIGKILL at the n-th time the step is reached.

    None or "" is none. Raises Fatal for any other text.
    """
    if not text:
        return no_failpoint
    step, _, count = text.partition(":")
    if step not in get_args(Step) or not count.isdecimal() or int(count) < 1:
        raise Fatal(f"failpoint must be <step>:<n>, step one of {', '.join(get_args(Step))}")
    return kill_at(step, int(count))
