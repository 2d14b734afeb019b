"""Gathers the verdicts of one run into columns while the generated loop goes through it.

The loop is handed the `append` of each column; a row counts only once the loop has gone on to the
next one, so what an exception leaves half done is cut off at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

from shutong_broker.policy.columns import Columns, Placed
from shutong_broker.policy.matching import Match
from shutong_broker.policy.model import Decision, Operation
from shutong_broker.policy.runheads import RunHeads
from shutong_broker.policy.withholding import Withheld

_Append = Callable[[Any], None]
#: Of a candidate, as the loop goes through it: condition, literals, how to tell that it is not
#: met, how to tell a person under 14, the number of a projection that others share, projection,
#: its pieces, delivered key, cloudevents headers, the columns' appends.
Bound = tuple[tuple[Any, ...], ...]


class Gathering:
    """The columns of one run in the making."""

    __slots__ = ("_first", "_heads", "_lists", "_own", "_placed", "_shared", "adders", "bound")

    def __init__(self, heads: RunHeads) -> None:
        self.bound: dict[Match, Bound] = {}
        self._heads = heads
        self._lists: tuple[list[Any], ...] = ([], [], [])
        self.adders: tuple[_Append, ...] = tuple(each.append for each in self._lists)
        self._placed: dict[str, Placed] = {}
        self._own: dict[Withheld, list[int]] = {}
        self._shared: list[tuple[int, int, tuple[Withheld, ...]]] = []
        self._first = 0

    def share(self, row: int, shared: tuple[Withheld, ...] | None) -> None:
        """The rows until `row` share who is withheld from them."""
        if shared and self._first < row:
            self._shared.append((self._first, row, shared))
        self._first = row

    def bind(self, match: Match) -> Bound:
        """The match's candidates with the columns of this run; remembered in `bound`."""
        numbers = Counter(candidate.number for candidate in match.candidates)
        found = []
        for each in match.candidates:
            placed = self._placed.get(each.grant)
            if placed is None:
                placed = self._placed[each.grant] = Placed()
            out = (
                placed.rows.append,
                placed.keys.append,
                placed.values.append,
                placed.headers.append,
            )
            found.append(
                (
                    each.condition,
                    each.literals,
                    self._withhold(each.not_met),
                    self._withhold(each.minor) if each.minor is not None else None,
                    each.number if numbers[each.number] > 1 else None,
                    each.project,
                    each.pieces,
                    each.hide,
                    each.events,
                    out,
                )
            )
        bound = self.bound[match] = tuple(found)
        return bound

    def _withhold(self, withheld: Withheld) -> _Append:
        return self._own.setdefault(withheld, []).append

    def columns(self, rows: int, stopped: Decision | None) -> Columns:
        """The first `rows` rows; `stopped` as in `Columns`."""
        for placed in self._placed.values():
            _cut(placed.rows, rows)
            kept = len(placed.rows)
            del placed.keys[kept:], placed.values[kept:], placed.headers[kept:]
        for numbers in self._own.values():
            _cut(numbers, rows)
        digests, tokens, told = (each[:rows] for each in self._lists)
        ids = self._heads.id_hashes[:rows]
        known = [each for each in ids if each is not None]
        operations = told or self._heads.operations(rows)
        present = b"\x01" * rows if len(known) == rows else bytes(each is not None for each in ids)
        plain = operations.count(Operation.PUT) == rows
        return Columns(
            rows=rows,
            publishers=self._heads.publishers(rows),
            operations=bytes(rows) if plain else bytes(each.number for each in operations),
            digests=b"".join(digests),
            token_counts=bytes(map(len, tokens)),
            tokens=b"".join(chain.from_iterable(tokens)),
            id_present=present,
            ids=known,
            placed={grant: placed for grant, placed in self._placed.items() if placed.rows},
            shared=self._shared,
            own={withheld: numbers for withheld, numbers in self._own.items() if numbers},
            stopped=stopped,
        )


def _cut(numbers: list[int], rows: int) -> None:
    if numbers and numbers[-1] >= rows:
        numbers.pop()
