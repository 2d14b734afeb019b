"""The admin port tells whether the process lives, whether it is ready, and why not."""

from __future__ import annotations

import socket

import httpx2
import pytest

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.health import Health, admin_server
from shutong_core.runtime.httpserver import HttpServer
from shutong_core.runtime.metrics import Metrics
from shutong_core.runtime.servicesettings import Listener


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
async def health(clock: list[float]) -> Health:
    return Health(lambda: clock[0])


@pytest.fixture
async def server(health: Health):  # type: ignore[no-untyped-def]
    running = admin_server(health, Metrics("test"), Listener(port=0))
    await running.start()
    yield running
    await running.stop()


async def get(server: HttpServer, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.get(server.url + path)


async def test_ready_only_while_every_check_passes(server: HttpServer, health: Health) -> None:
    problem: str | None = "no list yet"
    health.check("list", lambda: problem)
    health.check("kafka", lambda: None)
    answer = await get(server, "/readyz?verbose")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {
        "list": {"ok": False, "problem": "no list yet"},
        "kafka": {"ok": True, "problem": None},
    }
    problem = None
    answer = await get(server, "/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True})


async def test_a_check_that_fails_is_a_problem_not_a_crash(
    server: HttpServer, health: Health
) -> None:
    def broken() -> str | None:
        raise KeyError("x")

    health.check("broken", broken)
    answer = await get(server, "/readyz?verbose")
    assert answer.status_code == 503
    assert answer.json()["checks"]["broken"]["problem"] == "check failed: KeyError"


async def test_alive_until_a_task_stops_beating(
    server: HttpServer, health: Health, clock: list[float]
) -> None:
    health.beat("lane 0", within_s=5)
    assert (await get(server, "/livez")).status_code == 200
    clock[0] = 6.0
    answer = await get(server, "/livez")
    assert answer.status_code == 503
    assert "lane 0" in answer.json()["tasks"]
    health.forget("lane 0")
    assert (await get(server, "/livez")).status_code == 200


async def test_metrics_are_served_as_text(server: HttpServer) -> None:
    answer = await get(server, "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "process_resident_memory_bytes" in answer.text
    assert "server" not in answer.headers


async def test_a_port_in_use_is_named_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = admin_server(Health(), Metrics("test"), Listener(port=port))
        with pytest.raises(Fatal, match=str(port)):
            await server.start()


async def test_huge_headers_are_refused(server: HttpServer) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        try:
            answer = await client.get(server.url + "/livez", headers={"x": "a" * 2_000_000})
        except httpx2.TransportError:
            return
    assert answer.status_code == 400
