"""The main function of a service: its node, then its work until SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.lifecycle import EXIT_FATAL, Stop, run
from shutong_core.runtime.node import Node, open_node


def service_main(
    service: str, serve: Callable[[Node, Stop], Awaitable[None]], *, needs_kafka: bool = True
) -> int:
    """Run `serve` until it returns; the exit code. Wrong settings are said in words on stderr."""
    try:
        node = open_node(service, needs_kafka=needs_kafka)
    except Fatal as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FATAL
    settings = node.settings
    return run(partial(serve, node), drain_s=settings.limits.drain_s, uvloop=settings.uvloop)
