"""`python -m shutong_control`: the control service."""

from __future__ import annotations

import sys

from shutong_control.service import serve
from shutong_core.runtime.lifecycle import run
from shutong_core.runtime.node import open_node


def main() -> int:
    """Run until SIGTERM; returns the exit code."""
    node = open_node("control")
    return run(
        lambda stop: serve(node, stop),
        drain_s=node.settings.limits.drain_s,
        uvloop=node.settings.uvloop,
    )


if __name__ == "__main__":
    sys.exit(main())
