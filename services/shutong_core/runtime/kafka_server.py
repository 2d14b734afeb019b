"""Runs the embedded Kafka: a real single KRaft node on loopback, as a child process.

Rule: one process owns a data directory. Two locks hold that: `owner.lock` is the Python process's,
`server.lock` is inherited by the JVM, so it is held for as long as a JVM writes there, even if its
parent was killed. Ports are kept in the directory, so a restart finds its clients again.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.freeports import HOST
from shutong_core.runtime.kafka_jars import KafkaJars, Toolchain, find_jars, find_java
from shutong_core.runtime.kafka_launch import (
    POLL_S,
    REAL,
    Profile,
    end_old_session,
    format_storage,
    prepare,
    render,
    spawn,
    stopped_uncleanly,
    wait_until,
    write_atomically,
)
from shutong_core.runtime.kafka_ports import (
    Ports,
    answers_metadata,
    choose_ports,
    port_is_free,
    read_ports,
)

LOG_LINES_SHOWN = 12
PORT_ATTEMPTS = 5


class EmbeddedKafka:
    """One embedded node on one data directory. Blocking; call from a thread in async code."""

    def __init__(
        self,
        data_dir: Path,
        tools: Toolchain,
        *,
        port: int | None = None,
        advertised_port: int | None = None,
        profile: Profile = REAL,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        """`port` and `advertised_port` override what the directory remembers.

        `overrides` are further lines of server.properties, for tests.
        """
        self.data_dir = data_dir.resolve()
        self._tools = tools
        self._wanted = (port, advertised_port)
        self._profile = profile
        self._overrides = dict(overrides or {})
        self._ports: Ports | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: IO[bytes] | None = None

    @property
    def ports(self) -> Ports:
        """The ports in use. Raises RuntimeError before the first start."""
        if self._ports is None:
            raise RuntimeError("the embedded Kafka was not started")
        return self._ports

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, `host:port`."""
        return f"{HOST}:{self.ports.port}"

    @property
    def proxied_bootstrap_servers(self) -> str:
        """Address that only works while a proxy listens on `ports.advertised`."""
        return f"{HOST}:{self.ports.advertised}"

    @property
    def pid(self) -> int | None:
        """Process id of the JVM; None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log_file(self) -> Path:
        """Kafka's own log."""
        return self.data_dir / "logs" / "server.log"

    def start(self, timeout_s: float = 60) -> None:
        """Start, wait until a metadata request is answered. Does nothing if it runs.

        Raises Fatal that shows the last log lines and what to do.
        """
        if self.pid is not None:
            return
        jars, java = find_jars(self._tools), find_java(self._tools)
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_ownership()
        try:
            archive = prepare(jars, java)
            remembered = read_ports(self.data_dir)
            for attempt in range(PORT_ATTEMPTS):
                self._ports = choose_ports(remembered, self._wanted)
                try:
                    self._boot(jars, java, archive, timeout_s)
                    break
                except _PortTaken as taken:
                    if remembered or self._wanted[0] or attempt == PORT_ATTEMPTS - 1:
                        raise self._port_fault(taken.port) from None
            write_atomically(self.data_dir / "ports.json", json.dumps(asdict(self.ports)).encode())
        except BaseException:
            self.kill9()
            raise

    def stop(self, timeout_s: float = 30) -> None:
        """Stop cleanly (SIGTERM); kill it if that takes longer than `timeout_s` seconds."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._release()

    def kill9(self) -> None:
        """Kill it without warning, as a power cut of the process; the data stay."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._release()

    def pause(self) -> None:
        """Freeze the JVM (SIGSTOP): connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused JVM go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> EmbeddedKafka:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("the embedded Kafka does not run")
        self._process.send_signal(number)

    def _take_ownership(self) -> None:
        owner = (self.data_dir / "owner.lock").open("ab")
        if not _try_lock(owner):
            owner.close()
            raise Fatal(
                f"数据目录 {self.data_dir} 正由另一个进程使用：请先停止它，"
                "或用 SHUTONG_DATA_DIR 另选目录。"
                f" The data directory {self.data_dir} is in use by another process:"
                " stop it first, or choose another directory by SHUTONG_DATA_DIR."
            )
        self._owner = owner
        _stop_orphan(self.data_dir)

    def _release(self) -> None:
        self._process = None
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def _boot(self, jars: KafkaJars, java: Path, archive: Path | None, timeout_s: float) -> None:
        """One start of the JVM, up to the first answer."""
        ports = self.ports
        for port in (ports.port, ports.controller, ports.proxied):
            if not port_is_free(port):
                raise _PortTaken(port)
        log_dir = format_storage(self.data_dir, jars, java)
        if stopped_uncleanly(log_dir):
            end_old_session(self.data_dir, jars, java, ports, archive)
        properties = render(ports, log_dir, self._overrides)
        write_atomically(self.data_dir / "server.properties", properties.encode())
        self.log_file.parent.mkdir(exist_ok=True)
        options = list(self._profile.options)
        if archive is not None:
            options += [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", "-Xlog:disable"]
        with (self.data_dir / "server.lock").open("ab") as lock:
            if not _try_lock(lock):
                raise Fatal(
                    f"另一个 Kafka 正在使用 {self.data_dir}。 Another Kafka uses {self.data_dir}."
                )
            self._process = spawn(
                java, jars, self.data_dir, self._profile.heap_mb, options, lock_fd=lock.fileno()
            )
        (self.data_dir / "server.pid").write_text(str(self._process.pid))
        self._wait_ready(timeout_s)

    def _wait_ready(self, timeout_s: float) -> None:
        process = self._process
        if process is None:
            raise RuntimeError("not started")
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise self._start_fault(f"exit code {process.returncode}")
            if answers_metadata(HOST, self.ports.port):
                return
            time.sleep(POLL_S)
        raise self._start_fault(f"no answer within {timeout_s:.0f} s")

    def _start_fault(self, what: str) -> Fatal:
        lines: list[str] = []
        for name in ("server.log", "console.log"):
            path = self.data_dir / "logs" / name
            if path.exists():
                with path.open("rb") as stream:
                    stream.seek(max(0, path.stat().st_size - 16_384))
                    tail = stream.read().decode("utf-8", "replace").splitlines()
                lines += tail[-LOG_LINES_SHOWN:]
        shown = "\n".join(f"  {line[:300]}" for line in lines)
        return Fatal(
            f"内置 Kafka 启动失败（{what}）。请查看 {self.log_file}；常见原因："
            "磁盘已满、端口被占用、上次的数据目录损坏。数据可以放弃时，删除该目录后重新启动。"
            f" The embedded Kafka did not start ({what}). See {self.log_file}; usual causes: a full"
            " disk, a port in use, a damaged data directory. If its data may be lost, remove the"
            f" directory and start again.\n{shown}"
        )

    def _port_fault(self, port: int) -> Fatal:
        return Fatal(
            f"端口 {port} 已被占用，内置 Kafka 无法使用。请停止占用它的程序，"
            f"或删除 {self.data_dir / 'ports.json'} 以另选端口。"
            f" Port {port} is taken: stop the program that uses it, or remove"
            f" {self.data_dir / 'ports.json'} to have other ports chosen."
        )


class _PortTaken(Exception):  # noqa: N818 - an answer, handled in this module
    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.port = port


def _stop_orphan(directory: Path) -> None:
    """Stop a JVM whose parent was killed: it holds server.lock while nobody holds owner.lock."""
    with (directory / "server.lock").open("ab") as lock:
        if _try_lock(lock):
            return
    advice = Fatal(
        f"上次留下的 Kafka 仍在使用 {directory}，请手动结束它（进程号见 server.pid）。"
        f" A Kafka left from an earlier run still uses {directory}: end it (pid in server.pid)."
    )
    try:
        pid = int((directory / "server.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        raise advice from None
    # The pid may have been reused: only a JVM with this very directory is ours.
    if f"-Dshutong.kafka.logs={directory / 'logs'}".encode() not in command:
        raise advice
    os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: _lock_is_free(directory / "server.lock"), 30):
        raise advice


def _lock_is_free(path: Path) -> bool:
    with path.open("ab") as lock:
        return _try_lock(lock)


def _try_lock(opened: IO[bytes]) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
