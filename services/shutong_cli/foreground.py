"""Runs something long in this process until it ends or a signal asks it to, then says why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import typer

from shutong_cli.output import explain
from shutong_core.domain.errors import ShutongError
from shutong_core.runtime.lifecycle import Service, Stop, run


def run_foreground(service: Service, drain_s: float) -> None:
    """Run until `service` returns; after SIGTERM or Ctrl-C it has `drain_s` seconds.

    Raises what the service raised, typer.Exit if it ended with another exit code than 0.
    """
    faults: list[ShutongError | typer.Exit] = []
    defects: list[Exception] = []

    async def remembering(stop: Stop) -> None:
        try:
            await service(stop)
        except (ShutongError, typer.Exit) as error:
            faults.append(error)
        except Exception as error:
            defects.append(error)
            raise

    code = run(remembering, drain_s=drain_s)
    if faults:
        raise faults[0]
    if defects:
        raise typer.Exit(explain(defects[0]))  # the log may be a file that nobody looks at
    if code:
        raise typer.Exit(code)


def cancelled_by_stop(work: Callable[[], Awaitable[None]]) -> Service:
    """A service that does `work` and cancels it when asked to stop, so that it cleans up."""

    async def service(stop: Stop) -> None:
        task = asyncio.ensure_future(work())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise typer.Exit(130)
        await task

    return service
