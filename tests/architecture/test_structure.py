"""The shape of the tree, held by tests: layers, purity, one reader of the environment, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"
MODULES = sorted(SERVICES.rglob("*.py"))
PURE = [
    "shutong_core.domain",
    "shutong_core.wire",
    "shutong_core.audit",
    "shutong_broker.policy",
]
# `socket` itself is loaded by the standard library's `email`, which pydantic's plugin look-up
# imports; that our own pure modules do not import it is checked in their source below.
IMPURE_MODULES = ["aiokafka", "asyncio", "structlog", "prometheus_client", "uvicorn"]
IMPURE_IMPORTS = {"aiokafka", "asyncio", "socket", "structlog", "prometheus_client", "subprocess"}


def names(package: str) -> list[str]:
    directory = SERVICES.joinpath(*package.split("."))
    return [f"{package}.{each.stem}" for each in directory.glob("*.py") if each.stem != "__init__"]


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", PURE)
def test_the_pure_part_loads_nothing_that_does_io(package: str) -> None:
    modules = names(package)
    assert modules
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {IMPURE_MODULES!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PURE)
def test_the_pure_part_imports_nothing_that_does_io(package: str) -> None:
    imported = {
        name.split(".")[0]
        for path in SERVICES.joinpath(*package.split(".")).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _imported(node)
    }
    assert not imported & IMPURE_IMPORTS


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def test_only_settings_reads_the_environment() -> None:
    found = [
        str(path.relative_to(SERVICES))
        for path in MODULES
        if path.name != "settings.py"
        and any(
            isinstance(node, ast.Attribute)
            and node.attr in {"environ", "getenv", "environb"}
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SERVICES)))
def test_a_module_has_a_docstring_and_fits_its_job(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says its job first"
    assert len(path.read_text().splitlines()) <= 400, "split it: one concept per module"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SERVICES)))
def test_a_function_fits_on_a_screen(path: Path) -> None:
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > 70
    ]
    assert long == []


def test_no_module_is_a_drawer_for_anything() -> None:
    drawers = {"utils", "helpers", "manager", "common", "misc"}
    assert [str(path) for path in MODULES if path.stem in drawers] == []
