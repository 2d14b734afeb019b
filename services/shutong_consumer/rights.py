"""Who may read what: a system's right to one grant, by the list in force, at one moment.

Default deny. A key names a system, the list names its organisation; that must be the grant's
requester, host it (代管), or be of the grant's class. A grant that is not in the list is answered
like one of somebody else's: nobody learns which grants exist, and a revoked one closes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from shutong_consumer.refused import RequestRefused
from shutong_core.domain.catalogue import Dataset, ShareClass
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Drop, Grant, Negative, RequesterClass
from shutong_core.domain.organisations import Organisation, Role
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import SELF, Level, RegionTable
from shutong_core.domain.version import ListVersion

#: Classes whose members are remembered; a list has far fewer.
_CLASSES_MAX = 1_000
#: Territories named in an answer to a host of many.
_NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class Caller:
    """A system that the list knows, with its organisation's USCC."""

    system: str
    organisation: str

    @property
    def actor(self) -> str:
        """`<organisation>/<system>`, as receipts and access events carry it."""
        return f"{self.organisation}/{self.system}"


@dataclass(frozen=True, slots=True)
class Right:
    """What a caller may read under list `list_number`.

    `agency` is the USCC of whom it is read for: the caller's own organisation, or one it hosts.
    `territory` is set for a class grant: only its records may be let out.
    """

    grant: Grant
    dataset: Dataset
    caller: Caller
    agency: str
    territory: str | None
    list_number: int

    @property
    def hosted(self) -> bool:
        """Whether the caller reads for an organisation that it hosts."""
        return self.agency != self.caller.organisation

    def same_as(self, other: Right) -> bool:
        """Whether what was read under this right may be let out under `other`."""
        return (
            (self.grant.id, self.grant.items, self.grant.scope)
            == (other.grant.id, other.grant.items, other.grant.scope)
            and self.dataset.regions == other.dataset.regions
            and (self.agency, self.territory) == (other.agency, other.territory)
        )


