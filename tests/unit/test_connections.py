"""Whoever opens connections and sends nothing useful shuts nobody out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from shutong_core.runtime import connections
from shutong_core.runtime.connections import GuardedProtocol
from shutong_core.runtime.health import Health, admin_server
from shutong_core.runtime.httpserver import HttpServer
from shutong_core.runtime.metrics import Metrics
from shutong_core.runtime.servicesettings import Listener

HALF = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
Socket = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    running = admin_server(Health(), Metrics("test"), Listener(port=0))
    await running.start()
    yield running
    await running.stop()


async def opened(server: HttpServer, count: int, sent: bytes = HALF) -> list[Socket]:
    made = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
    for _, writer in made:
        writer.write(sent)
    return made


def close(sockets: list[Socket]) -> None:
    for _, writer in sockets:
        writer.transport.abort()


async def status(server: HttpServer) -> int:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(server.url + "/livez")).status_code


async def test_more_half_requests_than_connections_leave_the_port_answering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 100)
    server = admin_server(Health(), Metrics("test"), Listener(port=0))
    await server.start()
    sockets = await opened(server, 130)
    try:
        assert [await status(server) for _ in range(3)] == [200, 200, 200]
        # Half of the connections for one address.
        assert len(server._server.server_state.connections) <= 51
    finally:
        close(sockets)
        await server.stop()


async def test_a_head_that_does_not_come_to_its_end_is_cut_however_it_drips(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuardedProtocol, "head_s", 0.4)
    silent, dripping, again = await opened(server, 3, b"")
    again[1].write(HALF + b"\r\n")
    assert (await again[0].readline()).startswith(b"HTTP/1.1 200")
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def drip(socket: Socket) -> None:
        while not socket[0].at_eof() and not socket[1].transport.is_closing():
            socket[1].write(b"G" if socket is dripping else HALF[:1])
            await asyncio.sleep(0.05)

    drips = [asyncio.create_task(drip(each)) for each in (dripping, again)]
    for reader, _ in (silent, dripping, again):
        try:
            async with asyncio.timeout(3):
                await reader.read(-1)
        except ConnectionResetError:
            pass
    assert 0.3 < loop.time() - begun < 2
    for each in drips:
        each.cancel()
    close([silent, dripping, again])


async def test_a_request_under_way_is_not_cut_for_taking_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(GuardedProtocol, "head_s", 0.2)

    async def slow(scope: object, receive: object, send: object) -> None:
        await asyncio.sleep(0.6)
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"done"})  # type: ignore[operator]

    server = HttpServer(slow, Listener(port=0))
    await server.start()
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.get(server.url)).text == "done"
            assert (await client.get(server.url)).text == "done"
    finally:
        await server.stop()
