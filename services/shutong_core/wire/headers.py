"""Headers: what the bus reads of a publisher's, and what it puts on placed records.

Reading is strict and bounded. Nothing that a publisher wrote passes on: a header could be a
covert channel or a key to join what was not granted.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from shutong_core.domain.reasons import Reason
from shutong_core.wire.framing import VALUE_SCHEMA_HEADER, Headers, schema_guid

#: First record of each placed batch: where the delivery chain stands before it.
SEGMENT_HEADER = "shutong_segment"
#: `<uscc>/<system id>`, written by the producer service only.
PUBLISHER_HEADER = "shutong_publisher"
#: CloudEvents 1.0, Kafka protocol binding, binary mode.
EVENT_ID_HEADER = "ce_id"
TYPE_HEADER = "ce_type"
TIME_HEADER = "ce_time"

HEADERS_MAX = 32
HEADERS_BYTES_MAX = 8 * 1024  # names and values together
EVENT_ID_CHARS_MAX = 128
EVENT_ID_BYTES_MAX = 255  # in UTF-8: what a string of the audit may have, see `audit.encoding`
TYPE_CHARS_MAX = 128
TIME_CHARS_MAX = 40

OperationName = Literal["put", "correct", "delete"]

# A fixed set rather than str.isprintable(), which changes with Python's Unicode version: the same
# record must be decided alike for ever. Excluded: controls, line separators, and the invisible
# and direction-changing characters that make two ids look the same.
_PRINTABLE = re.compile(
    "[^\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff0-\uffff]+"
)
_PUBLISHER = re.compile(r"[0-9A-Z]{18}/[a-z0-9][a-z0-9-]{0,47}")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_READ = frozenset(
    {EVENT_ID_HEADER, TYPE_HEADER, TIME_HEADER, PUBLISHER_HEADER, VALUE_SCHEMA_HEADER}
)
_OPERATIONS: dict[str, OperationName] = {"put": "put", "correct": "correct", "delete": "delete"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class InboundHeaders:
    """What the bus reads of an inbound record's headers; None where a header is absent.

    `event_id` is a `Reason` (BAD_EVENT_ID) where it stands there but cannot be used: that is
    refused later than other faults, so that the reason given is always the first in order.
    `publisher` is `<uscc>/<system id>`, None also where the text has another form.
    """

    event_id: str | Reason | None = None
    ce_type: str | None = None
    ce_time: str | None = None
    publisher: str | None = None
    schema_guid: str | None = None


def read_headers(headers: Headers) -> InboundHeaders | Reason:
    """The headers the bus knows, or why the record is refused.

    TOO_LARGE: more than 32 headers or 8 KiB. MALFORMED: a header the bus reads stands there
    twice, is null, or is not text of its form. BAD_FRAMING: the schema GUID cannot be read.
    Unknown headers are counted, otherwise ignored.
    """
    if len(headers) > HEADERS_MAX or _size(headers) > HEADERS_BYTES_MAX:
        return Reason.TOO_LARGE
    found: dict[str, bytes] = {}
    for name, value in headers:
        if name not in _READ:
            continue
        if name in found or value is None:
            return Reason.BAD_FRAMING if name == VALUE_SCHEMA_HEADER else Reason.MALFORMED
        found[name] = value
    guid = schema_guid(headers)
    if isinstance(guid, Reason):
        return guid
    ce_type = _text(found.get(TYPE_HEADER), TYPE_CHARS_MAX)
    ce_time = _text(found.get(TIME_HEADER), TIME_CHARS_MAX)
    if isinstance(ce_type, Reason) or isinstance(ce_time, Reason):
        return Reason.MALFORMED
    if ce_time is not None and not is_rfc3339(ce_time):
        return Reason.MALFORMED
    return InboundHeaders(
        event_id=_event_id(found.get(EVENT_ID_HEADER)),
        ce_type=ce_type,
        ce_time=ce_time,
        publisher=_publisher(found.get(PUBLISHER_HEADER)),
        schema_guid=guid,
    )


def is_event_id(text: str) -> bool:
    """Whether `text` may be an event id: 1–128 visible characters, ≤ 255 bytes (spaces allowed)."""
    return (
        len(text) <= EVENT_ID_CHARS_MAX
        and _PRINTABLE.fullmatch(text) is not None
        and len(text.encode()) <= EVENT_ID_BYTES_MAX
    )


def operation_of(ce_type: str | None) -> OperationName | Reason:
    """The operation in the suffix of `<dataset>.<operation>`; no ce_type at all means put."""
    if ce_type is None:
        return "put"
    return _OPERATIONS.get(ce_type.rpartition(".")[2], Reason.UNKNOWN_OPERATION)


def inbound_headers(
    publisher: str, event_id: str | None, dataset: str, operation: OperationName | None
) -> list[tuple[str, bytes]]:
    """The headers the producer service writes; `publisher` is `<uscc>/<system id>`.

    Raises ValueError if the publisher or the event id has another form.
    """
    if not _PUBLISHER.fullmatch(publisher):
        raise ValueError("publisher must be <uscc>/<system id>")
    made = [(PUBLISHER_HEADER, publisher.encode())]
    if event_id is not None:
        if not is_event_id(event_id):
            raise ValueError("event id must be 1-128 visible characters, at most 255 bytes")
        made.append((EVENT_ID_HEADER, event_id.encode()))
    if operation is not None:
        made.append((TYPE_HEADER, f"{dataset}.{operation}".encode()))
    return made


class CloudEventsHeaders:
    """The CloudEvents headers of one grant's placed records (binary mode, version 1.0).

    `provider` is the lead provider's USCC; `secret` is the grant's key. What does not change from
    record to record is encoded once.
    """

    _LABEL = b"shutong-ce-id-v1"

    def __init__(self, dataset: str, provider: str, secret: bytes) -> None:
        name = dataset.encode()
        self._hash = hmac.new(secret, digestmod="sha256")
        self._hash.update(self._LABEL + len(name).to_bytes(4, "big") + name)
        self._version = ("ce_specversion", b"1.0")
        self._source = ("ce_source", provider.encode())
        self._types: dict[str, tuple[str, bytes]] = {
            operation: (TYPE_HEADER, f"{dataset}.{operation}".encode()) for operation in _OPERATIONS
        }

    def headers(
        self, operation: str, partition: int, offset: int, time_ms: int
    ) -> tuple[tuple[str, bytes], ...]:
        """Headers of the record made from that place of the dataset's inbound topic.

        `ce_id` is a keyed hash of the source coordinates: stable for the grant, so a subscriber
        can drop repeats, and meaningless elsewhere. `time_ms` is since the epoch, UTC.
        """
        keyed = self._hash.copy()
        keyed.update(partition.to_bytes(4, "big") + offset.to_bytes(8, "big"))
        event_id = base64.urlsafe_b64encode(keyed.digest()[:16]).rstrip(b"=")
        return (
            self._version,
            (EVENT_ID_HEADER, event_id),
            self._source,
            self._types[operation],
            (TIME_HEADER, rfc3339(time_ms).encode()),
        )


def rfc3339(time_ms: int) -> str:
    """`time_ms` since the epoch as `YYYY-MM-DDThh:mm:ss.mmmZ`."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def is_rfc3339(text: str) -> bool:
    """Whether `text` is a moment with offset as RFC 3339 writes it (no leap seconds)."""
    if not _RFC3339.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _size(headers: Headers) -> int:
    return sum(len(name.encode("utf-8", "surrogatepass")) + len(v or b"") for name, v in headers)


def _text(value: bytes | None, chars_max: int) -> str | Reason | None:
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return Reason.MALFORMED
    if len(text) > chars_max or not _PRINTABLE.fullmatch(text):
        return Reason.MALFORMED
    return text


def _event_id(value: bytes | None) -> str | Reason | None:
    if value is not None and len(value) > EVENT_ID_BYTES_MAX:
        return Reason.BAD_EVENT_ID
    text = _text(value, EVENT_ID_CHARS_MAX)
    return Reason.BAD_EVENT_ID if isinstance(text, Reason) else text


def _publisher(value: bytes | None) -> str | None:
    text = _text(value, 128)
    return text if isinstance(text, str) and _PUBLISHER.fullmatch(text) else None
