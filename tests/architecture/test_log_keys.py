"""Every key that product code logs is declared, so its value is written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from shutong_core.runtime.logs import LOG_KEYS

SERVICES = Path(__file__).parents[2] / "services"
LEVELS = {"debug", "info", "warning", "error", "exception", "bind"}


def logged_keys() -> Iterator[tuple[str, str]]:
    for path in sorted(SERVICES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in LEVELS and "log" in ast.unparse(node.func.value).lower():
                where = f"{path.relative_to(SERVICES)}:{node.lineno}"
                yield from ((where, word.arg) for word in node.keywords if word.arg)


def test_every_logged_key_is_declared() -> None:
    found = list(logged_keys())
    assert found
    assert [each for each in found if each[1] not in LOG_KEYS | {"exc_info"}] == []
