"""`shutong up` and `shutong demo`: the whole bus on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shutong_cli.demo import demo
from shutong_cli.foreground import cancelled_by_stop, run_foreground
from shutong_cli.output import examples, new_app
from shutong_cli.session import log_to_file, open_settings
from shutong_cli.up import DRAIN_S, up

up_app = new_app()
demo_app = new_app()


@up_app.command(epilog=examples("shutong up", "shutong up --list list.yaml", "shutong up --story"))
def up_command(
    list_file: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="先发布此清单 Publish this list first."),
    ] = None,
    story: Annotated[
        bool, typer.Option("--story", help="同时播放样例故事 Also play the sample story.")
    ] = False,
) -> None:
    """运行 Kafka 与全部服务，Ctrl-C 停止。

    Run Kafka (embedded, unless SHUTONG_KAFKA_BOOTSTRAP_SERVERS is set) and all services; Ctrl-C
    stops them and loses nothing.
    """
    settings = open_settings()
    log_to_file(settings.data_dir)
    run_foreground(lambda stop: up(settings, list_file, story=story, stop=stop), DRAIN_S)


@demo_app.command(epilog=examples("shutong demo", "shutong demo --keep"))
def demo_command(
    keep: Annotated[bool, typer.Option("--keep", help="保留数据目录 Keep its data.")] = False,
) -> None:
    """播放一次样例故事，逐项核对数量，校验审计。

    Play the sample story once, compare every count, verify the audit; exit code 0 if all is as
    expected. It uses a data directory of its own, removed afterwards.
    """
    open_settings()
    run_foreground(cancelled_by_stop(lambda: demo(keep=keep)), DRAIN_S)
