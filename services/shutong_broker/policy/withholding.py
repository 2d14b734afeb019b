"""The grants that do not get a record, told without naming each one for each record.

A dataset may have thousands of grants of which a record matches a few. Most of the others are
withheld for a reason that many records share, so the list of them is written out only where
somebody reads it; what must be written down for this record alone is at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, overload

from shutong_core.domain.reasons import Reason


class Withheld(NamedTuple):
    """A grant of the dataset that does not get the record, with the one reason."""

    grant: str
    reason: Reason


class Matched(Protocol):
    """Which grants a record's regions lead to; the same object for many records."""

    @property
    def everyone(self) -> Sequence[str]:
        """Ids of every grant of the dataset, ascending."""
        ...

    @property
    def reached(self) -> frozenset[str]:
        """Grants whose scope holds the record: placed, or in `own`."""
        ...


class WithheldGrants(Sequence[Withheld]):
    """Every grant not placed with its reason, ascending by grant id.

    `shared` are those withheld whatever the record's other items say, without the ones out of
    scope; records in a row often have the very same tuple here, which readers may use. `own` are
    those that this record's items withhold. Who is in neither and not placed is out of scope.
    Equal to any sequence with the same members.
    """

    __slots__ = ("_all", "_matched", "own", "shared")

    def __init__(
        self, shared: tuple[Withheld, ...], own: tuple[Withheld, ...], matched: Matched
    ) -> None:
        self.shared = shared
        self.own = own
        self._matched: Matched | None = matched
        self._all: tuple[Withheld, ...] | None = None

    @classmethod
    def listed(cls, members: tuple[Withheld, ...]) -> WithheldGrants:
        """The same from a complete list."""
        made = cls.__new__(cls)
        made.shared = ()
        made.own = tuple(w for w in members if w.reason is not Reason.REGION_OUT_OF_SCOPE)
        made._matched, made._all = None, members
        return made

    def _expanded(self) -> tuple[Withheld, ...]:
        if self._all is None:
            matched = self._matched
            if matched is None:
                return ()
            told = {each.grant: each for each in (*self.shared, *self.own)}
            self._all = tuple(
                told.get(grant) or Withheld(grant, Reason.REGION_OUT_OF_SCOPE)
                for grant in matched.everyone
                if grant in told or grant not in matched.reached
            )
        return self._all

    def __len__(self) -> int:
        return len(self._expanded())

    def __iter__(self) -> Iterator[Withheld]:
        return iter(self._expanded())

    @overload
    def __getitem__(self, index: int) -> Withheld: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Withheld, ...]: ...
    def __getitem__(self, index: int | slice) -> Withheld | tuple[Withheld, ...]:
        return self._expanded()[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return self is other or self._expanded() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._expanded())

    def __repr__(self) -> str:
        return f"WithheldGrants({list(self._expanded())!r})"


#: Of a refused record.
NONE_WITHHELD = WithheldGrants.listed(())
