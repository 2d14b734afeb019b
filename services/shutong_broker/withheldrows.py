"""Who was withheld from the rows of one input, written down by runs of rows instead of by row.

Most grants that do not get a record do not get its neighbours either, for the same reason; going
through them for each record would make every record pay for every grant of the dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from shutong_broker.policy.withholding import Withheld, WithheldGrants
from shutong_core.audit.block import InputBuilder
from shutong_core.domain.reasons import Reason


class WithheldRows:
    """Collects for one input; `counts` gives a grant's counter by reason.

    Who is out of scope is in no counter: that would take a step for every grant of the dataset.
    """

    def __init__(self, part: InputBuilder, counts: Callable[[str], Counter[Reason]]) -> None:
        self._part = part
        self._counts = counts
        #: Rows [first, end) share the very object `members`, see `WithheldGrants.shared`.
        self._members: tuple[Withheld, ...] = ()
        self._first = self._end = 0
        #: Verdicts counted so far.
        self.total = 0

    def add(self, row: int, withheld: WithheldGrants) -> None:
        """The verdicts of `row`, which is not refused; rows ascending."""
        self.add_shared(row, row + 1, withheld.shared)
        self.add_own(row, dict.fromkeys(withheld.own, (0,)))

    def add_shared(self, first: int, end: int, shared: tuple[Withheld, ...]) -> None:
        """`shared` are withheld from the rows [first, end), none of them refused; ascending."""
        if self._members is not shared or self._end != first:
            self.finish()
            self._members, self._first = shared, first
        self._end = end

    def add_own(self, base: int, own: Mapping[Withheld, Sequence[int]]) -> None:
        """Each is withheld from the rows given, counted from `base`; ascending."""
        for (grant, reason), rows in own.items():
            for row in rows:
                self._part.withhold(base + row, grant, reason)
            self._counts(grant)[reason] += len(rows)
            self.total += len(rows)

    def finish(self) -> None:
        """After the last row."""
        for grant, reason in self._members:
            self._part.withhold_rows(self._first, self._end, grant, reason)
            self._counts(grant)[reason] += self._end - self._first
        self.total += len(self._members) * (self._end - self._first)
        self._members = ()
