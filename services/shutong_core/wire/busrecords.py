"""The bus's own Avro records, in Avro's single-object encoding.

C3 01, the CRC-64-AVRO fingerprint of the schema's parsing canonical form (8 bytes little-endian),
then the Avro body (Avro 1.12 specification, "Single-object encoding"). Reading accepts exactly
what writing makes: known fingerprint, canonical body, nothing after it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeVar

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from shutong_core.domain.errors import Rejected

MARKER = b"\xc3\x01"
_HEADER_BYTES = len(MARKER) + 8
RECORD_BYTES_MAX = 2 * 1024 * 1024

#: Keys of topic lanes.
HEAD_KEY = b"head"


def dataset_key(dataset: str) -> bytes:
    """Key of a `DatasetPosition` in topic lanes."""
    return b"p/" + dataset.encode()


def grant_key(grant: str) -> bytes:
    """Key of a `GrantPosition` in topic lanes."""
    return b"g/" + grant.encode()


def loading_key(grant: str) -> bytes:
    """Key of a `LoadingPosition` in topic lanes."""
    return b"l/" + grant.encode()


@dataclass(frozen=True, slots=True)
class LaneHead:
    """The last audit block of a lane: sequence from 1, SHA-256 of its header, where it stands.

    The block is the first committed record of the lane's audit partition at or after
    `audit_offset`: its own offset is not known yet when the head is written beside it.
    """

    sequence: int
    header_hash: bytes
    audit_offset: int


@dataclass(frozen=True, slots=True)
class DatasetPosition:
    """First inbound offset of a dataset that the lane has not decided yet."""

    next_offset: int


@dataclass(frozen=True, slots=True)
class GrantPosition:
    """Records placed so far for (grant, lane) and the chain value (32 bytes) after them."""

    k: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class LoadingPosition:
    """First inbound offset not yet decided for a grant that is loading."""

    next_offset: int


@dataclass(frozen=True, slots=True)
class AccessEvent:
    """A refused or privileged request, or an act of administration.

    `previous` is the SHA-256 of the event before it of the same process, as encoded; `reason` is
    a `Reason` number, 0 if nothing was refused; `detail` never shows a value of a record.
    """

    process: str
    sequence: int
    previous: bytes
    at_ms: int
    service: str
    actor: str
    action: str
    target: str
    reason: int
    detail: str


@dataclass(frozen=True, slots=True)
class QuarantineHeader:
    """One Kafka header of a refused record."""

    name: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """A refused record as it came in; not `whole`: only its size in bytes and digest are kept."""

    whole: bool
    size: int
    digest: bytes
    key: bytes | None
    value: bytes | None
    headers: tuple[QuarantineHeader, ...]


BusRecord = (
    LaneHead | DatasetPosition | GrantPosition | LoadingPosition | AccessEvent | QuarantineRecord
)
_TYPES: Mapping[str, type[BusRecord]] = {
    kind.__name__: kind
    for kind in (
        LaneHead,
        DatasetPosition,
        GrantPosition,
        LoadingPosition,
        AccessEvent,
        QuarantineRecord,
    )
}
_Kind = TypeVar("_Kind", bound=BusRecord)


class BusCodec:
    """Encodes and decodes the bus's records by the schemas it is given.

    `texts` are the .avsc files' texts, one record type each. Raises Rejected if one is unknown,
    given twice, missing, or does not have the fields of its type.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._schemas: dict[type[BusRecord], Any] = {}
        self._starts: dict[type[BusRecord], bytes] = {}
        self._kinds: dict[bytes, type[BusRecord]] = {}
        for text in texts:
            self._add(text)
        missing = sorted(name for name, kind in _TYPES.items() if kind not in self._schemas)
        if missing:
            raise Rejected(f"no schema for {', '.join(missing)}")

    def encode(self, record: BusRecord) -> bytes:
        """`record` in single-object encoding. Raises Rejected if a value does not fit."""
        kind = type(record)
        _check_numbers(record)
        out = BytesIO()
        out.write(self._starts[kind])
        try:
            fastavro.schemaless_writer(
                out, self._schemas[kind], dataclasses.asdict(record), strict=True
            )
        except Exception as error:  # fastavro raises what it meets
            raise Rejected(f"{kind.__name__} cannot be encoded: {type(error).__name__}") from error
        if out.tell() > RECORD_BYTES_MAX:
            raise Rejected(f"{kind.__name__} is larger than {RECORD_BYTES_MAX} bytes")
        return out.getvalue()

    def decode(self, data: bytes) -> BusRecord:
        """The record in `data`. Raises Rejected for anything `encode` would not have made."""
        kind = self._kinds.get(bytes(data[:_HEADER_BYTES]))
        if kind is None:
            raise Rejected("not a record of the bus in single-object encoding")
        if len(data) > RECORD_BYTES_MAX:
            raise Rejected(f"{kind.__name__} is larger than {RECORD_BYTES_MAX} bytes")
        try:
            found = fastavro.schemaless_reader(
                BytesIO(data[_HEADER_BYTES:]), self._schemas[kind], None
            )
            record = _built(kind, found)
        except Exception as error:  # hostile bytes make fastavro raise nearly anything
            raise Rejected(f"{kind.__name__} cannot be decoded") from error
        if self.encode(record) != data:
            raise Rejected(f"{kind.__name__} is not in its canonical encoding")
        return record

    def decode_as(self, kind: type[_Kind], data: bytes) -> _Kind:
        """The record in `data`, which must be of that type. Raises Rejected."""
        record = self.decode(data)
        if not isinstance(record, kind):
            raise Rejected(f"expected {kind.__name__}, found {type(record).__name__}")
        return record

    def _add(self, text: str) -> None:
        try:
            schema = json.loads(text)
            kind = _TYPES[schema["name"]]
            names = [field["name"] for field in schema["fields"]]
            parsed = fastavro.parse_schema(schema)
            # fastavro gives the fingerprint's bytes in little-endian order, as the format wants.
            mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO"))
        except Exception as error:  # any fault of a schema file ends the start of the process
            raise Rejected("the schema of a bus record cannot be read") from error
        if names != [field.name for field in dataclasses.fields(kind)]:
            raise Rejected(f"the schema of {kind.__name__} does not have that type's fields")
        if kind in self._schemas:
            raise Rejected(f"two schemas for {kind.__name__}")
        start = MARKER + mark
        self._schemas[kind], self._starts[kind], self._kinds[start] = parsed, start, kind


def _built(kind: type[BusRecord], found: Any) -> BusRecord:
    values = dict(found)
    if kind is QuarantineRecord:
        values["headers"] = tuple(QuarantineHeader(**header) for header in values["headers"])
    return kind(**values)


def _check_numbers(record: BusRecord) -> None:
    """No number of the bus's records is negative; fastavro would also take a float for one."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, float) or (isinstance(value, int) and value < 0):
            raise Rejected(f"{type(record).__name__}.{field.name} must be a number from 0")
