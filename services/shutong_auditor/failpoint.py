"""Named places in the publishing of a checkpoint where a test may kill the process.

In service they do nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import structlog

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.failpoint import kill_at

Step = Literal["recomputed", "signed", "cosigned", "stored", "published"]
Failpoint = Callable[[Step], None]
_log = structlog.stdlib.get_logger(__name__)


def failpoint_of(setting: str | None) -> Failpoint:
    """The failpoint of `<step>:<n>`: SIGKILL at the n-th time; None does nothing. Raises Fatal."""
    if setting is None:
        return lambda _: None
    step, _, nth = setting.partition(":")
    if step not in get_args(Step):
        raise Fatal(f"no failpoint is called {step}: {', '.join(get_args(Step))}")
    _log.warning("FAILPOINT set: this process will kill itself", name=step, count=int(nth))
    return kill_at(step, int(nth))
