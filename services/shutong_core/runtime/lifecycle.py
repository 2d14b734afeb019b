"""Runs one service from start to exit code: signals, draining, the last word on a fault.

SIGTERM or SIGINT asks to stop; what is under way is finished within the drain time. A second
signal, or the end of that time, cancels. Exit codes: 0 ended as asked, 1 fatal, 2 wrong input or
settings, 75 a passing fault (start me again), 70 a defect.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import resource
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from shutong_core.domain.errors import Fatal, Rejected, Retryable
from shutong_core.runtime.foreignlogs import fixed_words

EXIT_OK, EXIT_FATAL, EXIT_REJECTED, EXIT_DEFECT, EXIT_RETRY = 0, 1, 2, 70, 75
#: Files and sockets the process asks the system for.
FILES_MAX = 65_536
_log = structlog.stdlib.get_logger(__name__)


class Stop:
    """The wish to stop, shared by all tasks of a service."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def requested(self) -> bool:
        """True once somebody asked."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask all tasks to finish."""
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody asks; False if nobody did within `timeout_s` seconds."""
        return await happens(self._event, timeout_s)


async def happens(event: asyncio.Event, within_s: float | None) -> bool:
    """Wait for `event`; False if it did not happen within so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
    return event.is_set()


Service = Callable[[Stop], Awaitable[None]]


def run(service: Service, *, drain_s: float = 10, uvloop: bool = False) -> int:
    """Run `service` until it returns; returns the process's exit code."""
    _harden()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if uvloop:
        import uvloop as fast  # noqa: PLC0415 - only where it was asked for

        factory = fast.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            runner.run(_supervise(service, drain_s))
        except Rejected as error:
            _log.error("refused", error=str(error))
            return EXIT_REJECTED
        except Retryable as error:
            _log.error("passing fault", error=str(error), remedy="start again")
            return EXIT_RETRY
        except Fatal as error:
            _log.error("fatal", error=str(error))
            return EXIT_FATAL
        except Exception as error:
            _log.error("defect", exc_info=error)
            return EXIT_DEFECT
    return EXIT_OK


async def _supervise(service: Service, drain_s: float) -> None:
    stop = Stop()
    task = asyncio.ensure_future(service(stop))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_fault)

    def on_signal(number: signal.Signals) -> None:
        if stop.requested:
            _log.warning("second signal, not waiting any longer", signal=number.name)
            task.cancel()
        else:
            _log.info("stopping", signal=number.name, deadline_s=drain_s)
            stop.request()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        waiting = asyncio.ensure_future(stop.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not task.done():
            await asyncio.wait({task}, timeout=drain_s)
        if not task.done():
            _log.warning("drain time is over", deadline_s=drain_s)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _on_loop_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what nobody waited for by type and place; asyncio would quote reprs, and so data."""
    problem = fixed_words(str(context.get("message", "")))
    _log.error(
        "fault outside of any task's care", problem=problem, exc_info=context.get("exception")
    )


def _harden() -> None:
    # A core dump would hold keys and records.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Connections are bounded by what may be open; the usual soft bound is for interactive use.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if most == resource.RLIM_INFINITY else min(most, FILES_MAX)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    if not faulthandler.is_enabled():
        faulthandler.enable()
