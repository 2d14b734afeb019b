"""`python -m shutong_witness`: the witness."""

from __future__ import annotations

import sys
from functools import partial

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.lifecycle import EXIT_FATAL, run
from shutong_core.runtime.node import open_node
from shutong_witness.service import SERVICE, serve


def main() -> int:
    """Run the service; the exit code."""
    try:
        node = open_node(SERVICE, needs_kafka=False)
    except Fatal as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FATAL
    settings = node.settings
    return run(partial(serve, node), drain_s=settings.limits.drain_s, uvloop=settings.uvloop)


if __name__ == "__main__":
    sys.exit(main())
