"""Decides what was polled of one input: its audit rows, its outputs, its refusals.

Records are decided in runs, as columns. What a run stops at, and what repeats an event id, is
decided alone, with all that memory can tell of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Protocol

from shutong_broker.outputs import Output
from shutong_broker.plan import Polled
from shutong_broker.policy.columns import Columns
from shutong_broker.policy.model import (
    DatasetPolicy,
    Decision,
    InboundRecord,
    LaneFacts,
    Operation,
)
from shutong_broker.policy.withholding import NONE_WITHHELD
from shutong_broker.window import Seen, compare
from shutong_broker.withheldrows import WithheldRows
from shutong_core.audit.block import InputBuilder, RowOperation, row_digest
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.reasons import Reason
from shutong_core.wire.framing import unframe
from shutong_core.wire.headers import operation_of, read_headers

#: Bounds of one run: what a transaction may hold is looked at between runs.
RUN_RECORDS = 500
RUN_BYTES = 256 * 1024
#: Of a run after one that was stopped: what was looked at beyond the stop is looked at again.
RUN_RECORDS_LEAST = 8
#: What one run may add to the audit block and to the outputs; with what makes a transaction
#: `enough` (see `planner`) a block stays below its limit. One record always goes.
RUN_BLOCK_BYTES = 512 * 1024
RUN_OUTPUT_BYTES = 64 * 1024 * 1024

_offset, _value = itemgetter(2), itemgetter(4)  # of an InboundRecord


class Memory(Protocol):
    """What the lane knows of event ids: its window, and what this plan accepted so far."""

    def none_of(self, ids: Sequence[bytes]) -> bool: ...
    def find(self, id_hash: bytes) -> Seen | None: ...
    def accept(self, ids: Sequence[bytes]) -> None: ...


class Deciding:
    """One input of a plan, from its first record to where the transaction is full."""

    def __init__(
        self,
        polled: Polled,
        policy: DatasetPolicy | None,
        row: Dataset | None,
        part: InputBuilder,
        memory: Memory,
        output: Callable[[str], Output],
        salt: bytes,
        now_ms: int,
    ) -> None:
        self.dataset = polled.dataset
        self.records = polled.records
        self.policy = policy
        self.part = part
        self.taken = 0
        self.input_bytes = 0
        self.refused: Counter[Reason] = Counter()
        self.refusals: list[tuple[InboundRecord, Decision]] = []
        self._memory = memory
        self._output = output
        self._salt = salt
        self._now_ms = now_ms
        self._told_by_headers = row is not None and row.operation == "ce_type"
        self._withheld = WithheldRows(part, lambda grant: output(grant).withheld)
        # Once an id came again, each record's id is looked at before its run.
        self._careful = False
        self._placed = 0
        self._size = self._size_max = RUN_RECORDS

    @property
    def done(self) -> bool:
        """Whether every record is decided."""
        return self.taken == len(self.records)

    @property
    def next_offset(self) -> int:
        """The offset after the last record decided."""
        return self.records[self.taken - 1].offset + 1

    def advance(self) -> None:
        """Decide one run of records, and the record it stops at."""
        run = self.records[self.taken : self.taken + self._run_size()]
        whole = len(run)
        if self._careful:
            run = self._until_repeat(run)
        columns = Columns()
        if run and self.policy is not None:
            columns = self.policy.run(run, self._salt, self._now_ms)
            if not self._careful and self._repeats(columns.ids):
                self._careful = True
                return
        if columns.rows > 1 and self._is_too_much(columns):
            self._size = self._size_max = columns.rows // 2
            return
        if columns.rows:
            self._take(run[: columns.rows], columns)
        self._size = min(max(2 * columns.rows, RUN_RECORDS_LEAST), self._size_max)
        if columns.rows < whole:
            self._take_alone(self.records[self.taken], columns.stopped)

    def finish(self) -> tuple[int, int]:
        """After the last record: verdicts placed and withheld, without those out of scope."""
        self._withheld.finish()
        self.part.end(self.next_offset)
        return self._placed, self._withheld.total

    def _run_size(self) -> int:
        run = self.records[self.taken : self.taken + self._size]
        sizes = list(map(len, filter(None, map(_value, run))))
        size = len(run)
        while size > 1 and sum(sizes[:size]) > RUN_BYTES:
            size //= 2
        return size

    def _is_too_much(self, columns: Columns) -> bool:
        """Whether a run says more than one run may."""
        told = self._withheld.told_by(columns.shared)
        return (
            columns.block_bytes(told) > RUN_BLOCK_BYTES or columns.output_bytes() > RUN_OUTPUT_BYTES
        )

    def _repeats(self, ids: Sequence[bytes]) -> bool:
        return not self._memory.none_of(ids) or len(set(ids)) < len(ids)

    def _until_repeat(self, run: Sequence[InboundRecord]) -> Sequence[InboundRecord]:
        """The records before the first whose id came before."""
        ids: set[bytes] = set()
        for at, record in enumerate(run):
            hashed = self._id_hash(record)
            if hashed is not None and (hashed in ids or not self._memory.none_of((hashed,))):
                return run[:at]
            if hashed is not None:
                ids.add(hashed)
        return run

    def _id_hash(self, record: InboundRecord) -> bytes | None:
        return self.policy.id_hash(record) if self.policy is not None else None

    def _take(self, run: Sequence[InboundRecord], columns: Columns) -> None:
        base = self.part.add_rows(
            list(map(_offset, run)),
            columns.publishers,
            columns.digests,
            columns.token_counts,
            columns.tokens,
            columns.id_present,
            columns.ids,
            columns.operations,
        )
        self._memory.accept(columns.ids)
        for grant, placed in columns.placed.items():
            output = self._output(grant)
            output.extend(placed)
            self.part.allow_rows(grant, placed.rows, base)
            self._placed += len(placed.rows)
        for first, end, shared in columns.shared:
            self._withheld.add_shared(base + first, base + end, shared)
        self._withheld.add_own(base, columns.own)
        self.input_bytes += sum(map(len, map(_value, run)))
        self.taken += len(run)

    def _take_alone(self, record: InboundRecord, decision: Decision | None) -> None:
        hashed = self._id_hash(record)
        if decision is None:
            decision = self._decide(record, hashed)
        self._add_row(record, decision, hashed)
        self.input_bytes += len(record.key or b"") + len(record.value or b"")
        self.taken += 1

    def _decide(self, record: InboundRecord, hashed: bytes | None) -> Decision:
        if self.policy is None:
            return _not_in_force(record)
        seen = self._memory.find(hashed) if hashed is not None else None
        facts = LaneFacts()
        if seen is not None and record.value is not None:
            framed = unframe(record.value, record.headers)
            body = record.value if isinstance(framed, Reason) else framed[1]
            facts = LaneFacts(compare(seen, body, self._told_operation(record)))
        return self.policy.decide(record, facts, self._now_ms)

    def _told_operation(self, record: InboundRecord) -> RowOperation | None:
        """The operation in the headers; None where the dataset says it in its items or not at all.

        The same body put first and then deleted is no repeat.
        """
        if not self._told_by_headers:
            return None
        headers = read_headers(record.headers)
        if isinstance(headers, Reason):
            return None
        told = operation_of(headers.ce_type)
        return None if isinstance(told, Reason) else RowOperation(Operation(told).number)

    def _add_row(self, record: InboundRecord, decision: Decision, hashed: bytes | None) -> None:
        refusal = decision.refusal
        row = self.part.add_row(
            offset=record.offset,
            publisher=decision.publisher,
            digest=row_digest(self._salt, decision.body),
            tokens=decision.tokens,
            id_hash=hashed,
            operation=RowOperation.UNKNOWN if refusal else decision.operation.number,
            refusal=refusal,
        )
        if refusal is not None:
            self.refused[refusal] += 1
            self.refusals.append((record, decision))
            return
        if hashed is not None:
            self._memory.accept((hashed,))
        for placement in decision.placements:
            self.part.allow(row, placement.grant)
            self._output(placement.grant).add(placement)
            self._placed += 1
        self._withheld.add(row, decision.withheld)


def _not_in_force(record: InboundRecord) -> Decision:
    return Decision(
        refusal=Reason.DATASET_NOT_IN_FORCE,
        path="",
        publisher="",
        event_id=None,
        body=record.value or b"",
        tokens=(),
        operation=Operation.PUT,
        placements=(),
        withheld=NONE_WITHHELD,
    )
