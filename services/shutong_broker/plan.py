"""What one transaction will write: decisions turned into batches, audit block and lane state.

Pure: records, policies, state, salt and time in, a `Plan` out. Nothing here has happened yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shutong_broker.policies import PolicySet
from shutong_broker.policy.model import Decision, InboundRecord, LaneFacts, Operation
from shutong_broker.policy.withholding import NONE_WITHHELD
from shutong_broker.state import ChainHead, Changes, LaneState
from shutong_broker.statecodec import StateCodec
from shutong_broker.window import RepeatWindow, Seen, compare
from shutong_broker.withheldrows import WithheldRows
from shutong_core.audit.block import (
    BlockBuilder,
    BlockFacts,
    InputBuilder,
    RowOperation,
    id_hash,
    row_digest,
)
from shutong_core.audit.chain import SEGMENT_HEADER, Segment, extend, genesis
from shutong_core.domain.errors import Fatal
from shutong_core.domain.reasons import Reason
from shutong_core.wire.batches import KafkaRecord, RecordBatch, chunks
from shutong_core.wire.busrecords import BusCodec
from shutong_core.wire.framing import unframe
from shutong_core.wire.headers import operation_of, read_headers
from shutong_core.wire.quarantine import (
    QuarantineHeaders,
    Source,
    quarantine_headers,
    refused_record,
    seal,
)
from shutong_core.wire.topics import Topics

#: Bounds of one delivery batch: far below the topic's 2 MiB, and many enough to be efficient.
SEGMENT_BYTES_MAX = 900 * 1024
SEGMENT_RECORDS_MAX = 10_000
QUARANTINE_BYTES_MAX = 1_900 * 1024
#: A transaction takes no more records once its input, its output or its block has this size: the
#: rest is read again for the next one. One record always goes, whatever its size.
INPUT_BYTES_ENOUGH = 4 * 1024 * 1024
OUTPUT_BYTES_ENOUGH = 24 * 1024 * 1024
BLOCK_BYTES_ENOUGH = 1024 * 1024
#: Deciding holds up every other lane of the process, and the word on the list with them.
PLAN_S_ENOUGH = 0.1


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
    oldest_ms: int  # log-append time of the oldest record


@dataclass(frozen=True, slots=True)
class GrantCounts:
    """What became of one grant's verdicts in one transaction."""

    placed: int
    withheld: Mapping[Reason, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one transaction writes, and what memory becomes once it has."""

    header: bytes
    body: bytes
    batches: Sequence[RecordBatch]  # delivery and quarantine
    state_records: Sequence[KafkaRecord]
    changes: Changes
    seen: Sequence[Seen]
    grants: Sequence[str]  # grants that get records
    datasets: Mapping[str, DatasetCounts]
    verdicts: Mapping[str, GrantCounts]


@dataclass(frozen=True, slots=True)
class Origin:
    """What every block of a process says alike, with the secrets its plans need."""

    topics: Topics
    cluster: str
    engine: str
    instance: bytes  # 16 bytes, one per start of the process
    division_digest: bytes
    quarantine_key: bytes  # AES-256
    event_id_key: bytes  # an event id may be guessable: its hash in the audit is keyed
    codec: BusCodec
    random_bytes: Callable[[int], bytes]
    monotonic: Callable[[], float]  # seconds: only how long a plan takes, never what it decides


class Planner:
    """Makes plans; holds what is the same for every transaction of a process."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.states = StateCodec(origin.codec)

    def plan(
        self,
        lane: int,
        polled: Sequence[Polled],
        policies: PolicySet,
        state: LaneState,
        window: RepeatWindow,
        exposed: Sequence[str] | None,
        now_ms: int,
    ) -> Plan:
        """The transaction for what was polled: at least one input, each once, in offset order.

        It may take only the first part of it: `changes.positions` says how far it got. `exposed`:
        None unless an attempt of this lane was aborted, see `BlockBuilder.build`.
        """
        making = _Making(self, lane, policies, state, window, now_ms)
        making.add_input(polled[0])
        for each in polled[1:]:
            if not making.enough:
                making.add_input(each)
        return making.finish(exposed)


class _Output:
    """What one grant gets and does not get while a plan is made."""

    __slots__ = ("part", "records", "withheld")

    def __init__(self, part: InputBuilder) -> None:
        self.part = part
        self.records: list[KafkaRecord] = []
        self.withheld: Counter[Reason] = Counter()


class _Making:
    """One plan in the making."""

    def __init__(
        self,
        planner: Planner,
        lane: int,
        policies: PolicySet,
        state: LaneState,
        window: RepeatWindow,
        now_ms: int,
    ) -> None:
        self._origin = planner.origin
        self._states = planner.states
        self._lane = lane
        self._policies = policies
        self._state = state
        self._window = window
        self._now_ms = now_ms
        self._salt = planner.origin.random_bytes(16)
        self._block = BlockBuilder(self._salt)
        self._seen: dict[bytes, Seen] = {}
        self._outputs: dict[str, _Output] = {}
        self._refused: list[KafkaRecord] = []
        self._positions: dict[str, int] = {}
        self._datasets: dict[str, DatasetCounts] = {}
        self._input_bytes = 0
        self._output_bytes = 0
        self._until = planner.origin.monotonic() + PLAN_S_ENOUGH

    @property
    def enough(self) -> bool:
        """Whether the transaction is large enough, or took long enough to plan."""
        return (
            self._origin.monotonic() >= self._until
            or self._input_bytes >= INPUT_BYTES_ENOUGH
            or self._output_bytes >= OUTPUT_BYTES_ENOUGH
            or self._block.size_estimate() >= BLOCK_BYTES_ENOUGH
        )

    def add_input(self, polled: Polled) -> None:
        """Decide the records of one dataset, all of them unless it gets too much."""
        dataset, policy = polled.dataset, self._policies.by_dataset.get(polled.dataset)
        # From where this lane stood, not from the first record: control markers take offsets too,
        # and the audit's inputs must join without a gap.
        first = self._state.positions.get(dataset, polled.records[0].offset)
        part = self._block.add_input(dataset, first)
        refused: Counter[Reason] = Counter()
        withheld = WithheldRows(part, lambda grant: self._output(part, grant).withheld)
        taken = 0
        for taken, record in enumerate(polled.records, start=1):
            hashed = None
            facts = LaneFacts()
            if policy is None:
                decision = _not_in_force(record)
            else:
                identity = policy.identity(record)
                if identity is not None:
                    publisher, event_id = identity
                    hashed = id_hash(publisher, dataset, event_id, self._origin.event_id_key)
                    facts = self._facts(hashed, record)
                decision = policy.decide(record, facts, self._now_ms)
            self._add_row(part, record, decision, hashed, withheld)
            if decision.refusal is not None:
                refused[decision.refusal] += 1
            self._input_bytes += len(record.key or b"") + len(record.value or b"")
            # Looking at the block's size costs more than a record: now and then is enough.
            if self._origin.monotonic() >= self._until or (taken % 32 == 0 and self.enough):
                break
        grants = policy.grants if policy is not None else ()
        placed = [(grant, len(self._output(part, grant).records)) for grant in grants]
        withheld.finish(placed, taken - refused.total())
        records = polled.records[:taken]
        next_offset = records[-1].offset + 1
        part.end(next_offset)
        self._positions[dataset] = next_offset
        self._datasets[dataset] = DatasetCounts(
            taken, refused, min(record.timestamp_ms for record in records)
        )

    def _facts(self, hashed: bytes, record: InboundRecord) -> LaneFacts:
        seen = self._seen.get(hashed) or self._window.find(hashed, self._now_ms)
        if seen is None or record.value is None:
            return LaneFacts()
        framed = unframe(record.value, record.headers)
        body = record.value if isinstance(framed, Reason) else framed[1]
        return LaneFacts(compare(seen, body, self._told_operation(record)))

    def _told_operation(self, record: InboundRecord) -> RowOperation | None:
        """The operation in the headers; None where the dataset says it in its items or not at all.

        The same body put first and then deleted is no repeat.
        """
        dataset = self._policies.version.dataset(record.dataset)
        headers = read_headers(record.headers)
        if dataset is None or dataset.operation != "ce_type" or isinstance(headers, Reason):
            return None
        told = operation_of(headers.ce_type)
        return None if isinstance(told, Reason) else _OPERATIONS[Operation(told)]

    def _add_row(
        self,
        part: InputBuilder,
        record: InboundRecord,
        decision: Decision,
        hashed: bytes | None,
        withheld: WithheldRows,
    ) -> None:
        digest = row_digest(self._salt, decision.body)
        refusal = decision.refusal
        row = part.add_row(
            offset=record.offset,
            publisher=decision.publisher,
            digest=digest,
            tokens=decision.tokens,
            id_hash=hashed,
            operation=RowOperation.UNKNOWN if refusal else _OPERATIONS[decision.operation],
            refusal=refusal,
        )
        if refusal is not None:
            self._refused.append(self._quarantined(record, decision, refusal))
            return
        if hashed is not None:
            operation = _OPERATIONS[decision.operation]
            self._seen[hashed] = Seen(hashed, self._salt, digest, operation, self._now_ms)
        for placement in decision.placements:
            part.allow(row, placement.grant)
            self._output(part, placement.grant).records.append(
                KafkaRecord(placement.key, placement.value, placement.headers)
            )
            self._output_bytes += len(placement.value)
        withheld.add(row, decision.withheld)

    def _output(self, part: InputBuilder, grant: str) -> _Output:
        found = self._outputs.get(grant)
        if found is None:
            found = self._outputs[grant] = _Output(part)
        return found

    def _quarantined(
        self, record: InboundRecord, decision: Decision, refusal: Reason
    ) -> KafkaRecord:
        source = Source(record.dataset, self._lane, record.offset)
        told = QuarantineHeaders(
            decision.publisher, decision.event_id, refusal, decision.path, source
        )
        kept = refused_record(record.key, record.value, record.headers)
        origin = self._origin
        sealed = seal(origin.codec, origin.quarantine_key, kept, source, origin.random_bytes)
        return KafkaRecord(None, sealed, tuple(quarantine_headers(told)))

    def finish(self, exposed: Sequence[str] | None) -> Plan:
        """The plan, once every input was added."""
        state, version, origin = self._state, self._policies.version, self._origin
        batches: list[RecordBatch] = []
        chains: dict[str, ChainHead] = {}
        for grant in sorted(self._outputs):
            output = self._outputs[grant]
            if output.records:
                made, chains[grant] = self._segments(grant, output)
                batches += made
        block = self._block.build(
            BlockFacts(
                cluster=origin.cluster,
                lane=self._lane,
                sequence=state.sequence + 1,
                previous=state.header_hash,
                list_number=version.number,
                list_digest=version.digest,
                engine=origin.engine,
                decided_ms=self._now_ms,
                division_digest=origin.division_digest,
                instance=origin.instance,
            ),
            exposed,
        )
        changes = Changes(state.sequence + 1, block.hash, self._positions, chains)
        quarantine = chunks(self._refused, QUARANTINE_BYTES_MAX, SEGMENT_RECORDS_MAX)
        batches += [RecordBatch(origin.topics.quarantine, self._lane, run) for run in quarantine]
        return Plan(
            header=block.header,
            body=block.body,
            batches=batches,
            state_records=self._states.encode(changes, state.block_offset + 1),
            changes=changes,
            seen=tuple(self._seen.values()),
            grants=tuple(chains),
            datasets=self._datasets,
            verdicts={
                grant: GrantCounts(len(output.records), output.withheld)
                for grant, output in self._outputs.items()
            },
        )

    def _segments(self, grant: str, output: _Output) -> tuple[list[RecordBatch], ChainHead]:
        """Delivery batches of one grant: each is one segment of its chain and says where."""
        topic = self._origin.topics.delivery(grant)
        partition = self._delivery_partition(grant)
        head = self._state.chains.get(grant)
        if head is None:
            head = ChainHead(0, genesis(self._origin.cluster, grant, self._lane))
        k, chain = head.k, head.chain
        batches = []
        for run in chunks(output.records, SEGMENT_BYTES_MAX, SEGMENT_RECORDS_MAX):
            segment = (SEGMENT_HEADER, Segment(self._lane, k + 1, chain).encode())
            first = KafkaRecord(run[0].key, run[0].value, (segment, *run[0].headers))
            batches.append(RecordBatch(topic, partition, [first, *run[1:]]))
            chain = extend(chain, ((record.key, record.value) for record in run))
            k += len(run)
        placed_bytes = sum(len(each.key or b"") + len(each.value or b"") for each in output.records)
        output.part.place(grant, head.k + 1, placed_bytes, chain)
        return batches, ChainHead(k, chain)

    def _delivery_partition(self, grant: str) -> int:
        row = self._policies.version.grant(grant)
        if row is None:
            raise Fatal(f"the policy placed for grant {grant}, which is not in its list")
        return self._lane if row.partitions == "lanes" else 0


_OPERATIONS = {
    Operation.PUT: RowOperation.PUT,
    Operation.CORRECT: RowOperation.CORRECT,
    Operation.DELETE: RowOperation.DELETE,
}


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
