"""Builds what one embedded Kafka runs from: settings, formatted storage, class data, command.

Two things are made once per cache and copied or mapped later: the formatted storage's template
and the class-data archive.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import string
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.freeports import HOST
from shutong_core.runtime.kafka_jars import KafkaJars
from shutong_core.runtime.kafka_ports import (
    Ports,
    answers_metadata,
    choose_ports,
    port_is_free,
)
from shutong_core.runtime.resources import locate

POLL_S = 0.05
FENCING_MAX_S = 5.0
FENCING_WRITE_S = 0.5
#: What a controller without a broker refuses or has no use for.
_BROKER_ONLY = (
    "process.roles=",
    "listeners=",
    "advertised.listeners=",
    "inter.broker.listener.name=",
    "broker.session.timeout.ms=",
    "broker.heartbeat.interval.ms=",
)


@dataclass(frozen=True, slots=True)
class Profile:
    """How the JVM runs: `REAL` for use, `QUICK` for tests that start and stop it often."""

    heap_mb: int
    options: tuple[str, ...]


REAL = Profile(512, ("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:+ExplicitGCInvokesConcurrent"))
QUICK = Profile(256, ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"))


def prepare(jars: KafkaJars, java: Path) -> Path | None:
    """Once per cache: make the class-data archive that halves the time of every later start.

    A throw-away node is started and stopped for it. Returns None if the JVM wrote no archive;
    everything works without, only slower.
    """
    jars.derived.mkdir(parents=True, exist_ok=True)
    # A Java that was upgraded in place would ignore the old archive without a word.
    found = java.resolve().stat()
    about = f"{java.resolve()}|{found.st_size}|{found.st_mtime_ns}"
    java_id = hashlib.sha256(about.encode()).hexdigest()[:8]
    stem = f"{jars.identity}-{java_id}"
    archive = jars.derived / f"{stem}.jsa"
    with (jars.derived / "prepare.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists() or (jars.derived / f"{stem}.none").exists():
            return archive if archive.exists() else None
        scratch = jars.derived / f".prepare-{os.getpid()}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        try:
            _make_archive(jars, java, scratch, scratch / "archive.jsa")
            if (scratch / "archive.jsa").exists():
                for outdated in jars.derived.glob(f"*-{java_id}.jsa"):
                    outdated.unlink()
                (scratch / "archive.jsa").rename(archive)
                return archive
            (jars.derived / f"{stem}.none").touch()
            return None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _make_archive(jars: KafkaJars, java: Path, scratch: Path, target: Path) -> None:
    ports = choose_ports(None, (None, None))
    log_dir = format_storage(scratch, jars, java)
    (scratch / "server.properties").write_text(render(ports, log_dir, {}))
    (scratch / "logs").mkdir()
    options = ["-XX:+UseSerialGC", f"-XX:ArchiveClassesAtExit={target}", "-Xlog:disable"]
    process = spawn(java, jars, scratch, QUICK.heap_mb, options)
    try:
        wait_until(lambda: process.poll() is not None or answers_metadata(HOST, ports.port), 60)
        process.terminate()
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stopped_uncleanly(log_dir: Path) -> bool:
    """True if a node ran there and was killed."""
    used = (log_dir / "__cluster_metadata-0").exists()
    return used and not (log_dir / ".kafka_cleanshutdown").exists()


def end_old_session(
    directory: Path, jars: KafkaJars, java: Path, ports: Ports, archive: Path | None
) -> None:
    """After a kill: run the controller alone until it has fenced the killed broker.

    Otherwise the node starts under the registration of its killed predecessor, takes up its
    transactions too early, and Kafka 4.3.1 then notes a decided commit as complete without
    writing its marker: read_committed readers of that partition would hang for good.
    """
    config = render(ports, directory / "data", {})
    lines = [line for line in config.splitlines() if not line.startswith(_BROKER_ONLY)]
    lines += ["process.roles=controller", f"listeners=CONTROLLER://{HOST}:{ports.controller}"]
    lines += ["broker.session.timeout.ms=200", "broker.heartbeat.interval.ms=50"]
    lines += ["controller.quorum.append.linger.ms=0"]
    (directory / "server.properties").write_text("\n".join(lines) + "\n")
    (directory / "logs").mkdir(exist_ok=True)
    options = list(QUICK.options)
    if archive is not None:
        options += [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", "-Xlog:disable"]
    log = directory / "logs" / "server.log"
    old_size = log.stat().st_size if log.exists() else 0
    process = spawn(java, jars, directory, QUICK.heap_mb, options)
    try:
        wait_until(lambda: process.poll() is not None or not port_is_free(ports.controller), 30)
        # Not seen in time: the broker was fenced already, nothing is left to wait for.
        wait_until(lambda: process.poll() is not None or _logged(log, old_size), FENCING_MAX_S)
        # The line is written when the record is made; give it time to reach the log.
        wait_until(lambda: process.poll() is not None, FENCING_WRITE_S)
        process.terminate()
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _logged(log: Path, after: int) -> bool:
    if not log.exists():
        return False
    with log.open("rb") as stream:
        # A rolled file is shorter than before: read it from its beginning.
        stream.seek(after if log.stat().st_size >= after else 0)
        return b"Fencing broker" in stream.read()


def spawn(
    java: Path,
    jars: KafkaJars,
    directory: Path,
    heap_mb: int,
    options: Sequence[str],
    *,
    lock_fd: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start the JVM on `directory`/server.properties; `lock_fd` stays open in it until it ends."""
    log4j = locate("deploy/kafka") / "log4j2.properties"
    command = [str(java), f"-Xmx{heap_mb}m", f"-Xms{min(heap_mb, 128)}m", *options]
    command += ["-Djava.awt.headless=true", f"-Dshutong.kafka.logs={directory / 'logs'}"]
    command += [f"-Dlog4j2.configurationFile={log4j}", "-cp", jars.classpath]
    command += ["kafka.Kafka", str(directory / "server.properties")]
    with (directory / "logs" / "console.log").open("wb") as console:
        return subprocess.Popen(  # noqa: S603 - own command line, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal must reach the services first, Kafka last.
            start_new_session=True,
            pass_fds=() if lock_fd is None else (lock_fd,),
        )


