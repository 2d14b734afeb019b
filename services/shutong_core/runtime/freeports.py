"""Chooses free loopback ports that stay free until a process started with them listens there.

A port from the system's own choice would lie in the range from which every outgoing connection
takes its own, so any Kafka client of this machine could have it before the new process does.
"""

from __future__ import annotations

import contextlib
import random
import socket

from shutong_core.domain.errors import Fatal

HOST = "127.0.0.1"
#: Below Linux's range for outgoing connections (32768 up, ip_local_port_range), above the usual
#: ports of servers; two processes that choose at once rarely meet among so many.
FIRST, LAST = 15_000, 32_000
_TRIES_MAX = 500


def free_ports(count: int) -> tuple[int, ...]:
    """So many different TCP ports that nobody listens at. Raises Fatal if there are none."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(range(FIRST, LAST), _TRIES_MAX):
            if len(found) == count:
                break
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                # Held until all are chosen; without SO_REUSEADDR a closing connection counts too.
                listener.bind((HOST, port))
                found.append(port)
    if len(found) < count:
        raise Fatal(
            f"本机 {FIRST}–{LAST} 之间没有足够的空闲端口，请指定端口。"
            f" Too few free ports between {FIRST} and {LAST} on this machine: set the ports."
        )
    return tuple(found)


def free_port() -> int:
    """One such port."""
    return free_ports(1)[0]
