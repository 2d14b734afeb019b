"""Who may ask the auditor over HTTP: auditors all, a department about itself, others nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from shutong_auditor.index.questions import Question
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.grants import Grant
from shutong_core.domain.organisations import Organisation, Role
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import SELF, RegionTable
from shutong_core.domain.version import ListVersion


class ListSource(Protocol):
    """The list in force; `runtime.listfeed.ListFeed` is one."""

    @property
    def version(self) -> ListVersion | None:
        """None before the first."""
        ...

    @property
    def current(self) -> bool:
        """Whether Kafka's word that it is the newest is recent enough."""
        ...


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The request is refused: reason, HTTP status, who asked as far as known."""

    def __init__(self, reason: Reason, status: int, actor: str = "") -> None:
        super().__init__(reason.en)
        self.reason = reason
        self.status = status
        self.actor = actor


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks; `everything`: an auditor."""

    system: str
    organisation: str
    everything: bool

    @property
    def actor(self) -> str:
        """As access events name it."""
        return f"{self.organisation}/{self.system}"

    def about(self, organisation: str) -> None:
        """Raises Refused unless a question about `organisation` alone may be answered."""
        if not self.everything and organisation != self.organisation:
            raise Refused(Reason.NOT_YOUR_AUDIT, 403, self.actor)

    def grants(self, version: ListVersion) -> frozenset[str] | None:
        """Grants of the list that it gives for, writes for or receives by; None: all there are."""
        if self.everything:
            return None
        return frozenset(
            row.id
            for row in version.of(Grant)
            if isinstance(row, Grant)
            and (row.requester == self.organisation or self._gives(version.dataset(row.dataset)))
        )

    def _gives(self, dataset: Dataset | None) -> bool:
        return dataset is not None and self.organisation in {
            dataset.provider,
            *(each.organisation for each in dataset.publishers),
        }

    def reads_use_of(
        self, version: ListVersion, table: RegionTable, organisations: frozenset[str]
    ) -> frozenset[str] | None:
        """Those of `organisations` whose records of use, given or received, it reads; None: all.

        Its own; an authority those of the region it stands over; an auditor all (LAW 51).
        """
        if self.everything:
            return None
        own = organisations & {self.organisation}
        me = version.organisation(self.organisation)
        if me is None or Role.AUTHORITY not in me.roles:
            return own
        over = _government(table, me)
        rows = filter(None, map(version.organisation, organisations))
        return own | {row.id for row in rows if table.contains(over, _government(table, row))}

    def narrowed(self, question: Question) -> Question:
        """The question as far as this asker may ask it."""
        if self.everything:
            return question
        if question.organisation not in (None, self.organisation):
            raise Refused(Reason.NOT_YOUR_AUDIT, 403, self.actor)
        return replace(question, organisation=self.organisation)


def _government(table: RegionTable, organisation: Organisation) -> str:
    """The code of the region it is an office of; "" if the table has it not."""
    return (table.normalise(organisation.region) or "").removesuffix(SELF)


def asker_of(
    authorization: str | None, lookup: Callable[[str], str | None], lists: ListSource
) -> Asker:
    """Who holds the API key of `Authorization: Bearer <key>` (RFC 6750). Raises Refused."""
    scheme, _, key = (authorization or "").partition(" ")
    system_id = lookup(key.strip()) if scheme.lower() == "bearer" else None
    if system_id is None:
        raise Refused(Reason.UNAUTHENTICATED, 401)
    version = lists.version
    if version is None or not lists.current:
        raise Refused(Reason.LIST_LEASE_LOST, 503)
    system = version.system(system_id)
    organisation = version.organisation(system.organisation) if system else None
    if system is None or organisation is None:
        raise Refused(Reason.UNAUTHENTICATED, 401)
    everything = Role.AUDITOR in organisation.roles
    return Asker(system.id, organisation.id, everything)
