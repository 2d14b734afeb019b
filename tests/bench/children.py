"""Child processes of a benchmark: started with a log of their own, watched through /proc, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

STOP_S_MAX = 30.0
POLL_S = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ChildFailed(Exception):  # noqa: N818 - told as it is
    """A process ended or did not come up; the message shows the end of its log."""


def rss_mb_of(pid: int) -> float:
    """Resident memory of a process in MiB; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20
    except (OSError, IndexError):
        return 0.0


def cpu_s_of(pid: int) -> float:
    """Processor seconds that a process has used, all threads; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError):
        return 0.0


class Child:
    """One process, from start until `stop`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment) if environment is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the benchmark, which then stops its children in order.
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def rss_mb(self) -> float:
        """Resident memory in MiB."""
        return rss_mb_of(self.pid)

    @property
    def cpu_s(self) -> float:
        """Processor seconds used so far."""
        return cpu_s_of(self.pid)

    def check(self) -> None:
        """Raises ChildFailed if it has ended."""
        if not self.running:
            code = self._process.returncode
            raise ChildFailed(f"{self.name} ended with code {code}:\n{self.tail()}")

    def tail(self, lines: int = 25) -> str:
        """The end of its log."""
        text = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(line[:400] for line in text[-lines:])

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if it takes too long."""
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


class BrokerChild(Child):
    """One `shutong broker` process."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        admin_port: int,
    ) -> None:
        super().__init__(name, command, log, environment)
        self.admin_port = admin_port

    def metrics(self) -> dict[str, float]:
        """Its metrics now, by name with labels as the exposition writes them; {} if not up yet."""
        found = {}
        for line in self._ask("/metrics").splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def total(self, metric: str, having: str = "") -> float:
        """Sum of one metric over all labels, or over those whose text contains `having`."""
        found = self.metrics().items()
        named = (metric, f"{metric}{{")
        return sum(value for name, value in found if name.startswith(named) and having in name)

    @property
    def is_ready(self) -> bool:
        """Whether /readyz says so."""
        return bool(self._ask("/readyz"))

    @property
    def lanes_held(self) -> int:
        """Lanes that it holds now."""
        return int(self.total("shutong_lanes_held"))

    def _ask(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""


def wait_until(
    done: Callable[[], bool],
    seconds: float,
    what: str,
    children: Sequence[Child] = (),
    poll_s: float = POLL_S,
) -> None:
    """Poll `done()` until true. Raises ChildFailed if it takes too long or a child ended."""
    end = time.monotonic() + seconds
    while not done():
        for child in children:
            child.check()
        if time.monotonic() > end:
            tails = "\n".join(f"--- {child.name}\n{child.tail()}" for child in children)
            raise ChildFailed(f"not within {seconds:g} s: {what}\n{tails}")
        time.sleep(poll_s)
