"""The desk every request comes to first: which list is in force, who asks, is it too much.

Whoever is turned away leaves an access event, written before the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from shutong_core.audit.access import Act
from shutong_core.domain.reasons import Reason
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.accesslog import AccessLog
from shutong_core.wire.schemas import Schema
from shutong_producer.gate import Bounds, Gate, Rates
from shutong_producer.refused import RequestRefused, busy
from shutong_producer.rights import Caller, bearer, caller_of

#: Wrong keys a second from one address before it is told to slow down.
WRONG_KEYS_PER_S = 10.0


class ListSource(Protocol):
    """The list in force; `runtime.listfeed.ListFeed` is one."""

    @property
    def version(self) -> ListVersion | None:
        """The newest good list."""
        ...

    @property
    def schemas(self) -> Mapping[int, Schema]:
        """Registered schemas by id."""
        ...

    @property
    def word_age_s(self) -> float:
        """Age of Kafka's word that this list is the newest; infinite if there is none."""
        ...


class KeyLookup(Protocol):
    """API keys; `runtime.keyring.ApiKeys` is one."""

    def lookup(self, key: str) -> str | None:
        """The system id that holds `key`."""
        ...


class Desk:
    """Identity, pace and the record of who was turned away."""

    def __init__(
        self,
        lists: ListSource,
        keys: KeyLookup,
        access: AccessLog,
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self.lists = lists
        self.bounds = bounds
        self.gate = Gate(bounds, clock)
        self.wall_ms = wall_ms
        self._keys = keys
        self._access = access
        self._wrong_keys = Rates(WRONG_KEYS_PER_S, clock)

    def list_in_force(self) -> ListVersion:
        """The list, if Kafka's word on it is recent enough. Raises RequestRefused (503)."""
        version, age = self.lists.version, self.lists.word_age_s
        if version is None:
            raise RequestRefused(
                Reason.LIST_LEASE_LOST, "尚无生效的清单", "no list in force yet", retry_after_s=5
            )
        if age > self.bounds.list_age_s_max:
            raise RequestRefused(
                Reason.LIST_LEASE_LOST,
                "暂不能确认清单为最新",
                "cannot confirm that the list is the newest",
                retry_after_s=5,
            )
        return version

    def problem(self) -> str | None:
        """Why no request can be served now, for readiness."""
        try:
            self.list_in_force()
        except RequestRefused as refused:
            return refused.detail_text()
        return None

    def identify(self, authorization: str | None, client: str) -> tuple[ListVersion, Caller]:
        """The list in force and who asks. Raises RequestRefused."""
        version = self.list_in_force()
        key = bearer(authorization)
        system = self._keys.lookup(key) if key is not None else None
        if system is None:
            if self._wrong_keys.wait_s(client):
                raise busy()
            raise RequestRefused(Reason.UNAUTHENTICATED)
        caller = caller_of(version, system)
        self.gate.pace(caller.system)
        return version, caller

    async def note(
        self, action: str, reason: Reason, client: str, *, actor: str, target: str, detail: str = ""
    ) -> None:
        """Have a refusal written to topic access, before it is answered."""
        act = Act(
            self.wall_ms(), actor, action, target, refused=reason, detail=detail, client=client
        )
        await self._access.record(act)
