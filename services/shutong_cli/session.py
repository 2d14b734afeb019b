"""What a command builds first: settings, logs on stderr, the node's keyring and Kafka at need."""

from __future__ import annotations

import sys
from pathlib import Path

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.logs import configure_logs
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import Settings, load_settings

SERVICE = "cli"


def open_settings() -> Settings:
    """Settings of this process; logs from warning up go to stderr. Raises Fatal if wrong."""
    settings = load_settings()
    configure_logs(SERVICE, "error" if settings.log_level == "error" else "warning", sys.stderr)
    return settings


def log_to_file(data_dir: Path) -> None:
    """Send the logs of this process beside those of the services that it runs.

    For commands that talk to a person all the time: JSON would stand between their lines. Raises
    Fatal if the file cannot be made.
    """
    path = data_dir / "logs" / f"{SERVICE}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a", buffering=1, encoding="utf-8")  # open as long as the process
    except OSError as error:
        raise Fatal(f"{path}: 无法写入 cannot be written ({error.strerror})") from None
    configure_logs(SERVICE, "info", stream)


def open_session() -> Node:
    """The node as this command sees it. Raises Fatal for wrong settings.

    The Kafka address and the keyring are looked for when first used.
    """
    return Node(SERVICE, open_settings())
