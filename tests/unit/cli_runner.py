"""Runs `shutong` in this process, as tests of its commands need it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from typer.testing import CliRunner, Result

from shutong_cli.main import app


def shutong(*arguments: str) -> Result:
    """Run a command line; the result holds exit code, stdout and stderr."""
    return CliRunner().invoke(app, list(arguments), prog_name="shutong")


@pytest.fixture
def clean_logs() -> Iterator[None]:
    """Gives logs back to the session: a command sends them to a stderr that closes with it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    config = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**config)