def bearer(authorization: str | None) -> str | None:
    """The key in `Authorization: Bearer <key>` (RFC 6750 2.1); None if there is none."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None


def caller_of(version: ListVersion, system_id: str) -> Caller:
    """The caller that holds a key of `system_id`. Raises RequestRefused if the list has it not."""
    system = version.system(system_id)
    if system is None or version.organisation(system.organisation) is None:
        raise RequestRefused(Reason.UNAUTHENTICATED)
    return Caller(system.id, system.organisation)


@dataclass(frozen=True, slots=True)
class _Index:
    """What is asked of one list version at every request, found once."""

    version: ListVersion
    hosted: Mapping[str, tuple[Organisation, ...]]  # by host
    negatives: Mapping[str, tuple[Negative, ...]]  # by dataset

    @classmethod
    def of(cls, version: ListVersion) -> _Index:
        hosted: dict[str, tuple[Organisation, ...]] = {}
        negatives: dict[str, tuple[Negative, ...]] = {}
        for row in version.rows.values():
            if isinstance(row, Organisation) and row.hosted_by is not None:
                hosted[row.hosted_by] = (*hosted.get(row.hosted_by, ()), row)
            elif isinstance(row, Negative):
                negatives[row.dataset] = (*negatives.get(row.dataset, ()), row)
        return cls(version, hosted, negatives)


class Rights:
    """Decides by one division table; remembers what is costly to find: it is asked very often."""

    def __init__(self, table: RegionTable) -> None:
        self.table = table
        self._members: dict[RequesterClass, frozenset[str]] = {}
        self._index: _Index | None = None

    def _indexed(self, version: ListVersion) -> _Index:
        if self._index is None or self._index.version is not version:
            self._index = _Index.of(version)
        return self._index

    def right(
        self,
        version: ListVersion,
        system_id: str,
        grant_id: str,
        now_ms: int,
        territory: str | None = None,
    ) -> Right:
        """The right of `system_id` to read `grant_id` now (milliseconds since the epoch, UTC).

        `territory` chooses among several that a host reads for. Raises RequestRefused.
        """
        caller = caller_of(version, system_id)
        grant = version.grant(grant_id)
        dataset = version.dataset(grant.dataset) if grant else None
        if grant is None or dataset is None:
            raise RequestRefused(Reason.NOT_YOUR_GRANT)
        agency, own = self._reader(version, caller, grant, territory)
        negatives = self._indexed(version).negatives.get(dataset.id, ())
        _refuse_at_rest(grant, dataset, negatives, now_ms)
        return Right(grant, dataset, caller, agency, own, version.number)

    def _reader(
        self, version: ListVersion, caller: Caller, grant: Grant, territory: str | None
    ) -> tuple[str, str | None]:
        """For which organisation, and in which territory, the caller reads."""
        if grant.requester_class is None:
            requester = version.organisation(grant.requester or "")
            if requester is None or caller.organisation not in (requester.id, requester.hosted_by):
                raise RequestRefused(Reason.NOT_YOUR_GRANT)
            if territory is not None:
                raise RequestRefused(Reason.BAD_REQUEST, *_NO_TERRITORY)
            return requester.id, None
        if version.bus.division_digest != self.table.digest.hex():
            # Splitting by another table than the list means could show a town its neighbour.
            raise RequestRefused(Reason.LIST_LEASE_LOST, *_OTHER_TABLE)
        found = self._territories(version, caller, grant.requester_class)
        if territory is None and len(found) > 1:
            own = self._territory(version.organisation(caller.organisation))
            territory = own if own in found else None
            if territory is None:
                raise _choose(sorted(found))
        territory = territory or next(iter(found), "")
        agency = found.get(territory)
        if agency is None:
            raise RequestRefused(Reason.NOT_YOUR_GRANT)
        return agency, territory

    def _territories(
        self, version: ListVersion, caller: Caller, asked: RequesterClass
    ) -> dict[str, str]:
        """Territory → organisation, of those in the class that the caller is or hosts."""
        members = self.members(asked)
        own = version.organisation(caller.organisation)
        hosted = self._indexed(version).hosted.get(caller.organisation, ())
        found: dict[str, str] = {}
        # Its own organisation goes before one it hosts in the same territory.
        for each in (*((own,) if own else ()), *sorted(hosted, key=lambda row: row.id)):
            code = self._territory(each)
            if Role.REQUESTER in each.roles and code in members:
                found.setdefault(code, each.id)
        return found

    def _territory(self, organisation: Organisation | None) -> str:
        """The region of the organisation's government, "" if the table has it not."""
        code = self.table.normalise(organisation.region) if organisation else None
        return (code or "").removesuffix(SELF)

    def members(self, asked: RequesterClass) -> frozenset[str]:
        """The territories of a class; none if its codes are not in the table."""
        found = self._members.get(asked)
        if found is None:
            try:
                within = next(iter(self.table.scope_set([asked.within])))
                found = self.table.territories(Level.named(asked.level), within, asked.also)
            except Rejected:
                found = frozenset()
            if len(self._members) >= _CLASSES_MAX:
                self._members.clear()
            self._members[asked] = found
        return found

    def lies_in(self, territory: str) -> Callable[[str | None], bool]:
        """Whether a region code as records have it lies in `territory`; an unknown one does not."""

        def test(text: str | None) -> bool:
            code = self.table.normalise(text) if text else None
            return code is not None and self.table.contains(territory, code)

        return test


def _refuse_at_rest(
    grant: Grant, dataset: Dataset, negatives: Iterable[Negative], now_ms: int
) -> None:
    """Raises RequestRefused if nothing may flow under the grant now, for whatever reason."""
    if now_ms < _milliseconds(grant.valid_from):
        raise RequestRefused(Reason.NOT_YET_VALID)
    if now_ms >= _milliseconds(grant.valid_until):
        raise RequestRefused(Reason.EXPIRED)
    if grant.suspended is not None and now_ms >= _milliseconds(grant.suspended.since):
        raise RequestRefused(Reason.SUSPENDED)
    if dataset.secrecy != "none":
        raise RequestRefused(Reason.SECRET, status=403)
    flowing = {item for item, how in grant.items.items() if not isinstance(how, Drop)}
    if any(not row.items or flowing & set(row.items) for row in negatives):
        raise RequestRefused(Reason.NEGATIVE_LIST)
    if dataset.share is ShareClass.NOT_SHARED:
        raise RequestRefused(Reason.NEGATIVE_LIST)


_NO_TERRITORY = ("该许可不按区划拆分", "this grant is not split by territory")
_OTHER_TABLE = (
    "本服务的区划表与清单所用的不同，停止输出",
    "this service has another division table than the list, nothing is let out",
)


def _choose(territories: list[str]) -> RequestRefused:
    return RequestRefused(
        Reason.BAD_REQUEST,
        "代管多个区划，请用 territory 参数指明一个",
        "hosts several territories: name one in the parameter territory",
        more={"territories": territories[:_NAMED_MAX]},
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch, rounded up, as the lanes compare them."""
    whole = moment - _EPOCH
    micros = (whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds
    return -(-micros // 1000)
