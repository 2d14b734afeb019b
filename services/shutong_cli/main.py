"""The `shutong` command: one line here for each command or group of commands.

A command's module is loaded when it is called, so help, completion and short commands do not wait
for clients of Kafka that they do not use.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from shutong_cli.output import examples, explain


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lives: module, name of its Typer app there, one line for the overview."""

    module: str
    help: str
    app: str = "app"


COMMANDS = {
    "up": Entry("shutong_cli.run_commands", "在本机运行整条总线 Run the whole bus here.", "up_app"),
    "demo": Entry("shutong_cli.run_commands", "播放样例并核对 Play the sample, check.", "demo_app"),
    "list": Entry("shutong_cli.list_commands", "责任清单 The responsibility list."),
    "policy": Entry("shutong_cli.policy_command", "裁决规则 What decides a record."),
    "schema": Entry("shutong_cli.schema_commands", "数据模式 Schemas of datasets."),
    "key": Entry("shutong_cli.key_commands", "系统的接口密钥 API keys of systems."),
    "publish": Entry("shutong_cli.publish_command", "按 CSV 文件发布记录 Publish a CSV file."),
    "refusals": Entry("shutong_cli.refusals_command", "接收后退回的记录 Records refused later."),
    "audit": Entry("shutong_cli.audit_commands", "审计校验 Verify the audit."),
    "receipt": Entry("shutong_cli.receipt_commands", "自签回执 Receipts of own clients."),
    "kafka": Entry("shutong_cli.kafka_commands", "内置 Kafka The embedded Kafka."),
    "producer": Entry("shutong_cli.service_commands", "接入服务 Producer service.", "producer"),
    "broker": Entry("shutong_cli.service_commands", "裁决服务 Broker service.", "broker"),
    "consumer": Entry("shutong_cli.service_commands", "取用服务 Consumer service.", "consumer"),
    "control": Entry("shutong_cli.service_commands", "控制服务 Control service.", "control"),
    "auditor": Entry("shutong_cli.service_commands", "审计服务 Auditor service.", "auditor"),
    "witness": Entry("shutong_cli.service_commands", "见证人 Witness of checkpoints.", "witness"),
}


class _Unloaded(TyperCommand):
    """Stands for a command in overviews until it is called."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help, short_help=entry.help)
        self._entry = entry

    def load(self) -> Any:
        """The command itself."""
        module = importlib.import_module(self._entry.module)
        command = typer.main.get_command(getattr(module, self._entry.app))
        command.name = self.name
        return command


class Commands(TyperGroup):
    """All commands; turns faults into words and exit codes, never into a traceback."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: _Unloaded(name, entry) for name, entry in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in the base class, with the command loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, _Unloaded) else command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Faults end it with the exit codes of `runtime.lifecycle`."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError, EOFError):
            raise
        except Exception as error:
            raise typer.Exit(explain(error)) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "shutong up",
        "shutong list publish list.yaml --dry-run",
        "shutong audit verify --kafka",
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"shutong {version('shutong')}")
        except PackageNotFoundError:
            typer.echo("shutong (not installed)")
        raise typer.Exit


@app.callback()
def shutong(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="版本 Show version."
        ),
    ] = False,
) -> None:
    """疏通：按数据共享责任清单共享政务数据的总线。

    Shutong: a bus that shares government records by the responsibility list, and proves it.
    Settings: SHUTONG_… in the environment. Exit codes: 0 done, 1 fatal, 2 wrong input, 75 try
    again.
    """


def main() -> None:
    """Entry point of the `shutong` script."""
    app(prog_name="shutong")
