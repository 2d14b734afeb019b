"""The virtual environment of the Quix Streams peer, made once below build/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

VENV = Path(__file__).parents[2] / "build" / "bench" / "quix-venv"
PINNED = ("quixstreams==3.28.1", "fastavro==1.13.1")
_PEER = Path(__file__).parent / "peers" / "quix_peer.py"


def build() -> str | None:
    """Make it if it is not there; why that failed, or None."""
    done = VENV / ".installed"
    wanted = "\n".join(PINNED)
    if done.exists() and done.read_text() == wanted:
        return None
    try:
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, capture_output=True)
        pip = [str(VENV / "bin" / "pip"), "install", "--quiet", *PINNED]
        subprocess.run(pip, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return f"Quix Streams could not be installed: {' '.join(last)}"
    done.write_text(wanted)
    return None


def command(told: Path) -> list[str]:
    """How the peer is started on a job's file."""
    return [str(VENV / "bin" / "python"), str(_PEER), str(told)]
