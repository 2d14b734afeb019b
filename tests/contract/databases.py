"""A PostgreSQL of the test's own, on a socket in a temporary directory, where one is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLACES = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def postgres_programs() -> Path | None:
    """The directory of initdb and pg_ctl; None if there is no PostgreSQL server here."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    return next((each for each in (*places, *_PLACES) if (each / "pg_ctl").exists()), None)


@contextmanager
def own_postgres(programs: Path) -> Iterator[str]:
    """Starts it; gives its URL. It refuses to run as root, so then it runs as `nobody`."""
    user = "nobody" if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="shutong-pg-"))
    if user is not None:
        found = pwd.getpwnam(user)
        os.chown(directory, found.pw_uid, found.pw_gid)
    data, sockets = directory / "data", directory

    def run(*command: str) -> None:
        done = subprocess.run(
            command, user=user, capture_output=True, text=True, cwd="/", check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr

    control = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(directory / "log")]
    try:
        run(
            str(programs / "initdb"), "-D", str(data), "-U", "shutong", "-A", "trust",
            "-E", "UTF8", "--no-sync",
        )  # fmt: skip
        run(*control, "-o", f"-k {sockets} -c listen_addresses='' -c fsync=off", "start")
        try:
            yield f"postgresql://shutong@/postgres?host={sockets}"
        finally:
            run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
