"""A broker process under cProfile: `BENCH_PROFILE=<directory>` gets its statistics at the end."""

from __future__ import annotations

import cProfile
import os
import sys
from pathlib import Path

from shutong_broker.__main__ import main


def _profiled() -> int:
    into = Path(os.environ["BENCH_PROFILE"])
    into.mkdir(parents=True, exist_ok=True)
    profile = cProfile.Profile()
    try:
        return int(profile.runcall(main))
    finally:
        profile.dump_stats(into / f"broker-{os.getpid()}.prof")


if __name__ == "__main__":
    sys.exit(_profiled())
