"""A service that ends by itself: what is said of it, and how the others are stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from shutong_cli.supervisor import ServicePlan, Supervisor
from shutong_core.domain.errors import Fatal

SLEEPER = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)\n"


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(tmp_path / "logs", {**os.environ, "PYTHONPATH": str(tmp_path)})


async def started(supervisor: Supervisor, tmp_path: Path, program: str) -> None:
    (tmp_path / "played.py").write_text(program, encoding="utf-8")
    await supervisor.start(ServicePlan("broker", "played", {}, "http://127.0.0.1:1"))


async def fault(supervisor: Supervisor) -> str:
    async with asyncio.timeout(20):
        while True:
            try:
                supervisor.check_all()
            except Fatal as error:
                return str(error)
            await asyncio.sleep(0.02)


async def test_the_fault_says_who_ended_and_that_nothing_is_lost(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    await started(supervisor, tmp_path, "import time\ntime.sleep(60)\n")
    supervisor._children["broker"].send_signal(signal.SIGTERM)
    said = await fault(supervisor)
    assert "Service broker was ended by SIGTERM, so everything was stopped" in said
    assert "没有丢失" in said
    assert str(supervisor.log_file("broker")) in said


async def test_the_fault_quotes_the_last_error_as_text_and_of_this_run_only(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    def line(text: str) -> str:
        return json.dumps({"level": "error", "event": "fatal", "error": text})

    supervisor.log_file("broker").parent.mkdir()
    supervisor.log_file("broker").write_text(line("of an earlier run") + "\n", encoding="utf-8")
    await started(supervisor, tmp_path, "raise SystemExit(1)\n")
    said = await fault(supervisor)
    assert "ended by itself (exit code 1)" in said
    assert "earlier run" not in said

    await started(
        supervisor, tmp_path, f"print({line('port 9800 is taken')!r})\nraise SystemExit(1)"
    )
    said = await fault(supervisor)
    assert "\nport 9800 is taken\n" in said
    assert "{" not in said


async def test_what_was_never_ready_is_not_waited_for_long(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    await started(supervisor, tmp_path, SLEEPER)
    await asyncio.sleep(1)
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 8
