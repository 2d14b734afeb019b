"""A service ends by signal with what is under way finished, and says by exit code why it ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

PRELUDE = """
import asyncio, sys
from shutong_core.domain.errors import Fatal, Rejected, Retryable
from shutong_core.runtime.lifecycle import run
"""


def start(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "started" not in process.stdout.readline():
        pass
    return process


def test_sigterm_finishes_what_is_under_way_and_exits_zero() -> None:
    process = start("""
        async def service(stop):
            print("started", flush=True)
            await stop.wait()
            await asyncio.sleep(0.2)
            print("finished", flush=True)
        sys.exit(run(service))
    """)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "finished" in out


def test_the_drain_time_bounds_a_service_that_does_not_finish() -> None:
    process = start("""
        async def service(stop):
            print("started", flush=True)
            await asyncio.sleep(60)
        sys.exit(run(service, drain_s=0.2))
    """)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert time.monotonic() - began < 5


def test_a_second_signal_does_not_wait() -> None:
    process = start("""
        async def service(stop):
            print("started", flush=True)
            await asyncio.sleep(60)
        sys.exit(run(service, drain_s=60))
    """)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("raised", "code"),
    [("Rejected", 2), ("Fatal", 1), ("Retryable", 75), ("KeyError", 70)],
)
def test_the_exit_code_says_what_to_do(raised: str, code: int) -> None:
    process = start(f"""
        async def service(stop):
            print("started", flush=True)
            raise {raised}("why")
        sys.exit(run(service))
    """)
    process.communicate(timeout=20)
    assert process.returncode == code


def test_no_core_is_dumped() -> None:
    code = """
        import resource
        async def service(stop):
            print(resource.getrlimit(resource.RLIMIT_CORE)[0])
        sys.exit(run(service, uvloop=True))
    """
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.strip().endswith("0")


def test_a_fault_that_nobody_waited_for_is_told_by_type_and_place_only() -> None:
    code = """
        import gc
        from shutong_core.runtime.logs import configure_logs
        configure_logs("test")
        async def fail():
            b"441424199001011234\\xff".decode()
        async def service(stop):
            task = asyncio.create_task(fail())
            await asyncio.sleep(0)
            del task
            gc.collect()
        sys.exit(run(service))
    """
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert "UnicodeDecodeError" in done.stdout
    assert "frames" in done.stdout
    assert "fault outside of any task" in done.stdout
    assert "441424" not in done.stdout + done.stderr
