"""Ports of the embedded Kafka: chosen free once, kept; and the probe that says it answers."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from shutong_core.domain.errors import Fatal
from shutong_core.runtime.freeports import HOST, free_ports

_API_VERSIONS, _METADATA = 18, 3


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports of one node, all on loopback.

    `proxied` is a listener that advertises `advertised`: a client that bootstraps through a proxy
    on `advertised` stays behind it.
    """

    port: int
    controller: int
    proxied: int
    advertised: int


def read_ports(directory: Path) -> Ports | None:
    """What `ports.json` there remembers; None before the first start. Raises Fatal if damaged."""
    path = directory / "ports.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        return Ports(**{name: int(found[name]) for name in Ports.__slots__})
    except (ValueError, KeyError, TypeError):
        raise Fatal(
            f"{path} 无法识别，请删除后重试。 {path} is damaged: remove it and start again."
        ) from None


def choose_ports(remembered: Ports | None, wanted: tuple[int | None, int | None]) -> Ports:
    """`remembered` or four free ports, with `wanted` (port, advertised) put over them."""
    if remembered is None:
        remembered = Ports(*free_ports(4))
    port, advertised = wanted
    return Ports(
        port or remembered.port,
        remembered.controller,
        remembered.proxied,
        advertised or remembered.advertised,
    )


def port_is_free(port: int) -> bool:
    """True if nothing listens there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def answers_metadata(host: str, port: int, timeout_s: float = 2) -> bool:
    """True if a Kafka there answers ApiVersions, then Metadata with at least one broker."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            _exchange(connection, _API_VERSIONS, 0, b"")
            # Metadata v1 with no topics: answers i32 broker count first.
            answer = _exchange(connection, _METADATA, 1, struct.pack(">i", 0))
            return int(struct.unpack_from(">i", answer, 4)[0]) > 0
    except (OSError, struct.error):
        return False


def _exchange(connection: socket.socket, api: int, version: int, body: bytes) -> bytes:
    client = b"shutong-probe"
    request = struct.pack(">hhih", api, version, 1, len(client)) + client + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    size = struct.unpack(">i", _read_exactly(connection, 4))[0]
    if not 0 < size < 1 << 20:
        raise OSError("not a Kafka answer")
    return _read_exactly(connection, size)


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise OSError("connection closed")
        found += piece
    return found
