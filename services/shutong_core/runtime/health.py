"""The admin server: /livez, /readyz?verbose, /metrics.

Alive means that the event loop turns and no watchdog has starved; ready means that every check
passes. A check says what is wrong as text for operators, or None.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shutong_core.runtime.httpserver import HttpServer
from shutong_core.runtime.metrics import Metrics
from shutong_core.runtime.servicesettings import Listener

Check = Callable[[], str | None]


class Health:
    """What one process knows of its own state; all calls are from the event loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._checks: dict[str, Check] = {}
        self._beats: dict[str, tuple[float, float]] = {}

    def check(self, name: str, problem: Check) -> None:
        """Add a readiness check: `problem()` says what is wrong, None if nothing is."""
        self._checks[name] = problem

    def beat(self, task: str, within_s: float) -> None:
        """Say that `task` is getting on, and will again within `within_s` seconds."""
        self._beats[task] = (self._monotonic() + within_s, within_s)

    def forget(self, task: str) -> None:
        """`task` ended as it should."""
        self._beats.pop(task, None)

    def dead(self) -> dict[str, str]:
        """Tasks that did not beat in time."""
        now = self._monotonic()
        return {
            task: f"no sign of life for more than {within:g} s"
            for task, (until, within) in self._beats.items()
            if now > until
        }

    def problems(self) -> dict[str, str | None]:
        """Every readiness check and what is wrong with it; a check that fails is a problem."""
        found: dict[str, str | None] = {}
        for name, check in self._checks.items():
            try:
                found[name] = check()
            except Exception as error:
                found[name] = f"check failed: {type(error).__name__}"
        return found


def admin_app(health: Health, metrics: Metrics) -> Starlette:
    """The ASGI application of the admin port."""

    async def livez(_: Request) -> Response:
        dead = health.dead()
        return JSONResponse({"alive": not dead, "tasks": dead}, 503 if dead else 200)

    async def readyz(request: Request) -> Response:
        problems = health.problems()
        ready = not any(problems.values())
        metrics.set("shutong_ready", int(ready))
        body: dict[str, object] = {"ready": ready}
        if "verbose" in request.query_params:
            body["checks"] = {
                name: {"ok": problem is None, "problem": problem}
                for name, problem in problems.items()
            }
        return JSONResponse(body, 200 if ready else 503)

    async def exposition(_: Request) -> Response:
        media = "text/plain; version=0.0.4; charset=utf-8"
        return PlainTextResponse(metrics.exposition(), media_type=media)

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", exposition),
        ]
    )


def admin_server(health: Health, metrics: Metrics, listener: Listener) -> HttpServer:
    """The admin server, not yet started."""
    return HttpServer(admin_app(health, metrics), listener, drain_s=1)
