"""Long commands end as asked: with what they raised, or cleaned up after a signal."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
import typer

from shutong_cli.foreground import cancelled_by_stop, run_foreground
from shutong_core.domain.errors import Fatal, Retryable, ShutongError
from shutong_core.runtime.lifecycle import Stop
from unit.cli_runner import clean_logs

__all__ = ["clean_logs"]
pytestmark = pytest.mark.usefixtures("clean_logs")


async def never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("fault", [Fatal("broken"), Retryable("later")], ids=["fatal", "passing"])
def test_a_fault_reaches_the_command_that_explains_it(fault: ShutongError) -> None:
    async def service(_: Stop) -> None:
        raise fault

    with pytest.raises(type(fault), match=str(fault)):
        run_foreground(service, 1)


def test_a_defect_has_its_own_exit_code() -> None:
    async def service(_: Stop) -> None:
        raise ZeroDivisionError

    with pytest.raises(typer.Exit) as caught:
        run_foreground(service, 1)
    assert caught.value.exit_code == 70


def test_a_service_that_stops_as_asked_ends_well() -> None:
    async def service(stop: Stop) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()

    run_foreground(service, 1)


def test_work_is_cancelled_by_a_signal_and_cleans_up() -> None:
    cleaned: list[bool] = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await never()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    with pytest.raises(typer.Exit) as caught:
        run_foreground(cancelled_by_stop(work), 5)
    assert caught.value.exit_code == 130
    assert cleaned == [True]


def test_work_that_ends_by_itself_ends_the_command() -> None:
    done: list[bool] = []

    async def work() -> None:
        done.append(True)

    run_foreground(cancelled_by_stop(work), 5)
    assert done == [True]
