"""The door of one dataset for one publisher: entries in, Kafka records out, or all their faults.

Checked here, so that who sends can correct at once: schema, types, canonical Avro, operation,
quality rules, size. Region, jurisdiction and repeats are the lane's to judge; it also checks all
of this again, because not everything comes through this door.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from shutong_core.domain.catalogue import Dataset, OperationItem, SchemaRef
from shutong_core.domain.errors import Rejected
from shutong_core.domain.quality import Rule, compile_rule
from shutong_core.domain.reasons import Reason
from shutong_core.domain.version import ListVersion
from shutong_core.wire.batches import KafkaRecord
from shutong_core.wire.codec import Undecodable, Unencodable, decode, encode
from shutong_core.wire.framing import frame, unframe
from shutong_core.wire.headers import OperationName, inbound_headers
from shutong_core.wire.jsonmap import BadValue, Problem, from_json
from shutong_core.wire.keys import KeyRule, key_rule, partition_of
from shutong_core.wire.schemas import Schema
from shutong_core.wire.topics import INBOUND_BYTES_MAX
from shutong_producer.entries import OPERATIONS, Entry, Faulty, fault, too_large

#: Kafka's own header of a record batch (61 bytes) with room to spare.
_BATCH_OVERHEAD_BYTES = 1024
RECORD_SIZE_MAX = INBOUND_BYTES_MAX - _BATCH_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record ready to be written; `digest` is SHA-256 (hexadecimal) of its Avro body.

    `id_made` says that the entry had no id and was given `id` here.
    """

    index: int
    id: str
    id_made: bool
    partition: int
    record: KafkaRecord
    digest: str


@dataclass(frozen=True, slots=True)
class _Version:
    """One schema version with what is derived from it once."""

    ref: SchemaRef
    schema: Schema
    key: KeyRule
    rules: tuple[Rule, ...]


class NoSchema(Rejected):
    """The list names no schema that can be used for the dataset: somebody has to look."""


class Door:
    """Prepares the entries of one publisher for one dataset under one list version."""

    def __init__(
        self,
        version: ListVersion,
        dataset: Dataset,
        schemas: Mapping[int, Schema],
        publisher: str,
        record_bytes_max: int,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """Raises NoSchema if no schema of the dataset is usable, Rejected if the list is broken."""
        self.dataset = dataset
        self._lanes = version.bus.lanes
        self._publisher = publisher
        self._bytes_max = record_bytes_max
        self._new_id = new_id
        self._versions = {
            ref.id: made
            for ref in sorted(dataset.schemas, key=lambda ref: ref.version)
            if (made := _version_of(dataset, ref, schemas)) is not None
        }
        if not self._versions:
            raise NoSchema(f"dataset {dataset.id} has no usable schema")
        self._latest = max(self._versions.values(), key=lambda each: each.ref.version)

    @property
    def latest(self) -> tuple[SchemaRef, Schema]:
        """The newest schema version: the one JSON is read by."""
        return self._latest.ref, self._latest.schema

    def prepare(self, entry: Entry) -> Prepared | Faulty:
        """The Kafka record for `entry`, or all its faults."""
        try:
            if entry.framed is not None:
                version, datum, body = self._avro(entry.framed)
            else:
                version = self._latest
                datum = from_json(version.schema, entry.data)
                body = encode(version.schema, datum)
        except BadValue as error:
            return _faulty(entry, error.problems)
        except _Refusal as error:
            return _faulty(entry, (error.problem,))
        except Unencodable as error:
            return _faulty(entry, (fault(Reason.BAD_VALUE, error.path),))
        if len(body) > self._bytes_max:
            return _faulty(entry, (too_large(self._bytes_max),))
        problems = self._operation(entry, datum) + _quality(version.rules, datum)
        if problems:
            return _faulty(entry, problems)
        return self._record(entry, version, datum, body)

    def _avro(self, framed: bytes) -> tuple[_Version, dict[str, Any], bytes]:
        found = unframe(framed)
        if isinstance(found, Reason):
            raise _Refusal(fault(found))
        schema_id, body = found
        version = self._versions.get(cast(int, schema_id))
        if version is None:
            raise _Refusal(fault(Reason.UNKNOWN_SCHEMA))
        if len(body) > self._bytes_max:
            raise _Refusal(too_large(self._bytes_max))
        try:
            return version, decode(version.schema, body), body
        except Undecodable as error:
            raise _Refusal(fault(error.reason, error.path)) from None

    def _operation(self, entry: Entry, datum: Mapping[str, Any]) -> tuple[Problem, ...]:
        """The operation must be one this dataset can express, see the lane's own check."""
        place = self.dataset.operation
        if place == "ce_type":
            return ()
        if isinstance(place, OperationItem):
            value = datum.get(place.item)
            if value is not None and value not in OPERATIONS:
                return (fault(Reason.UNKNOWN_OPERATION, place.item),)
            if entry.operation is not None and entry.operation != (value or "put"):
                zh = f"操作类型写在信息项 {place.item}，与 operation 不一致"
                en = f"the operation stands in item {place.item} and differs from this one"
                return (fault(Reason.UNKNOWN_OPERATION, "operation", zh, en),)
            return ()
        if entry.operation in {None, "put"}:
            return ()
        zh, en = "该数据资源只接受 put", "this dataset takes only put"
        return (fault(Reason.UNKNOWN_OPERATION, "operation", zh, en),)

    def _record(
        self, entry: Entry, version: _Version, datum: Mapping[str, Any], body: bytes
    ) -> Prepared | Faulty:
        try:
            key = version.key.key(datum)
        except Rejected:
            return _faulty(entry, (fault(Reason.BAD_VALUE, version.key.items[0]),))
        event_id = entry.id if entry.id is not None else self._new_id()
        told = self.dataset.operation == "ce_type"
        operation = cast("OperationName | None", entry.operation) if told else None
        headers = inbound_headers(self._publisher, event_id, self.dataset.id, operation)
        record = KafkaRecord(key, frame(version.ref.id, body), tuple(headers))
        if record.size > RECORD_SIZE_MAX:  # a key item may be as large as the record itself
            return _faulty(entry, (too_large(RECORD_SIZE_MAX),))
        return Prepared(
            index=entry.index,
            id=event_id,
            id_made=entry.id is None,
            partition=partition_of(key, self._lanes),
            record=record,
            digest=hashlib.sha256(body).hexdigest(),
        )


class _Refusal(Exception):  # noqa: N818 - leaves `prepare` as a value, never the module
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason.name)
        self.problem = problem


def _version_of(dataset: Dataset, ref: SchemaRef, schemas: Mapping[int, Schema]) -> _Version | None:
    schema = schemas.get(ref.id)
    # A schema that is not the one the list means is as good as unknown.
    if schema is None or schema.digest.hex() != ref.digest:
        return None
    rules = tuple(compile_rule(rule, schema) for rule in dataset.quality)
    return _Version(ref, schema, key_rule(schema.parsed, dataset.key), rules)


def _quality(rules: tuple[Rule, ...], datum: Mapping[str, Any]) -> tuple[Problem, ...]:
    found: list[Problem] = []
    for rule in rules:
        try:
            item = rule.check(datum)
        except Exception:  # a rule that fails is a refusal, never a pass
            return (*found, fault(Reason.RULE_ERROR))
        if item is not None:
            found.append(fault(rule.reason, item))
    return tuple(found)


def _faulty(entry: Entry, problems: tuple[Problem, ...]) -> Faulty:
    return Faulty(entry.index, entry.digest, entry.id, problems)
