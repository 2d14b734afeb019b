"""Verdicts on a run of records as columns: the form in which the audit keeps them.

A run holds only records that are not refused; whatever is refused, or must be looked at slowly,
ends the run before it. No object is made for a record as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shutong_broker.policy.model import Decision
from shutong_broker.policy.withholding import Withheld
from shutong_core.domain.reasons import IMPLIED

# At most, in an audit block: a row with an event id; a run of rows withheld from a grant; a grant's
# numbers with its name; a publisher's name.
_ROW_BYTES, _TOLD_BYTES, _COLUMN_BYTES, _PUBLISHER_BYTES = 64, 12, 192, 260


@dataclass(slots=True)
class Placed:
    """What one grant gets of a run, in row order.

    `headers` holds one tuple for each record where the grant asks for cloudevents, else nothing.
    """

    rows: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)  # framed
    headers: list[tuple[tuple[str, bytes], ...]] = field(default_factory=list)


@dataclass(slots=True)
class Columns:
    """The verdicts on consecutive records of one input; row 0 is the run's first record.

    `operations` holds `Operation.number`; `digests` SHA-256(salt ‖ body) of each row (32 bytes);
    `tokens` the subject tokens of all rows one after the other (16 bytes each), of which row r has
    `token_counts[r]`; `ids` the event id hashes (8 bytes each) of the rows whose byte in
    `id_present` is 1. `shared` are runs of rows [first, end) with those withheld from all of them,
    without those out of scope; `own` the rows withheld from a grant for what stands in them.
    `stopped` is the refusal of the record after the last row, where that is already known.
    """

    rows: int = 0
    publishers: Sequence[str] = ()
    operations: bytes = b""
    digests: bytes = b""
    token_counts: bytes = b""
    tokens: bytes = b""
    id_present: bytes = b""
    ids: Sequence[bytes] = ()
    placed: dict[str, Placed] = field(default_factory=dict)
    shared: list[tuple[int, int, tuple[Withheld, ...]]] = field(default_factory=list)
    own: dict[Withheld, list[int]] = field(default_factory=dict)
    stopped: Decision | None = None

    def block_bytes(self, told: int) -> int:
        """Upper estimate of what the rows add to an audit block, `told` runs by `shared`."""
        for (_, reason), rows in self.own.items():
            if reason not in IMPLIED:
                together = rows[-1] - rows[0] + 1 == len(rows)
                told += 1 if together else len(rows)
        return (
            self.rows * _ROW_BYTES
            + len(self.tokens)
            + told * _TOLD_BYTES
            + len(self.placed) * (_COLUMN_BYTES + self.rows // 8)
            + len(set(self.publishers)) * _PUBLISHER_BYTES
        )

    def output_bytes(self) -> int:
        """Bytes of all values placed."""
        return sum(sum(map(len, placed.values)) for placed in self.placed.values())
