"""What one transaction will write: decisions turned into batches, audit block and lane state.

Pure: records, policies, state, salt and time in, a `Plan` out. Nothing here has happened yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shutong_broker.policies import PolicySet
from shutong_broker.policy.model import Decision, InboundRecord, LaneFacts, Operation
from shutong_broker.state import ChainHead, Changes, LaneState
from shutong_broker.statecodec import StateCodec
from shutong_broker.window import RepeatWindow, Seen, compare
from shutong_core.audit.block import BlockBuilder
from shutong_core.audit.chain import Segment, extend, genesis
from shutong_core.audit.digests import id_hash, row_digest
from shutong_core.audit.header import header_hash
from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.errors import Fatal
from shutong_core.domain.grants import Grant
from shutong_core.domain.reasons import IMPLIED, Reason
from shutong_core.wire.batches import KafkaRecord, RecordBatch, chunks
from shutong_core.wire.framing import unframe
from shutong_core.wire.headers import SEGMENT_HEADER
from shutong_core.wire.quarantine import Quarantine
from shutong_core.wire.topics import Topics

#: Bounds of one delivery batch: far below the topic's 2 MiB, and many enough to be efficient.
SEGMENT_BYTES_MAX = 900 * 1024
SEGMENT_RECORDS_MAX = 10_000
QUARANTINE_BYTES_MAX = 1_900 * 1024


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


@dataclass(slots=True)
class _Grant:
    """Output of one grant while a plan is made."""

    records: list[KafkaRecord] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    withheld: Counter[Reason] = field(default_factory=Counter)


class Planner:
    """Makes plans; holds what is the same for every transaction of a process."""

    def __init__(
        self,
        topics: Topics,
        cluster: str,
        engine: str,
        instance: bytes,
        division_digest: bytes,
        states: StateCodec,
        quarantine: Quarantine,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._topics = topics
        self._cluster = cluster
        self._engine = engine
        self._instance = instance
        self._division_digest = division_digest
        self.states = states
        self._quarantine = quarantine
        self.now_ms = now_ms
        self._random_bytes = random_bytes

    def plan(
        self,
        lane: int,
        polled: Sequence[Polled],
        policies: PolicySet,
        state: LaneState,
        window: RepeatWindow,
        exposed: Sequence[str],
        now_ms: int,
    ) -> Plan:
        """The transaction for what was polled (datasets ascending, each in offset order)."""
        making = _Making(self, lane, policies, state, window, now_ms)
        for each in polled:
            making.add_input(each)
        return making.finish(exposed)


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
        self._planner = planner
        self._lane = lane
        self._policies = policies
        self._state = state
        self._window = window
        self._now_ms = now_ms
        self._salt = planner._random_bytes(16)
        self._block = BlockBuilder(self._salt)
        self._seen: dict[bytes, Seen] = {}
        self._grants: dict[str, _Grant] = {}
        self._refused: list[KafkaRecord] = []
        self._positions: dict[str, int] = {}
        self._datasets: dict[str, DatasetCounts] = {}

    def add_input(self, polled: Polled) -> None:
        """Decide every record of one dataset."""
        dataset, policy = polled.dataset, self._policies.by_dataset.get(polled.dataset)
        self._block.add_input(dataset, polled.records[0].offset, polled.next)
        self._positions[dataset] = polled.next
        refused: Counter[Reason] = Counter()
        for record in polled.records:
            hashed = None
            facts = LaneFacts()
            if policy is None:
                decision = _not_in_force(record)
            else:
                identity = policy.identity(record)
                if identity is not None:
                    hashed = id_hash(identity[0], dataset, identity[1])
                    facts = self._facts(hashed, record)
                decision = policy.decide(record, facts, self._now_ms)
            self._add_row(record, decision, hashed)
            if decision.refusal is not None:
                refused[decision.refusal] += 1
        self._datasets[dataset] = DatasetCounts(
            len(polled.records), refused, min(record.timestamp_ms for record in polled.records)
        )

    def _facts(self, hashed: bytes, record: InboundRecord) -> LaneFacts:
        seen = self._seen.get(hashed) or self._window.find(hashed, self._now_ms)
        if seen is None or record.value is None:
            return LaneFacts()
        framed = unframe(record.value, record.headers)
        return LaneFacts(compare(seen, record.value if isinstance(framed, Reason) else framed[1]))

    def _add_row(self, record: InboundRecord, decision: Decision, hashed: bytes | None) -> None:
        digest = row_digest(self._salt, decision.body)
        row = self._block.add_row(
            offset=record.offset,
            publisher=decision.publisher,
            digest=digest,
            tokens=decision.tokens,
            id_hash=hashed,
            operation=decision.operation,
            refusal=decision.refusal,
        )
        if decision.refusal is not None:
            self._refused.append(self._planner._quarantine.record(record, decision, self._lane))
            return
        if hashed is not None:
            self._seen[hashed] = Seen(hashed, self._salt, digest, self._now_ms)
        for placement in decision.placements:
            grant = self._grant(placement.grant)
            grant.records.append(KafkaRecord(placement.key, placement.value, placement.headers))
            grant.rows.append(row)
        for withheld in decision.withheld:
            self._grant(withheld.grant).withheld[withheld.reason] += 1
            if withheld.reason not in IMPLIED:
                self._block.withhold(row, withheld.grant, withheld.reason)

    def _grant(self, grant: str) -> _Grant:
        found = self._grants.get(grant)
        if found is None:
            found = self._grants[grant] = _Grant()
        return found
