"""`python -m shutong_broker`: one broker process."""

from __future__ import annotations

import gc
import sys

from shutong_broker.service import serve
from shutong_core.runtime.lifecycle import run
from shutong_core.runtime.node import open_node

#: Records under way are many, short-lived and free of cycles: looking for cycles after every 700
#: new objects, as Python does by default, took longer than reading the records. Not much later
#: either: what a client leaves in cycles holds whole fetches; after 100,000 it was 200 MiB more.
COLLECT_AFTER = (5_000, 10, 50)


def main() -> int:
    """Run until SIGTERM; returns the exit code."""
    gc.set_threshold(*COLLECT_AFTER)
    node = open_node("broker")
    return run(
        lambda stop: serve(node, stop),
        drain_s=node.settings.limits.drain_s,
        uvloop=node.settings.uvloop,
    )


if __name__ == "__main__":
    sys.exit(main())
