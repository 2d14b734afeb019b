"""Who was withheld from the rows of one input, written down by runs of rows instead of by row.

Most grants that do not get a record do not get its neighbours either, for the same reason; going
through them for each record would make every record pay for every grant of the dataset. Where the
reasons change, only who comes and who goes is gone through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from shutong_broker.policy.withholding import Withheld, WithheldGrants
from shutong_core.audit.block import InputBuilder
from shutong_core.domain.reasons import Reason

#: Changes from one tuple of members to another that are remembered.
_CHANGES_MAX = 256


class _Change(NamedTuple):
    """From `before` to `after`, which are kept so that their identities stay theirs."""

    before: tuple[Withheld, ...]
    after: tuple[Withheld, ...]
    gone: tuple[Withheld, ...]
    come: tuple[Withheld, ...]


class WithheldRows:
    """Collects for one input; `counts` gives a grant's counter by reason.

    Who is out of scope is in no counter: that would take a step for every grant of the dataset.
    """

    def __init__(self, part: InputBuilder, counts: Callable[[str], Counter[Reason]]) -> None:
        self._part = part
        self._counts = counts
        #: The rows before `_end` share the very object `_members`, see `WithheldGrants.shared`;
        #: each member is withheld from the row in `_since` on.
        self._members: tuple[Withheld, ...] = ()
        self._since: dict[Withheld, int] = {}
        self._end = 0
        self._changes: dict[tuple[int, int], _Change] = {}
        #: Verdicts counted so far.
        self.total = 0

    def add(self, row: int, withheld: WithheldGrants) -> None:
        """The verdicts of `row`, which is not refused; rows ascending."""
        self.add_shared(row, row + 1, withheld.shared)
        self.add_own(row, dict.fromkeys(withheld.own, (0,)))

    def add_shared(self, first: int, end: int, shared: tuple[Withheld, ...]) -> None:
        """`shared` are withheld from the rows [first, end), none of them refused; ascending."""
        if self._end != first:
            self.finish()
        if self._members is not shared:
            change = self._change(self._members, shared)
            self._close(change.gone)
            self._since.update(dict.fromkeys(change.come, first))
            self._members = shared
        self._end = end

    def told_by(self, shared: Sequence[tuple[int, int, tuple[Withheld, ...]]]) -> int:
        """How many runs in the audit those rows need at most, see `add_shared`."""
        told = 0
        for (_, end, members), (first, _, more) in pairwise([(0, 0, ()), *shared]):
            told += len(self._change(members if end == first else (), more).come)
        return told

    def add_own(self, base: int, own: Mapping[Withheld, Sequence[int]]) -> None:
        """Each is withheld from the rows given, counted from `base`; ascending."""
        for (grant, reason), rows in own.items():
            for row in rows:
                self._part.withhold(base + row, grant, reason)
            self._counts(grant)[reason] += len(rows)
            self.total += len(rows)

    def finish(self) -> None:
        """After the last row."""
        self._close(self._members)
        self._members = ()

    def _close(self, members: Sequence[Withheld]) -> None:
        for withheld in members:
            first = self._since.pop(withheld)
            self._part.withhold_rows(first, self._end, *withheld)
            self._counts(withheld.grant)[withheld.reason] += self._end - first
            self.total += self._end - first

    def _change(self, before: tuple[Withheld, ...], after: tuple[Withheld, ...]) -> _Change:
        """Who goes and who comes; the same few tuples follow each other again and again."""
        found = self._changes.get((id(before), id(after)))
        if found is None:
            if len(self._changes) >= _CHANGES_MAX:
                self._changes.clear()
            gone = tuple(dict.fromkeys(before).keys() - after)
            come = tuple(dict.fromkeys(after).keys() - before)
            found = self._changes[id(before), id(after)] = _Change(before, after, gone, come)
        return found
