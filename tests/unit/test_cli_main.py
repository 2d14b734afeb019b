"""The command line as a whole: helps with examples, exit codes, no traceback ever."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from shutong_cli import main
from shutong_cli.main import COMMANDS
from shutong_core.domain.errors import Fatal, Rejected, Retryable
from unit.cli_runner import clean_logs, shutong

__all__ = ["clean_logs"]
pytestmark = pytest.mark.usefixtures("clean_logs")


def paths() -> list[tuple[str, ...]]:
    """Every command and group there is, as typed."""
    found: list[tuple[str, ...]] = [()]
    for name, entry in COMMANDS.items():
        if importlib.util.find_spec(entry.module) is None:
            continue
        command = typer.main.get_command(getattr(importlib.import_module(entry.module), entry.app))
        found.append((name,))
        found += [(name, inner) for inner in getattr(command, "commands", {})]
    return found


@pytest.mark.parametrize("path", paths(), ids=lambda path: " ".join(path) or "shutong")
def test_help_explains_in_both_languages_with_examples(path: tuple[str, ...]) -> None:
    done = shutong(*path, "--help")
    assert done.exit_code == 0, done.output
    assert any("一" <= each <= "鿿" for each in done.stdout)
    assert "Usage: shutong" in done.stdout
    is_group = "COMMAND [ARGS]" in done.stdout
    assert is_group or "Examples:" in done.stdout


def test_help_of_all_loads_no_command() -> None:
    program = (
        "import sys; from shutong_cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([n for n in ('aiokafka', 'pydantic', 'celpy', 'fastavro') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_mistyped_command_gets_a_suggestion() -> None:
    done = shutong("lst")
    assert done.exit_code == 2
    assert "list" in done.stderr


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Rejected("wrong"), 2),
        (Retryable("later"), 75),
        (Fatal("broken"), 1),
        (ZeroDivisionError("secret value"), 70),
    ],
    ids=lambda each: type(each).__name__,
)
def test_each_kind_of_fault_has_its_exit_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, code: int
) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise fault

    monkeypatch.setattr(main._Unloaded, "load", lambda _: typer.main.get_command(app))
    done = shutong("key")
    assert done.exit_code == code
    assert "Traceback" not in done.output
    if code == 70:
        assert "secret" not in done.output
        assert "ZeroDivisionError" in done.stderr
    else:
        assert str(fault) in done.stderr
    assert done.stdout == ""


def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUTONG_PREFIX", "not a prefix")
    done = shutong("kafka", "status")
    assert done.exit_code == 1
    assert "SHUTONG_PREFIX" in done.stderr


def test_without_kafka_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHUTONG_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("SHUTONG_DATA_DIR", str(tmp_path))
    for command in (["list", "show"], ["list", "history"], ["audit", "verify", "--kafka"]):
        done = shutong(*command)
        assert done.exit_code == 1
        assert "shutong up" in done.stderr
    assert not (tmp_path / "keyring").exists(), "looking must not make a keyring"


def test_a_service_that_is_not_installed_is_said() -> None:
    from shutong_cli.service_commands import _app

    with pytest.raises(Fatal, match="no nowhere service"):
        typer.main.get_command(_app("nowhere", "x"))(args=[], standalone_mode=False)


def test_kafka_status_names_the_address_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHUTONG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SHUTONG_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    done = shutong("kafka", "status")
    assert done.exit_code == 1
    assert "Kafka does not answer on 127.0.0.1:1" in done.stderr
    assert "SHUTONG_KAFKA_BOOTSTRAP_SERVERS" in done.stderr
