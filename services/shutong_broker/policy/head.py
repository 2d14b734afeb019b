"""What a record's headers and the dataset say of it before its body is read.

A system writes the same few headers again and again: what they come to is remembered by their
bytes. Whatever is not of that plain form goes through `read_headers`, which holds the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from shutong_broker.policy.model import Operation
from shutong_broker.policy.plan import DatasetPlan
from shutong_broker.policy.regionmemo import RegionFlags
from shutong_core.audit.digests import id_hasher
from shutong_core.domain.reasons import Reason
from shutong_core.domain.regions import RegionTable
from shutong_core.wire.headers import (
    EVENT_ID_CHARS_MAX,
    EVENT_ID_HEADER,
    PUBLISHER_HEADER,
    TYPE_HEADER,
    operation_of,
    read_headers,
)

_new = tuple.__new__
_Hasher = Callable[[bytes], bytes | None]
#: Publisher, operation, fault, jurisdiction of a `Head`.
Told = tuple[str, Operation, Reason | None, RegionFlags | None]
_TYPES_MAX = 64
_PUBLISHERS_MAX = 16_384


class Head(NamedTuple):
    """Who wrote a record and what it says to be.

    `publisher` is "" if unknown. `operation` is what ce_type tells, where the dataset has no
    operation item; `fault` is set if it may not be that. `jurisdiction` tells of a region's raw
    value whether the publisher may write for it; None if it may not write the dataset at all.
    `id_hash` stands for the event id in the audit, None if there is none or no publisher.
    """

    publisher: str
    event_id: str | None
    operation: Operation
    fault: Reason | None
    jurisdiction: RegionFlags | None
    guid: str | None
    id_hash: bytes | None


class Writer(NamedTuple):
    """A publisher as every record of it sees it."""

    publisher: str
    jurisdiction: RegionFlags | None
    id_hash: _Hasher


_NOBODY = Writer("", None, lambda _: None)


class HeadReader:
    """Reads the heads of one dataset's records."""

    def __init__(self, plan: DatasetPlan, table: RegionTable) -> None:
        self._plan = plan
        self._jurisdictions = {
            organisation: RegionFlags(table, regions)
            for organisation, regions in plan.jurisdictions.items()
        }
        self._types: dict[bytes, tuple[Operation, Reason | None]] = {}
        self._publishers: dict[bytes, Writer] = {}
        self._untold = self.told(None)
        self._sole: Writer | None = None
        if plan.dataset.inbound == "own_client":
            self._sole = self.writer(plan.sole_publisher or "")

    def read(self, headers: Any) -> Head | None:
        """The head; None if the headers hold a fault, which the interpreter then names."""
        head = self._plain(headers)
        return head if head is not None else self._strict(headers)

    def columns(self, headers: Sequence[Any]) -> tuple[list[Told], list[bytes | None]]:
        """What the heads of the first of some records tell, with the hashes of their event ids.

        Ends before headers at fault, and before a schema GUID among them.
        """
        usual = self._usual(headers)
        if usual is not None:
            return usual
        told: list[Told] = []
        ids: list[bytes | None] = []
        for each in headers:
            try:
                head = self.read(each)
            except Exception:  # the interpreter says what is wrong with them
                break
            if head is None or head.guid is not None:
                break
            told.append((head.publisher, head.operation, head.fault, head.jurisdiction))
            ids.append(head.id_hash)
        return told, ids

    def _usual(self, headers: Sequence[Any]) -> tuple[list[Told], list[bytes | None]] | None:
        """The same where all headers are publisher and event id, as they mostly are; else None."""
        try:
            pairs = [
                (first[1], second[1])
                for first, second in headers
                if first[0] == PUBLISHER_HEADER and second[0] == EVENT_ID_HEADER
            ]
            if len(pairs) < len(headers):
                return None
            names, event_ids = zip(*pairs, strict=True)
            text = b"".join(event_ids)
            sizes = set(map(len, event_ids))
            writers = {name: self._publishers[name] for name in set(names)}
        except (ValueError, TypeError, KeyError):
            return None
        if not text.isascii() or not text.decode().isprintable():
            return None
        if min(sizes) < 1 or max(sizes) > EVENT_ID_CHARS_MAX:
            return None
        if self._sole is not None or len(writers) == 1:
            publisher, jurisdiction, id_hash = self._sole or writers[names[0]]
            told = (publisher, *self._untold, jurisdiction)
            return [told] * len(names), list(map(id_hash, event_ids))
        each = {name: (writer[0], *self._untold, writer[1]) for name, writer in writers.items()}
        hashers = {name: writer.id_hash for name, writer in writers.items()}
        ids = [hashers[name](event_id) for name, event_id in pairs]
        return [each[name] for name in names], ids

    def _plain(self, headers: Any) -> Head | None:  # noqa: C901, PLR0911 - one pass
        """The head of headers in the usual form; None if they are not in it."""
        writer = _NOBODY
        event_id = ce_type = raw = None
        found = 0
        for name, value in headers:
            if name == PUBLISHER_HEADER:
                known = self._publishers.get(value)
                if known is None:
                    return None
                writer, bit = known, 1
            elif name == EVENT_ID_HEADER:
                if value is None or not 0 < len(value) <= EVENT_ID_CHARS_MAX:
                    return None
                if not value.isascii():
                    return None
                event_id, bit = value.decode(), 2
                if not event_id.isprintable():
                    return None
                raw = value
            elif name == TYPE_HEADER:
                ce_type, bit = value, 4
                if value not in self._types:
                    return None
            else:
                return None
            if found & bit:
                return None
            found |= bit
        operation, fault = self._types[ce_type] if ce_type is not None else self._untold
        publisher, jurisdiction, id_hash = self._sole or writer
        hashed = id_hash(raw) if raw is not None else None
        return _new(Head, (publisher, event_id, operation, fault, jurisdiction, None, hashed))

    def _strict(self, headers: Any) -> Head | None:
        read = read_headers(headers)
        if isinstance(read, Reason) or isinstance(read.event_id, Reason):
            return None
        found = dict(headers)
        writer, told = _NOBODY, self.told(read.ce_type)
        if read.publisher in self._plan.systems:
            writer = self.writer(read.publisher)
            if len(self._publishers) < _PUBLISHERS_MAX:
                self._publishers[found[PUBLISHER_HEADER]] = writer
        if read.ce_type is not None and len(self._types) < _TYPES_MAX:
            self._types[found[TYPE_HEADER]] = told
        publisher, jurisdiction, id_hash = self._sole or writer
        hashed = id_hash(read.event_id.encode()) if read.event_id is not None else None
        return Head(publisher, read.event_id, *told, jurisdiction, read.schema_guid, hashed)

    def writer(self, publisher: str) -> Writer:
        """What a publisher of the list may do; "" is nobody."""
        if not publisher:
            return _NOBODY
        jurisdiction = self._jurisdictions.get(publisher.partition("/")[0])
        hasher = id_hasher(publisher, self._plan.dataset.id, self._plan.id_key)
        return Writer(publisher, jurisdiction, hasher)

    def told(self, ce_type: str | None) -> tuple[Operation, Reason | None]:
        """The operation by ce_type, and the fault if it may not be that; as in `Head`."""
        told = operation_of(ce_type)
        if self._plan.dataset.operation == "ce_type":
            if isinstance(told, Reason):
                return Operation.PUT, told
            return Operation(told), None
        fault = Reason.UNKNOWN_OPERATION if told in ("correct", "delete") else None
        return Operation.PUT, fault
