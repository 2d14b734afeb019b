"""Runs one ASGI application on one listener inside a running event loop.

Rule: it never touches signals (the lifecycle does), it bounds what a client may send in a header
and how many connections it may hold, and it stops by finishing what is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import uvicorn

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.connections import GuardedProtocol, connections_max
from shutong_core.runtime.servicesettings import Listener

HEADER_BYTES_MAX = 16 * 1024
KEEP_ALIVE_S = 15
_POLL_S = 0.01


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the lifecycle."""
        yield


class HttpServer:
    """One HTTP server; `start`, then `stop`."""

    def __init__(self, app: Any, listener: Listener, drain_s: float = 5) -> None:
        self._listener = listener
        config = uvicorn.Config(
            app,
            host=listener.host,
            port=listener.port,
            ssl_certfile=listener.tls_certificate,
            ssl_keyfile=listener.tls_key,
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=connections_max(),
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, int(drain_s)),
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        )
        self._server = _Quiet(config)
        self._task: asyncio.Task[None] | None = None
        self._drain_s = drain_s

    async def start(self) -> None:
        """Listen. Raises Fatal with the remedy if the port is taken."""
        self._task = asyncio.create_task(self._serve())
        while not self._server.started:
            if self._task.done():
                raise Fatal(
                    f"{self._listener.host}:{self._listener.port} 无法监听（端口可能被占用）。"
                    f" Cannot listen on {self._listener.host}:{self._listener.port}:"
                    " the port may be in use; choose another one in the settings."
                )
            await asyncio.sleep(_POLL_S)

    async def _serve(self) -> None:
        try:
            await self._server.serve()
        except SystemExit:
            # uvicorn leaves the process when it cannot bind; here the caller decides.
            return

    @property
    def port(self) -> int:
        """The port it listens on, also when the system chose it."""
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Base URL."""
        scheme = "https" if self._listener.tls_certificate else "http"
        host = f"[{self._listener.host}]" if ":" in self._listener.host else self._listener.host
        return f"{scheme}://{host}:{self.port}"

    async def stop(self) -> None:
        """Take no new connection, finish what is under way, within the drain time."""
        if self._task is None:
            return
        self._server.should_exit = True
        try:
            async with asyncio.timeout(self._drain_s + 1):
                await asyncio.shield(self._task)
        except TimeoutError:
            self._server.force_exit = True
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
