"""Runs the bus's services as child processes: starts them in order, stops them in reverse.

Each child is told apart by its process id; nothing is ever stopped by name.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from shutong_core.domain.errors import Fatal

READY_S_MAX = 60.0
STOP_S_MAX = 15.0
#: A service that is not ready yet has nothing to finish.
STOP_UNREADY_S_MAX = 5.0
LOG_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One service to run: Python module, its own settings, where it answers."""

    name: str
    module: str
    environment: Mapping[str, str]
    admin_url: str
    url: str | None = None


class Supervisor:
    """Child processes of one `shutong up`; logs go to one file per service."""

    def __init__(self, log_dir: Path, environment: Mapping[str, str]) -> None:
        self._log_dir = log_dir
        self._environment = dict(environment)
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._plans: dict[str, ServicePlan] = {}
        self._log_starts: dict[str, int] = {}
        self._all_ready = False

    @property
    def plans(self) -> tuple[ServicePlan, ...]:
        """What was started, in order."""
        return tuple(self._plans.values())

    def log_file(self, name: str) -> Path:
        """Where that service's output goes."""
        return self._log_dir / f"{name}.log"

    async def start(self, plan: ServicePlan) -> None:
        """Start one service. It runs in a session of its own: Ctrl-C reaches only this process."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        with self.log_file(plan.name).open("ab") as log:
            self._log_starts[plan.name] = log.tell()
            self._children[plan.name] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                plan.module,
                env={**self._environment, **plan.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._plans[plan.name] = plan

    async def ready(self) -> None:
        """Wait until every service says it is ready. Raises Fatal with what to look at."""
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
            await asyncio.gather(*(self._ready(http, plan) for plan in self.plans))
        self._all_ready = True

    async def _ready(self, http: httpx.AsyncClient, plan: ServicePlan) -> None:
        deadline = asyncio.get_running_loop().time() + READY_S_MAX
        why = "no answer"
        while asyncio.get_running_loop().time() < deadline:
            self.check(plan.name)
            try:
                answer = await http.get(f"{plan.admin_url}/readyz", params={"verbose": "1"})
                if answer.status_code == httpx.codes.OK:
                    return
                why = answer.text[:500]
                if "halted" in why:
                    break  # waiting does not help any more
            except httpx.HTTPError as error:
                why = type(error).__name__
            await asyncio.sleep(0.05)
        raise Fatal(
            f"{plan.name} 未就绪 / is not ready: {why}\n日志 / log: {self.log_file(plan.name)}"
        )

    def check(self, name: str) -> None:
        """Raise Fatal if that service has ended by itself."""
        code = self._children[name].returncode
        if code is None:
            return
        zh, en = _ending(code)
        word = self._last_word(name) if code > 0 else ""
        raise Fatal(
            f"{name} 服务{zh}，因此停止了全部服务。已受理的数据都在 Kafka 中，没有丢失，"
            "重新运行即从停下处继续。"
            f" Service {name} {en}, so everything was stopped. Nothing that was accepted is lost:"
            f" run it again, it goes on where it stopped.\n{word}"
            f"日志 log: {self.log_file(name)}"
        )

    def _last_word(self, name: str) -> str:
        """The last error that the service logged in this run, as a line of text; may be empty."""
        with self.log_file(name).open("rb") as log:
            end = log.seek(0, 2)
            log.seek(max(self._log_starts[name], end - LOG_TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
        for line in reversed(lines):
            try:
                said = json.loads(line)
            except ValueError:
                continue  # of a library, or cut
            if isinstance(said, dict) and said.get("level") in ("error", "critical"):
                return f"{said.get('error') or said.get('event')}\n"
        return ""

    def check_all(self) -> None:
        """Raise Fatal if any service has ended by itself."""
        for name in self._children:
            self.check(name)

    async def stop(self) -> None:
        """SIGTERM in reverse order, SIGKILL for whoever does not drain in time.

        Before all were ready, all at once: nothing is under way that must end in order.
        """
        children = list(reversed(self._children.values()))
        self._children.clear()
        if self._all_ready:
            for child in children:
                await _stop(child, STOP_S_MAX)
        else:
            await asyncio.gather(*(_stop(child, STOP_UNREADY_S_MAX) for child in children))


def _ending(code: int) -> tuple[str, str]:
    """How a process ended, by its exit code."""
    if code == 0:
        return "被要求停止（退出码 0）", "was asked to stop by somebody (exit code 0)"
    if code < 0:
        name = signal.Signals(-code).name
        return f"被 {name} 结束", f"was ended by {name}"
    return f"自行退出（退出码 {code}）", f"ended by itself (exit code {code})"


async def _stop(child: asyncio.subprocess.Process, seconds: float) -> None:
    if child.returncode is not None:
        return
    child.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(seconds):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
