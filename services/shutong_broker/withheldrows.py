"""Who was withheld from the rows of one input, written down by runs of rows instead of by row.

Most grants that do not get a record do not get its neighbours either, for the same reason; going
through them for each record would make every record pay for every grant of the dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from shutong_broker.policy.withholding import Withheld, WithheldGrants
from shutong_core.audit.block import InputBuilder
from shutong_core.domain.reasons import Reason


class WithheldRows:
    """Collects for one input; `counts` gives a grant's counter by reason."""

    def __init__(self, part: InputBuilder, counts: Callable[[str], Counter[Reason]]) -> None:
        self._part = part
        self._counts = counts
        #: Rows [first, end) share the very object `members`, see `WithheldGrants.shared`.
        self._members: tuple[Withheld, ...] = ()
        self._first = self._end = 0

    def add(self, row: int, withheld: WithheldGrants) -> None:
        """The verdicts of `row`, which is not refused; rows ascending."""
        if self._members is not withheld.shared or self._end != row:
            self._close()
            self._members, self._first = withheld.shared, row
        self._end = row + 1
        for grant, reason in withheld.own:
            self._part.withhold(row, grant, reason)
            self._counts(grant)[reason] += 1

    def finish(self, placed: Sequence[tuple[str, int]], passed: int) -> None:
        """After the last row: `placed` of `passed` rows for every grant of the dataset.

        The rest of each grant's rows is out of its scope.
        """
        self._close()
        for grant, rows in placed:
            counts = self._counts(grant)
            rest = passed - rows - counts.total()
            if rest:
                counts[Reason.REGION_OUT_OF_SCOPE] += rest

    def _close(self) -> None:
        """Write down the run that ends."""
        for grant, reason in self._members:
            self._part.withhold_rows(self._first, self._end, grant, reason)
            self._counts(grant)[reason] += self._end - self._first
        self._members = ()
