"""Makes the plan of one transaction: decisions turned into batches, audit block and lane state.

Pure: records, policies, state, salt and time in, a `Plan` out. Nothing here has happened yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shutong_broker.deciding import Deciding
from shutong_broker.outputs import Output
from shutong_broker.plan import DatasetCounts, GrantCounts, Plan, Polled
from shutong_broker.policies import PolicySet
from shutong_broker.policy.model import Decision, InboundRecord
from shutong_broker.state import ChainHead, Changes, LaneState
from shutong_broker.statecodec import StateCodec
from shutong_broker.window import Accepted, RepeatWindow, Seen
from shutong_core.audit.block import BlockBuilder, BlockFacts, InputBuilder
from shutong_core.audit.chain import genesis
from shutong_core.domain.errors import Fatal
from shutong_core.wire.batches import ColumnBatch, KafkaRecord, RecordBatch, chunks
from shutong_core.wire.busrecords import BusCodec
from shutong_core.wire.quarantine import (
    QuarantineHeaders,
    Source,
    quarantine_headers,
    refused_record,
    seal,
)
from shutong_core.wire.topics import Topics

QUARANTINE_BYTES_MAX = 1_900 * 1024
QUARANTINE_RECORDS_MAX = 10_000
#: A transaction takes no more records once its input, its output or its block has this size: the
#: rest is read again for the next one. One record always goes, whatever its size.
INPUT_BYTES_ENOUGH = 4 * 1024 * 1024
OUTPUT_BYTES_ENOUGH = 6 * 1024 * 1024
BLOCK_BYTES_ENOUGH = 1024 * 1024
#: Deciding holds up every other lane of the process, and the word on the list with them.
PLAN_S_ENOUGH = 0.1


@dataclass(frozen=True, slots=True)
class Origin:
    """What every block of a process says alike, with the secrets its plans need."""

    topics: Topics
    cluster: str
    engine: str
    instance: bytes  # 16 bytes, one per start of the process
    division_digest: bytes
    quarantine_key: bytes  # AES-256
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


class _Memory:
    """Event ids of the window and of the plan in the making; fits `deciding.Memory`."""

    def __init__(self, window: RepeatWindow, now_ms: int, accepted: Callable[[], Accepted]) -> None:
        self._window = window
        self._now_ms = now_ms
        self._ids: set[bytes] = set()
        self._accepted = accepted

    def none_of(self, ids: Sequence[bytes]) -> bool:
        return self._ids.isdisjoint(ids) and self._window.none_of(ids, self._now_ms)

    def find(self, id_hash: bytes) -> Seen | None:
        if id_hash in self._ids:
            return self._accepted().find(id_hash)
        return self._window.find(id_hash, self._now_ms)

    def accept(self, ids: Sequence[bytes]) -> None:
        self._ids.update(ids)


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
        self._now_ms = now_ms
        self._salt = planner.origin.random_bytes(16)
        self._block = BlockBuilder(self._salt)
        self._parts: list[InputBuilder] = []
        self._memory = _Memory(window, now_ms, self._accepted)
        self._outputs: dict[str, Output] = {}
        self._refused: list[KafkaRecord] = []
        self._positions: dict[str, int] = {}
        self._datasets: dict[str, DatasetCounts] = {}
        self._input_bytes = 0
        self._until = planner.origin.monotonic() + PLAN_S_ENOUGH

    @property
    def enough(self) -> bool:
        """Whether the transaction is large enough, or took long enough to plan."""
        return (
            self._origin.monotonic() >= self._until
            or self._input_bytes >= INPUT_BYTES_ENOUGH
            or sum(each.value_bytes for each in self._outputs.values()) >= OUTPUT_BYTES_ENOUGH
            or self._block.size_estimate() >= BLOCK_BYTES_ENOUGH
        )

    def add_input(self, polled: Polled) -> None:
        """Decide the records of one dataset, all of them unless it gets too much."""
        dataset, policy = polled.dataset, self._policies.by_dataset.get(polled.dataset)
        # From where this lane stood, not from the first record: control markers take offsets too,
        # and the audit's inputs must join without a gap.
        first = self._state.positions.get(dataset, polled.records[0].offset)
        part = self._block.add_input(dataset, first)
        self._parts.append(part)
        deciding = Deciding(
            polled,
            policy,
            self._policies.version.dataset(dataset),
            part,
            self._memory,
            lambda grant: self._output(part, grant),
            self._salt,
            self._now_ms,
        )
        bytes_before = self._input_bytes
        while not deciding.done:
            deciding.advance()
            self._input_bytes = bytes_before + deciding.input_bytes
            if deciding.taken and self.enough:
                break
        placed, withheld = deciding.finish()
        self._refused += [self._quarantined(*each) for each in deciding.refusals]
        self._positions[dataset] = deciding.next_offset
        refused, taken = deciding.refused, deciding.taken
        verdicts = (taken - refused.total()) * (len(policy.grants) if policy is not None else 0)
        self._datasets[dataset] = DatasetCounts(
            decided=taken,
            refused=refused,
            out_of_scope=verdicts - placed - withheld,
            oldest_ms=polled.records[0].timestamp_ms,
        )

    def _output(self, part: InputBuilder, grant: str) -> Output:
        found = self._outputs.get(grant)
        if found is None:
            found = self._outputs[grant] = Output(part)
        return found

    def _accepted(self) -> Accepted:
        columns = [part.accepted() for part in self._parts]
        ids, digests, operations = (b"".join(each) for each in zip(*columns, strict=True))
        return Accepted(self._salt, self._now_ms, ids, digests, operations)

    def _quarantined(self, record: InboundRecord, decision: Decision) -> KafkaRecord:
        refusal = decision.refusal
        if refusal is None:
            raise Fatal("a record that is not refused was to be quarantined")
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
        batches: list[ColumnBatch | RecordBatch] = []
        chains: dict[str, ChainHead] = {}
        for grant in sorted(self._outputs):
            output = self._outputs[grant]
            if output.keys:
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
        quarantine = chunks(self._refused, QUARANTINE_BYTES_MAX, QUARANTINE_RECORDS_MAX)
        batches += [RecordBatch(origin.topics.quarantine, self._lane, run) for run in quarantine]
        return Plan(
            header=block.header,
            body=block.body,
            batches=batches,
            state_records=self._states.encode(changes, state.block_offset + 1),
            changes=changes,
            accepted=self._accepted(),
            grants=tuple(chains),
            datasets=self._datasets,
            verdicts={
                grant: GrantCounts(len(output), output.withheld)
                for grant, output in self._outputs.items()
            },
        )

    def _segments(self, grant: str, output: Output) -> tuple[list[ColumnBatch], ChainHead]:
        """Delivery batches of one grant: each is one segment of its chain and says where."""
        row = self._policies.version.grant(grant)
        if row is None:
            raise Fatal(f"the policy placed for grant {grant}, which is not in its list")
        head = self._state.chains.get(grant)
        if head is None:
            head = ChainHead(0, genesis(self._origin.cluster, grant, self._lane))
        topic = self._origin.topics.delivery(grant)
        partition = self._lane if row.partitions == "lanes" else 0
        return output.segments(grant, topic, partition, self._lane, head)
