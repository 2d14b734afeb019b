"""The decision, evaluated plainly: decode the record, check it, then ask each grant.

This is the reading of the rules that every faster implementation is compared with. It keeps no
state, reads no clock, and never raises: an error in a check refuses the record (RULE_ERROR), an
error in a grant withholds it from that grant (CONDITION_ERROR), and neither carries a value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

from shutong_broker.policy.columns import Columns
from shutong_broker.policy.minors import any_under_14, day_in_china
from shutong_broker.policy.model import (
    Decision,
    InboundRecord,
    LaneFacts,
    Operation,
    Placement,
    Withheld,
    WithheldGrants,
)
from shutong_broker.policy.plan import DatasetPlan, Datum, GrantPlan, ProjectionPlan, SchemaPlan
from shutong_core.audit.digests import id_hash
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable
from shutong_core.wire.codec import Undecodable, decode, encode
from shutong_core.wire.framing import frame, unframe
from shutong_core.wire.headers import (
    EVENT_ID_HEADER,
    InboundHeaders,
    operation_of,
    read_headers,
)
from shutong_core.wire.keys import delivered_key, partition_of
from shutong_core.wire.topics import INBOUND_BYTES_MAX

TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why the record is refused, and the item at fault."""

    reason: Reason
    path: str = ""


@dataclass(slots=True)
class _Reading:
    """What is known of one record so far; each check adds to it."""

    record: InboundRecord
    facts: LaneFacts
    headers: InboundHeaders | Reason
    publisher: str = ""
    event_id: str | None = None
    body: bytes = b""
    tokens: tuple[bytes, ...] = ()
    operation: Operation = Operation.PUT
    schema: SchemaPlan | None = None
    datum: Datum | None = None

    @property
    def decoded(self) -> tuple[SchemaPlan, Datum]:
        """Schema plan and datum; only checks after decoding may ask."""
        if self.schema is None or self.datum is None:
            raise RuntimeError("asked before the record was decoded")
        return self.schema, self.datum


