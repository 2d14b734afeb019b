"""`shutong producer|broker|consumer|control|auditor|witness`: one service in this process."""

from __future__ import annotations

import importlib

import typer

from shutong_cli.output import examples, new_app
from shutong_core.domain.errors import Fatal


def _app(service: str, text: str) -> typer.Typer:
    """A command that runs `python -m shutong_<service>` here."""
    app = new_app()

    @app.command(
        help=f"{text} Logs are JSON lines on stdout; SIGTERM drains.",
        epilog=examples(f"shutong {service}", f"SHUTONG_LOG_LEVEL=debug shutong {service}"),
    )
    def run() -> None:
        module = f"shutong_{service}.__main__"
        try:
            main = importlib.import_module(module).main
        except ModuleNotFoundError as error:
            if error.name not in (module, f"shutong_{service}"):
                raise
            raise Fatal(
                f"此安装不含 {service} 服务。 This installation has no {service} service."
            ) from None
        raise typer.Exit(main())

    return app


producer = _app("producer", "运行接入服务。 Run the producer service: records in.")
broker = _app("broker", "运行裁决服务。 Run one broker process: decides, places, audits.")
consumer = _app("consumer", "运行取用服务。 Run the consumer service: records out.")
control = _app("control", "运行控制服务。 Run the control service with the schema registry.")
auditor = _app("auditor", "运行审计服务。 Run the auditor service: trees, signed checkpoints.")
witness = _app("witness", "为别人的总线见证。 Run a witness: cosigns checkpoints of other buses.")
