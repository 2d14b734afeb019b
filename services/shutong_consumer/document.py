"""One placed record as JSON: the projected items, the key, the operation, the CloudEvents headers.

Pure. Only schemas registered for this very delivery topic are read: anything else on it is a fault,
and a fault lets nothing out.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from shutong_consumer.inbox import Stored
from shutong_core.domain.catalogue import Dataset, OperationItem
from shutong_core.domain.errors import Rejected
from shutong_core.domain.grants import Grant
from shutong_core.domain.reasons import Reason
from shutong_core.wire.codec import decode
from shutong_core.wire.framing import unframe
from shutong_core.wire.headers import TYPE_HEADER
from shutong_core.wire.jsonmap import to_json
from shutong_core.wire.keys import key_rule
from shutong_core.wire.schemas import Schema

PUT = "put"
_OPERATIONS = frozenset({PUT, "correct", "delete"})
_CLOUDEVENTS = "ce_"


class Reading:
    """Reads the records of one grant; `schemas` are those of its delivery subject, by id."""

    def __init__(self, grant: Grant, dataset: Dataset, schemas: Mapping[int, Schema]) -> None:
        self._schemas = schemas
        item = _clear_key(grant, dataset)
        # The schema tells whether a key is text, never its bytes: a reader must be able to rely
        # on one form.
        self._text_keys = frozenset(
            number
            for number, schema in schemas.items()
            if item is not None
            and item in schema.fields
            and key_rule(schema.parsed, (item,)).as_text
        )
        self.region_item = dataset.regions.get(grant.scope.role)
        operation = dataset.operation
        self._operation_item = operation.item if isinstance(operation, OperationItem) else None

    def document(self, record: Stored) -> dict[str, Any]:
        """The record as an agency gets it. Raises Rejected if it is not what the bus places.

        `key` is text where the dataset's key is one string item granted in clear, else base64.
        """
        number, schema, datum = self._datum(record)
        headers = _cloudevents(record)
        made: dict[str, Any] = {
            "partition": record.partition,
            "offset": record.offset,
            "key": _key(record.key, as_text=number in self._text_keys),
            "operation": self._operation(headers, datum),
            "data": to_json(schema, datum),
        }
        if headers:
            made["headers"] = headers
        return made

    def region(self, record: Stored) -> str | None:
        """The region code by the grant's role, as the record has it; None if it has none."""
        if self.region_item is None:
            return None
        _, _, datum = self._datum(record)
        value = datum.get(self.region_item)
        return value if isinstance(value, str) else None

    def _datum(self, record: Stored) -> tuple[int, Schema, dict[str, Any]]:
        if record.value is None:
            raise Rejected(f"{_place(record)}: a record of an event grant has no value")
        unframed = unframe(record.value)
        if isinstance(unframed, Reason):
            raise Rejected(f"{_place(record)}: {unframed.en}")
        schema_id, body = unframed
        if not isinstance(schema_id, int) or schema_id not in self._schemas:
            raise Rejected(f"{_place(record)}: schema {schema_id} is not this grant's")
        schema = self._schemas[schema_id]
        return schema_id, schema, decode(schema, body)

    def _operation(self, headers: Mapping[str, str], datum: Mapping[str, Any]) -> str:
        named = headers.get(TYPE_HEADER, "").rpartition(".")[2]
        if not named and self._operation_item is not None:
            named = datum.get(self._operation_item) or ""
        if named in ("", PUT):
            return PUT
        if named not in _OPERATIONS:
            raise Rejected("an operation that the bus does not know")
        return str(named)


def _clear_key(grant: Grant, dataset: Dataset) -> str | None:
    """The one key item if it is granted in clear: the delivered key may then be text."""
    if len(dataset.key) == 1 and grant.items.get(dataset.key[0]) == "clear":
        return dataset.key[0]
    return None


def _key(key: bytes | None, *, as_text: bool) -> str | None:
    if key is None:
        return None
    return key.decode() if as_text else base64.b64encode(key).decode()


def _cloudevents(record: Stored) -> dict[str, str]:
    return {
        name: value.decode("utf-8", "replace")
        for name, value in record.headers
        if name.startswith(_CLOUDEVENTS)
    }


def _place(record: Stored) -> str:
    return f"record {record.partition}:{record.offset}"