def format_storage(directory: Path, jars: KafkaJars, java: Path) -> Path:
    """The formatted log directory below `directory`; formats it from the cache's template once."""
    log_dir = directory / "data"
    if (log_dir / "meta.properties").exists():
        return log_dir
    template = jars.derived / f"bootstrap-{jars.identity}.checkpoint"
    if not template.exists():
        _make_template(jars, java, template)
    log_dir.mkdir(exist_ok=True, mode=0o700)
    shutil.copyfile(template, log_dir / "bootstrap.checkpoint")
    # Last, and at once: it is what says that the directory is formatted.
    meta = f"version=1\ncluster.id={_kafka_uuid()}\nnode.id=1\ndirectory.id={_kafka_uuid()}\n"
    write_atomically(log_dir / "meta.properties", meta.encode())
    return log_dir


def _make_template(jars: KafkaJars, java: Path, template: Path) -> None:
    jars.derived.mkdir(parents=True, exist_ok=True)
    scratch = jars.derived / f".format-{uuid.uuid4().hex}"
    scratch.mkdir(mode=0o700)
    try:
        config = scratch / "server.properties"
        config.write_text(render(choose_ports(None, (None, None)), scratch / "data", {}))
        command = [str(java), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += ["-cp", jars.classpath, "kafka.tools.StorageTool", "format"]
        command += ["-t", _kafka_uuid(), "-c", str(config)]
        done = subprocess.run(  # noqa: S603 - own command line, no shell
            command, capture_output=True, text=True, timeout=120, check=False
        )
        formatted = scratch / "data" / "bootstrap.checkpoint"
        if done.returncode != 0 or not formatted.exists():
            raise Fatal(
                "内置 Kafka 无法初始化数据目录。 The embedded Kafka could not format its storage:\n"
                + (done.stdout + done.stderr)[-2000:]
            )
        formatted.rename(template)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def render(ports: Ports, log_dir: Path, overrides: Mapping[str, str]) -> str:
    """server.properties of this node."""
    template = string.Template((locate("deploy/kafka") / "server.properties").read_text())
    text = template.substitute(
        port=ports.port,
        controller_port=ports.controller,
        proxied_port=ports.proxied,
        advertised_port=ports.advertised,
        log_dir=log_dir,
    )
    return text + "".join(f"{name}={value}\n" for name, value in overrides.items())


def wait_until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until `done`; False if it is not within `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file in one step, so that a reader sees the old or the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(data)
    scratch.replace(path)


def _kafka_uuid() -> str:
    """16 random bytes as Kafka writes them: base64url without padding, no leading dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
