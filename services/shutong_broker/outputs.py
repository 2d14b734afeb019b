"""What one grant gets from one transaction: records in columns, cut into segments of its chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from shutong_broker.policy.columns import Placed
from shutong_broker.policy.model import Placement
from shutong_broker.state import ChainHead
from shutong_core.audit.block import InputBuilder
from shutong_core.audit.chain import SEGMENT_HEADER, Segment, extend_columns
from shutong_core.domain.reasons import Reason
from shutong_core.wire.batches import ColumnBatch, Headers, cut, headers_size

#: Bounds of one delivery batch: far below the topic's 2 MiB, and many enough to be efficient.
SEGMENT_BYTES_MAX = 900 * 1024
SEGMENT_RECORDS_MAX = 10_000


class Output:
    """What one grant gets and does not get of one input while a plan is made."""

    __slots__ = ("headers", "keys", "part", "value_bytes", "values", "withheld")

    def __init__(self, part: InputBuilder) -> None:
        self.part = part
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.headers: list[Headers] = []  # of each record, or of none
        self.value_bytes = 0
        self.withheld: Counter[Reason] = Counter()

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, placement: Placement) -> None:
        """One record more."""
        self.keys.append(placement.key)
        self.values.append(placement.value)
        if placement.headers:
            self.headers.append(placement.headers)
        self.value_bytes += len(placement.value)

    def extend(self, placed: Placed) -> None:
        """The records of one run more."""
        self.keys += placed.keys
        self.values += placed.values
        self.headers += placed.headers
        self.value_bytes += sum(map(len, placed.values))

    def segments(
        self, grant: str, topic: str, partition: int, lane: int, head: ChainHead
    ) -> tuple[list[ColumnBatch], ChainHead]:
        """The delivery batches, each one segment of the grant's chain, and the chain after them."""
        k, chain = head.k, head.chain
        batches = []
        header_bytes = max(map(headers_size, self.headers), default=0)
        for run in cut(
            self.keys, self.values, header_bytes, SEGMENT_BYTES_MAX, SEGMENT_RECORDS_MAX
        ):
            keys, values = self.keys[run], self.values[run]
            batches.append(
                ColumnBatch(
                    topic,
                    partition,
                    keys,
                    values,
                    first_headers=((SEGMENT_HEADER, Segment(lane, k + 1, chain).encode()),),
                    headers=self.headers[run] if self.headers else None,
                )
            )
            chain = extend_columns(chain, keys, values)
            k += len(keys)
        placed_bytes = self.value_bytes + sum(map(len, self.keys))
        self.part.place(grant, head.k + 1, placed_bytes, chain)
        return batches, ChainHead(k, chain)


def records_in(outputs: Iterable[Output]) -> int:
    """Records placed by all of them."""
    return sum(map(len, outputs))
