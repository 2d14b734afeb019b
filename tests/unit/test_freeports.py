"""Free ports: different, not listened at, out of the way of outgoing connections."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from shutong_core.domain.errors import Fatal
from shutong_core.runtime import freeports
from shutong_core.runtime.freeports import HOST, free_ports


def test_ports_are_different_and_can_be_listened_at() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    for port in found:
        with socket.socket() as listener:
            listener.bind((HOST, port))


def test_no_outgoing_connection_of_this_machine_takes_such_a_port() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(free_ports(50)) < first


def test_a_port_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        port = free_ports(1)[0]
        listener.bind((HOST, port))
        monkeypatch.setattr(freeports, "_TRIES_MAX", 2)
        monkeypatch.setattr(freeports, "FIRST", port)
        monkeypatch.setattr(freeports, "LAST", port + 2)
        assert port not in free_ports(1)
        with pytest.raises(Fatal, match="set the ports"):
            free_ports(2)
