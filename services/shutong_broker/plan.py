"""What one transaction of a lane writes, and what memory becomes once it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shutong_broker.policy.model import InboundRecord
from shutong_broker.state import Changes
from shutong_broker.window import Accepted
from shutong_core.domain.reasons import Reason
from shutong_core.wire.batches import ColumnBatch, KafkaRecord, RecordBatch


@dataclass(frozen=True, slots=True)
class Polled:
    """Records of one dataset in offset order, at least one."""

    dataset: str
    records: Sequence[InboundRecord]

    @property
    def next(self) -> int:
        """The offset after the last record."""
        return self.records[-1].offset + 1


@dataclass(frozen=True, slots=True)
class DatasetCounts:
    """What became of one dataset's records in one transaction."""

    decided: int
    refused: Mapping[Reason, int]
    out_of_scope: int  # verdicts: records whose region lies outside a grant's scope
    oldest_ms: int  # log-append time of the first record


@dataclass(frozen=True, slots=True)
class GrantCounts:
    """What became of one grant's verdicts in one transaction, without those out of scope."""

    placed: int
    withheld: Mapping[Reason, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one transaction writes, and what memory becomes once it has."""

    header: bytes
    body: bytes
    batches: Sequence[ColumnBatch | RecordBatch]  # delivery and quarantine
    state_records: Sequence[KafkaRecord]
    changes: Changes
    accepted: Accepted
    grants: Sequence[str]  # grants that get records
    datasets: Mapping[str, DatasetCounts]
    verdicts: Mapping[str, GrantCounts]