class PolicyInterpreter:
    """Decides the records of one dataset by its plan."""

    def __init__(self, plan: DatasetPlan, table: RegionTable) -> None:
        self._plan = plan
        self._table = table
        # The order in which a record is refused: the first fault found is the reason given.
        self._checks: tuple[Callable[[_Reading], _Fault | None], ...] = (
            self._framing,
            self._schema,
            self._decoding,
            self._key,
            self._partition,
            self._publisher,
            self._operation,
            self._jurisdiction,
            self._secrecy,
            self._quality,
            self._event_id,
            self._repeat,
        )

    @property
    def dataset(self) -> str:
        """The dataset's id."""
        return self._plan.dataset.id

    @property
    def grants(self) -> tuple[str, ...]:
        """Ids of every grant of the dataset, ascending."""
        return self._plan.grants

    def run(self, records: Sequence[InboundRecord], salt: bytes, now_ms: int) -> Columns:  # noqa: ARG002
        """No columns: every record is decided alone."""
        return Columns()

    def identity(self, record: InboundRecord) -> tuple[str, str] | None:
        """(publisher, event id) of a record that has both; the publisher stands in the list."""
        if not any(name == EVENT_ID_HEADER for name, _ in record.headers):
            return None
        headers = read_headers(record.headers)
        if isinstance(headers, Reason) or not isinstance(headers.event_id, str):
            return None
        publisher = self._publisher_of(headers)
        return (publisher, headers.event_id) if publisher else None

    def id_hash(self, record: InboundRecord) -> bytes | None:
        """The hash of `identity` (8 bytes), keyed: an event id may be guessable."""
        identity = self.identity(record)
        if identity is None:
            return None
        publisher, event_id = identity
        return id_hash(publisher, self.dataset, event_id, self._plan.id_key)

    def decide(self, record: InboundRecord, facts: LaneFacts, now_ms: int) -> Decision:
        """All verdicts of `record` at `now_ms` (milliseconds since the epoch, UTC)."""
        reading = _Reading(record, facts, Reason.MALFORMED, body=record.value or b"")
        try:
            reading.headers = read_headers(record.headers)
            fault = self._first_fault(reading)
            if fault is not None:
                return _decision(reading, fault)
            today = day_in_china(now_ms)
        except Exception:  # a check that fails is a refusal, never a pass
            return _decision(reading, _Fault(Reason.RULE_ERROR))
        return self._verdicts(reading, now_ms, today)

    # Checks of the record, in the order of refusal.

    def _first_fault(self, reading: _Reading) -> _Fault | None:
        for check in self._checks:
            fault = check(reading)
            if fault is not None:
                return fault
        return None

    def _framing(self, reading: _Reading) -> _Fault | None:
        """Dataset, null value, null key, size, headers, framing; also who says it wrote this."""
        record, headers = reading.record, reading.headers
        # An own client's only writer needs no header to be told by: it hears of its faults too.
        reading.publisher = self._publisher_of(headers)
        if isinstance(headers, InboundHeaders):
            reading.event_id = headers.event_id if isinstance(headers.event_id, str) else None
        if record.dataset != self.dataset or not self._plan.in_force:
            return _Fault(Reason.DATASET_NOT_IN_FORCE)
        if record.value is None:
            return _Fault(Reason.NULL_VALUE)
        if isinstance(headers, Reason):
            return _Fault(Reason.NULL_KEY if record.key is None else headers)
        framed = unframe(record.value, record.headers)
        if not isinstance(framed, Reason):
            key, reading.body = framed
            reading.schema = self._plan.schemas.get(key)
        if record.key is None:
            return _Fault(Reason.NULL_KEY)
        if len(record.value) + len(record.key) > INBOUND_BYTES_MAX:
            return _Fault(Reason.TOO_LARGE)
        return _Fault(framed) if isinstance(framed, Reason) else None

    def _schema(self, reading: _Reading) -> _Fault | None:
        if reading.schema is None:
            return _Fault(Reason.UNKNOWN_SCHEMA)
        return None if reading.schema.key is not None else _Fault(Reason.RULE_ERROR)

    def _decoding(self, reading: _Reading) -> _Fault | None:
        plan = cast(SchemaPlan, reading.schema)
        try:
            datum = decode(plan.schema, reading.body)
        except Undecodable as error:
            return _Fault(error.reason, error.path)
        reading.tokens = tuple(
            subject_token(self._plan.token_key, datum[item])
            for item in plan.subjects
            if datum[item] is not None
        )
        reading.datum = datum
        return None

    def _key(self, reading: _Reading) -> _Fault | None:
        plan, datum = reading.decoded
        if plan.key is None or plan.key.key(datum) != reading.record.key:
            return _Fault(Reason.WRONG_KEY)
        return None

    def _partition(self, reading: _Reading) -> _Fault | None:
        key = reading.record.key or b""
        if partition_of(key, self._plan.lanes) != reading.record.partition:
            return _Fault(Reason.WRONG_PARTITION)
        return None

    def _publisher(self, reading: _Reading) -> _Fault | None:
        if not reading.publisher:
            return _Fault(Reason.UNKNOWN_PUBLISHER)
        organisation = reading.publisher.partition("/")[0]
        if organisation not in self._plan.jurisdictions:
            return _Fault(Reason.PUBLISHER_NOT_ALLOWED)
        return None

    def _operation(self, reading: _Reading) -> _Fault | None:
        """From the operation item, else from ce_type.

        A dataset without operations accepts only put: a correction or deletion that ce_type
        tells of would otherwise pass as a new record.
        """
        plan, datum = reading.decoded
        item = plan.operation_item
        if item is not None:
            value = datum[item]
            if value is None:
                return None
            if value not in set(Operation):
                return _Fault(Reason.UNKNOWN_OPERATION, item)
            reading.operation = Operation(value)
            return None
        told = operation_of(cast(InboundHeaders, reading.headers).ce_type)
        if self._plan.dataset.operation == "ce_type":
            if isinstance(told, Reason):
                return _Fault(told)
            reading.operation = Operation(told)
        elif told in {"correct", "delete"}:
            return _Fault(Reason.UNKNOWN_OPERATION)
        return None

    def _jurisdiction(self, reading: _Reading) -> _Fault | None:
        plan, datum = reading.decoded
        item = plan.provider_item
        region = self._region(datum[item]) if item is not None else None
        if region is None:
            return _Fault(Reason.UNKNOWN_REGION, item or "")
        organisation = reading.publisher.partition("/")[0]
        if not self._table.in_scope(region, self._plan.jurisdictions[organisation]):
            return _Fault(Reason.OUT_OF_JURISDICTION, item or "")
        return None

    def _secrecy(self, reading: _Reading) -> _Fault | None:
        return _Fault(Reason.SECRET) if reading.decoded[0].secret else None

    def _quality(self, reading: _Reading) -> _Fault | None:
        plan, datum = reading.decoded
        for rule in plan.rules:
            item = rule.check(datum)
            if item is not None:
                return _Fault(rule.reason, item)
        return None

    def _event_id(self, reading: _Reading) -> _Fault | None:
        found = cast(InboundHeaders, reading.headers).event_id
        return _Fault(found) if isinstance(found, Reason) else None

    def _repeat(self, reading: _Reading) -> _Fault | None:
        return _Fault(reading.facts.repeat) if reading.facts.repeat is not None else None

    def _publisher_of(self, headers: InboundHeaders | Reason) -> str:
        """`<organisation>/<system>` if the list has it, else ""."""
        if self._plan.dataset.inbound == "own_client":
            return self._plan.sole_publisher or ""
        told = headers.publisher if isinstance(headers, InboundHeaders) else None
        return told if told is not None and told in self._plan.systems else ""

    def _region(self, value: Any) -> str | None:
        return self._table.normalise(value) if isinstance(value, str) else None

    # Verdicts, grant by grant.

    def _verdicts(self, reading: _Reading, now_ms: int, today: date) -> Decision:
        plan, datum = reading.decoded
        # Projection plans are compared as objects: each distinct one is assembled once.
        assembled: dict[int, bytes] = {}
        placements: list[Placement] = []
        withheld: list[Withheld] = []
        for grant in plan.grants:
            try:
                reason = self._reason_to_withhold(grant, plan, datum, now_ms, today)
                if reason is None:
                    placements.append(_placement(grant, reading, assembled))
            except Exception:  # fails this grant alone, and closed
                reason = Reason.CONDITION_ERROR
            if reason is not None:
                withheld.append(Withheld(grant.grant.id, reason))
        return _decision(reading, None, tuple(placements), tuple(withheld))

    def _reason_to_withhold(  # noqa: PLR0911, C901 - one line per rule, in the order of precedence
        self, grant: GrantPlan, plan: SchemaPlan, datum: Datum, now_ms: int, today: date
    ) -> Reason | None:
        """The first reason in this order; None if the grant gets the record."""
        if now_ms < grant.from_ms:
            return Reason.NOT_YET_VALID
        if now_ms >= grant.until_ms:
            return Reason.EXPIRED
        if grant.suspended_ms is not None and now_ms >= grant.suspended_ms:
            return Reason.SUSPENDED
        if grant.blocked:
            return Reason.NEGATIVE_LIST
        if grant.projection is None:
            return Reason.SCHEMA_NOT_GRANTED
        region = self._region(datum[grant.region_item]) if grant.region_item else None
        if region is None:
            return Reason.GRANT_REGION_UNKNOWN
        if not self._table.in_scope(region, grant.scope):
            return Reason.REGION_OUT_OF_SCOPE
        if grant.condition_broken:
            return Reason.CONDITION_ERROR
        if grant.condition is not None and not grant.condition.passes(datum):
            return Reason.CONDITION_NOT_MET
        if not grant.grant.minors and _may_be_under_14(plan, datum, today):
            return Reason.MINOR_NOT_GRANTED
        return None


