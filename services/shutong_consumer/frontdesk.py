"""Where every request comes first: who asks, and may this be let out now, by a list under lease.

The same question is asked again just before each answer, however long the request waited: a grant
that was revoked or suspended meanwhile, or a list that may no longer be the newest, lets nothing
out. Who is turned away, and who reads for an organisation it hosts, leaves an access event, written
before the answer.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from shutong_consumer.refused import RequestRefused, busy
from shutong_consumer.rights import Right, Rights, bearer
from shutong_core.audit.access import Act
from shutong_core.domain.reasons import Reason
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.accesslog import AccessLog
from shutong_core.wire.schemarecords import Registry
from shutong_core.wire.schemas import Schema

#: Requests of one system at once, long polls included.
PER_SYSTEM_MAX = 16
#: Requests of all at once, below what the HTTP server takes in connections.
REQUESTS_MAX = 900
#: Reading on behalf of a hosted organisation is noted once in this time for each grant.
PRIVILEGED_EVERY_S = 3600.0
_PRIVILEGED_MAX = 10_000


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
    def registry(self) -> Registry:
        """Registered schemas by subject."""
        ...

    def holds(self, number: int) -> bool:
        """Whether Kafka's recent word is that list `number` is the newest."""
        ...


class KeyLookup(Protocol):
    """API keys; `runtime.keyring.ApiKeys` is one."""

    def lookup(self, key: str) -> str | None:
        """The system id that holds `key`."""
        ...


class FrontDesk:
    """Identity, right, pace, and the trace of who was turned away."""

    def __init__(
        self,
        lists: ListSource,
        keys: KeyLookup,
        rights: Rights,
        access: AccessLog,
        *,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lists = lists
        self.rights = rights
        self.wall_ms = wall_ms
        self._keys = keys
        self._access = access
        self._clock = clock
        self._inside: Counter[str] = Counter()
        self._noted: dict[tuple[str, str, str | None], float] = {}

    def list_in_force(self) -> ListVersion:
        """The list, if data may be let out under it now. Raises RequestRefused (503)."""
        version = self.lists.version
        if version is None or not self.lists.holds(version.number):
            raise RequestRefused(Reason.LIST_LEASE_LOST, retry_after_s=1)
        return version

    def problem(self) -> str | None:
        """Why nothing can be let out now, for readiness."""
        try:
            version = self.list_in_force()
        except RequestRefused as refused:
            return refused.en
        if version.bus.division_digest != self.rights.table.digest.hex():
            return "another division table than the list's: class grants are not served"
        return None

    def identify(self, authorization: str | None) -> str:
        """The system that holds the key. Raises RequestRefused."""
        key = bearer(authorization)
        system = self._keys.lookup(key) if key is not None else None
        if system is None:
            raise RequestRefused(Reason.UNAUTHENTICATED)
        return system

    def right(self, system: str, grant: str, territory: str | None) -> Right:
        """What `system` may read of `grant` now. Raises RequestRefused."""
        return self.rights.right(self.list_in_force(), system, grant, self.wall_ms(), territory)

    def still(self, right: Right) -> None:
        """Raises RequestRefused unless what was read under `right` may be let out now."""
        now = self.right(right.caller.system, right.grant.id, right.territory)
        if not right.same_as(now):
            # The list changed what this right is about: read anew under the new one.
            raise RequestRefused(Reason.LIST_LEASE_LOST, retry_after_s=1)

    @contextlib.contextmanager
    def inside(self, system: str) -> Iterator[None]:
        """One request's stay. Raises RequestRefused (429) where a bound is reached."""
        if self._inside[system] >= PER_SYSTEM_MAX or self._inside.total() >= REQUESTS_MAX:
            raise busy()
        self._inside[system] += 1
        try:
            yield
        finally:
            self._inside[system] -= 1
            if not self._inside[system]:
                del self._inside[system]

    async def note_refusal(
        self, action: str, refused: RequestRefused, client: str, actor: str, target: str
    ) -> None:
        """Have a refusal for want of a right written, or counted with others in a flood."""
        await self._access.record(
            Act(
                self.wall_ms(),
                actor,
                action,
                target,
                refused=refused.reason,
                detail=refused.en,
                client=client,
            )
        )

    async def note_hosting(self, action: str, right: Right, client: str) -> None:
        """Have it written that a host reads for another; without that nothing is let out."""
        if not right.hosted:
            return
        key, now = (right.caller.system, right.grant.id, right.territory), self._clock()
        if now - self._noted.get(key, float("-inf")) < PRIVILEGED_EVERY_S:
            return
        act = Act(
            self.wall_ms(),
            right.caller.actor,
            action,
            f"grant/{right.grant.id}",
            detail=f"on behalf of {right.agency}",
            client=client,
        )
        if not await self._access.record(act):
            raise RequestRefused(Reason.KAFKA_UNAVAILABLE, retry_after_s=1)
        if len(self._noted) >= _PRIVILEGED_MAX:
            self._noted.clear()
        self._noted[key] = now
