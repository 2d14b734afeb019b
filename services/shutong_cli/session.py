"""What a command builds first: settings, logs on stderr, the node's keyring and Kafka at need."""

from __future__ import annotations

import sys

from shutong_core.runtime.logs import configure_logs
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import Settings, load_settings

SERVICE = "cli"


def open_settings() -> Settings:
    """Settings of this process; logs from warning up go to stderr. Raises Fatal if wrong."""
    settings = load_settings()
    configure_logs(SERVICE, "error" if settings.log_level == "error" else "warning", sys.stderr)
    return settings


def open_session() -> Node:
    """The node as this command sees it. Raises Fatal for wrong settings.

    The Kafka address and the keyring are looked for when first used.
    """
    return Node(SERVICE, open_settings())