def _may_be_under_14(plan: SchemaPlan, datum: Datum, today: date) -> bool:
    """Whether a birth tells a person under 14, or a person is named and no birth tells anything."""
    if any_under_14((datum[item] for item in plan.births), today):
        return True
    untold = plan.tells_age and all(datum[item] is None for item in plan.births)
    return untold and any(datum[item] is not None for item in plan.subjects)


def subject_token(token_key: bytes, subject: str) -> bytes:
    """The 16-byte keyed BLAKE2b digest of a subject's identifier."""
    return hashlib.blake2b(subject.encode(), digest_size=TOKEN_BYTES, key=token_key).digest()


def _placement(grant: GrantPlan, reading: _Reading, assembled: dict[int, bytes]) -> Placement:
    projection = cast(ProjectionPlan, grant.projection)
    value = assembled.get(id(projection))
    if value is None:
        value = _assemble(projection, reading.decoded[1])
        assembled[id(projection)] = value
    record = reading.record
    headers: tuple[tuple[str, bytes], ...] = ()
    if grant.cloudevents is not None:
        # The bus's own time of arrival: what the publisher wrote in ce_time does not pass.
        headers = grant.cloudevents.headers(
            reading.operation, record.partition, record.offset, record.timestamp_ms
        )
    key = delivered_key(record.key or b"", grant.key_clear, grant.secret)
    return Placement(grant.grant.id, key, value, headers)


def _assemble(projection: ProjectionPlan, datum: Datum) -> bytes:
    """The framed delivered record: granted items only, masked where the grant says so."""
    delivered = {
        item: datum[item] if mask is None or datum[item] is None else mask(datum[item])
        for item, mask in projection.columns
    }
    return frame(projection.delivered_id, encode(projection.delivered, delivered))


def _decision(
    reading: _Reading,
    fault: _Fault | None,
    placements: tuple[Placement, ...] = (),
    withheld: tuple[Withheld, ...] = (),
) -> Decision:
    return Decision(
        refusal=fault.reason if fault else None,
        path=fault.path if fault else "",
        publisher=reading.publisher,
        event_id=reading.event_id,
        body=reading.body,
        tokens=reading.tokens,
        operation=reading.operation,
        placements=placements,
        withheld=WithheldGrants.listed(withheld),
    )
