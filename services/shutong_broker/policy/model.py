"""What the decision takes and gives: a record and lane facts in, one `Decision` out.

Plain values only, so that any past decision can be replayed and compared byte for byte. Those
made for each record are named tuples: frozen dataclasses take several times as long to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from shutong_broker.policy.withholding import Withheld, WithheldGrants
from shutong_core.domain.reasons import Reason

if TYPE_CHECKING:
    from shutong_broker.policy.columns import Columns

__all__ = [
    "DatasetPolicy",
    "Decision",
    "InboundRecord",
    "LaneFacts",
    "Operation",
    "Placement",
    "Withheld",
    "WithheldGrants",
]


class Operation(StrEnum):
    """What the publisher did: 新增/变更, 更正, 注销/撤销."""

    PUT = "put"
    CORRECT = "correct"
    DELETE = "delete"

    @property
    def number(self) -> int:
        """What the audit stores for it."""
        return _NUMBERS[self]


_NUMBERS = {Operation.PUT: 0, Operation.CORRECT: 1, Operation.DELETE: 2}


class InboundRecord(NamedTuple):
    """One record of `inbound.<dataset>` as Kafka holds it; `partition` is the lane."""

    dataset: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class LaneFacts:
    """What only memory can tell, computed by the lane before deciding.

    `repeat` is `Reason.DUPLICATE`, `Reason.ID_REUSED` or None.
    """

    repeat: Reason | None = None


class Placement(NamedTuple):
    """A record for one grant's delivery topic: key, framed value, cloudevents headers if asked."""

    grant: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Decision(NamedTuple):
    """All verdicts of one record.

    `refusal` set: refused as a whole, then `placements` and `withheld` are empty and `path` names
    the item at fault ("" for the record itself), never its value.
    `publisher` is `<organisation>/<system>`, "" if unknown. `event_id` is the idempotency id of
    the publisher, None if it gave none. `body` is the Avro body without framing: b"" for a null
    value, the raw value where the framing cannot be read. `tokens` are 16-byte keyed BLAKE2b
    digests of the subject values. Every grant of the dataset is in exactly one of `placements`
    and `withheld` unless the record is refused; `withheld` is written out only where it is read.
    """

    refusal: Reason | None
    path: str
    publisher: str
    event_id: str | None
    body: bytes
    tokens: tuple[bytes, ...]
    operation: Operation
    placements: tuple[Placement, ...]
    withheld: WithheldGrants


class DatasetPolicy(Protocol):
    """The list in force as it bears on one dataset. Implementations are pure and never raise."""

    def run(self, records: Sequence[InboundRecord], salt: bytes, now_ms: int) -> Columns:
        """The verdicts on the first of `records` (at least one, all of this dataset) as columns.

        Ends before the first record that is refused or has to be decided alone by `decide`; no
        record is taken for a repeat. `salt` is the audit block's, of which row digests are made.
        """
        ...

    @property
    def dataset(self) -> str:
        """The dataset's id."""
        ...

    @property
    def grants(self) -> tuple[str, ...]:
        """Ids of every grant of the dataset, ascending."""
        ...

    def decide(self, record: InboundRecord, facts: LaneFacts, now_ms: int) -> Decision:
        """All verdicts of `record` at `now_ms` (milliseconds since the epoch, UTC)."""
        ...

    def id_hash(self, record: InboundRecord) -> bytes | None:
        """What stands for publisher and event id, by the headers alone; None if one is missing."""
        ...
