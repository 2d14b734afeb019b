"""One HTTP connection that cannot be used to shut others out.

Rule: a request's head must be complete within `HEAD_S` of its first chance, however slowly it
drips; connections are bounded, also of one client address, and where a bound is reached the one
that has been idle longest gives way. So half-open connections never take the place of requests.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD_S = 10.0
CONNECTIONS_MAX = 1_024
#: Beyond the bound, so that who comes while all are at work is told 503 instead of being cut off.
_TOLD_MAX = 64


def connections_max() -> int:
    """Connections of one listener: no more than a third of the files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if soft < 0 else max(16, min(CONNECTIONS_MAX, soft // 3))


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with a time for the head and bounds on connections."""

    head_s = HEAD_S
    _head_timer: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, if need be in place of an idle one."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        most = self.limit_concurrency or CONNECTIONS_MAX
        others = [each for each in self._all() if each is not self]
        of_address = [each for each in others if each.address == self.address]
        # Half for one address: behind it may be a proxy with many clients.
        if len(of_address) >= most // 2:
            room = _give_way(of_address)
        else:
            room = len(others) < most - 1 or _give_way(others) or len(others) < most + _TOLD_MAX
        if room:
            self._await_head()
        else:
            self.cut()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; the time for the head goes on until it is complete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._head_complete()
        elif self.idle and self._head_timer is None:
            self._await_head()

    def on_response_complete(self) -> None:
        """The connection is idle from now on."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_complete()
        super().connection_lost(exc)

    @property
    def address(self) -> str:
        """The client's address without its port."""
        return self.client[0] if self.client else ""

    @property
    def idle(self) -> bool:
        """True if no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def idle_since(self) -> float:
        """When it was opened or last answered, by the loop's clock."""
        return self._idle_since

    def cut(self) -> None:
        """End the connection at once."""
        self._head_complete()
        self.connections.discard(self)
        self.transport.abort()

    def _all(self) -> Iterable[GuardedProtocol]:
        return cast("Iterable[GuardedProtocol]", self.connections)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_s, self.cut)

    def _head_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _give_way(connections: Iterable[GuardedProtocol]) -> bool:
    """Cut the one that has been idle longest; False if all are at work."""
    idle = [each for each in connections if each.idle]
    if not idle:
        return False
    min(idle, key=lambda each: each.idle_since).cut()
    return True
