"""The Kafka Streams peer: built by Maven once for each state of its source, below build/."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from shutong_core.runtime.kafka_jars import find_java
from shutong_core.runtime.settings import toolchain

SOURCE = Path(__file__).parent / "streams"
BUILT = Path(__file__).parents[2] / "build" / "bench" / "streams"
MAIN = "cn.shutong.bench.ReferenceJob"
#: Heap to spare and the collector that gives most throughput on few cores.
JVM = ("-Xms1g", "-Xmx1g", "-XX:+UseParallelGC")


def build() -> str | None:
    """Build it if its source changed; why that failed, or None."""
    maven = shutil.which("mvn")
    if maven is None:
        return "Maven (mvn) is not installed"
    state = _state()
    done = BUILT / ".built"
    if done.exists() and done.read_text() == state:
        return None
    command = [maven, "-q", "-ntp", "-B", "-f", str(SOURCE / "pom.xml"), "package"]
    made = subprocess.run(
        [*command, f"-Dbench.build={BUILT}"], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        return f"Maven could not build it: {(made.stdout + made.stderr)[-1500:]}"
    done.write_text(state)
    return None


def command(told: Path) -> list[str]:
    """How the peer is started on a job's file."""
    classpath = f"{BUILT / 'classes'}:{BUILT / 'lib'}/*"
    return [str(find_java(toolchain())), *JVM, "-cp", classpath, MAIN, str(told)]


def _state() -> str:
    digest = hashlib.sha256()
    for path in sorted(each for each in SOURCE.rglob("*") if each.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()
