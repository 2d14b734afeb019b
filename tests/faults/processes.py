"""Real processes of the services, set up by the environment only, to be harmed by fault tests."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Self

from faults.fault_bus import Bus, until
from shutong_core.runtime.freeports import free_port


class ServiceProcess:
    """One process of a service, its log and its metrics."""

    def __init__(self, bus: Bus, service: str, command: list[str], **settings: str | None) -> None:
        """`settings`: of the service's own section, or whole names in capitals; None: left out."""
        self.log_path = bus.directory / f"{service}-{uuid.uuid4().hex[:6]}.log"
        self.port = free_port()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SHUTONG_")
        } | {
            "SHUTONG_PREFIX": bus.prefix,
            "SHUTONG_DATA_DIR": str(bus.directory),
            "SHUTONG_KAFKA_BOOTSTRAP_SERVERS": bus.bootstrap,
            "SHUTONG_KAFKA_REPLICATION": "1",
            "SHUTONG_KAFKA_MIN_ISR": "1",
            f"SHUTONG_{service.upper()}_ADMIN_PORT": str(self.port),
        }
        for name, value in settings.items():
            if value is not None:
                section = "" if name.isupper() else f"SHUTONG_{service.upper()}_"
                environment[section + name.upper()] = value
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command], env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.kill9()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill9(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(10)

    def wait_killed(self, seconds: float = 45) -> None:
        """Wait until a failpoint has killed it."""
        self._process.wait(seconds)
        assert self.exit_code == -signal.SIGKILL, self.tail()

    def stop(self) -> None:
        """SIGTERM; it must drain and end well."""
        self._process.terminate()
        assert self._process.wait(25) == 0, self.tail()

    def entries(self) -> list[dict[str, Any]]:
        """Its log so far; a line that is being written is left out."""
        found = []
        for line in self.log_path.read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def events(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Lines of its log with this event and these fields."""
        wanted = {"event": event, **fields}.items()
        return [
            entry
            for entry in self.entries()
            if all(entry.get(name) == value for name, value in wanted)
        ]

    def tail(self) -> str:
        """The last lines of its log, without the client's chatter."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(line[:300] for line in lines if '"aiokafka' not in line)[-2500:]


class BrokerProcess(ServiceProcess):
    """`python -m shutong_broker`, or one of its mutants."""

    def __init__(
        self,
        bus: Bus,
        *,
        bootstrap: str | None = None,
        failpoint: str | None = None,
        mutant: str | None = None,
        records_max: int = 20,
    ) -> None:
        command = ["-m", "shutong_broker"]
        if mutant:
            command = [str(Path(__file__).with_name("mutant_broker.py")), mutant]
        super().__init__(
            bus,
            "broker",
            command,
            failpoint=failpoint,
            session_timeout_ms="6000",
            transaction_records_max=str(records_max),
            SHUTONG_KAFKA_BOOTSTRAP_SERVERS=bootstrap,
        )

    def endings(self) -> list[dict[str, Any]]:
        """Ends of tenures of lanes, by a fault or because the lane was let go."""
        return [
            *self.events("lane attempt ended"),
            *self.events("lane status", state="released"),
        ]

    def failures(self, error_type: str) -> list[dict[str, Any]]:
        """Tenures of lanes that ended by this error."""
        return self.events("lane attempt ended", error_type=error_type)

    def wait_serving(self, lanes: int = 1, seconds: float = 40) -> None:
        """Wait until that many lanes were taken."""
        until(
            lambda: len({each["lane"] for each in self.events("lane taken")}) >= lanes,
            seconds,
            f"{lanes} lanes taken; log ends: {self.tail()}",
        )

    def transactions(self, outcome: str) -> float:
        """Its own count of transactions with this outcome."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("shutong_transactions_total{") and f'outcome="{outcome}"' in line
        )


class ProducerProcess(ServiceProcess):
    """`python -m shutong_producer`: records come in over HTTP."""

    def __init__(self, bus: Bus, *, failpoint: str | None = None) -> None:
        self._api = free_port()
        super().__init__(
            bus,
            "producer",
            ["-m", "shutong_producer"],
            failpoint=failpoint,
            http_port=str(self._api),
        )

    def ask(self, path: str, key: str, body: bytes | None = None) -> dict[str, Any]:
        """The JSON answer to one request. Raises OSError if there is none or it is an error."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._api}{path}",
            data=body,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return dict(json.load(answer))
        except http.client.HTTPException as error:
            raise OSError(f"the connection broke: {type(error).__name__}") from error

    def wait_ready(self, key: str) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            try:
                return bool(self.ask("/v1/datasets", key))
            except OSError:
                assert self.exit_code is None, self.tail()
                return False

        until(answers, 30, f"the producer service to answer: {self.tail()}")
