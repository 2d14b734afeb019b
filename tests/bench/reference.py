"""What the reference job's grants must give, written plainly: decode, filter, mask, encode.

The yardstick that every contestant's outputs are held against, and the work that the fastavro
peers do. Logical types stay plain Avro numbers and bytes on the way, as no grant looks into them.
"""

from __future__ import annotations

import hmac
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import fastavro

from bench import job

Datum = dict[str, Any]
Encode = Callable[[Datum], bytes]


def plain(schema: Any) -> Any:
    """An Avro schema without its logical types."""
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if isinstance(schema, dict):
        return {name: plain(part) for name, part in schema.items() if name != "logicalType"}
    return schema


def _keep(text: str) -> str:
    return f"{text[:6]}********{text[-4:]}"


class Grant:
    """One grant of the job: whom it takes, what it gives."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        cities = given["regions"]
        self._cities = None if cities is None else {job.city(n)[:4] for n in cities}
        self._active_only = "condition" in given
        self._masked = given["items"]["id_number"] != "clear"
        schema = json.loads(job.schema_text())
        self._items = [
            field["name"] for field in schema["fields"] if field["name"] in given["items"]
        ]
        schema["fields"] = [each for each in schema["fields"] if each["name"] in given["items"]]
        self._schema = fastavro.parse_schema(plain(schema))

    @property
    def key_is_clear(self) -> bool:
        """Whether delivered records keep their key."""
        return not self._masked

    def takes(self, datum: Datum) -> bool:
        """Whether the record is for this grant."""
        if self._cities is not None and datum["town_code"][:4] not in self._cities:
            return False
        return not self._active_only or datum["status"] == "active"

    def encode(self, datum: Datum) -> bytes:
        """What it gives of the record, in Avro."""
        given = {name: datum[name] for name in self._items}
        if self._masked:
            given["id_number"] = _keep(given["id_number"])
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._schema, given)
        return body.getvalue()


GRANTS = {name: Grant(given) for name, given in job.REFERENCE.items()}
KEY_IS_CLEAR = {name: grant.key_is_clear for name, grant in GRANTS.items()}
_WRITTEN = fastavro.parse_schema(plain(json.loads(job.schema_text())))


def decode(body: bytes) -> Datum:
    """One inbound record from its Avro body."""
    found: Datum = fastavro.schemaless_reader(io.BytesIO(body), _WRITTEN, None)  # type: ignore
    return found


def outputs(body: bytes) -> dict[str, bytes]:
    """What each grant that takes the record gets, in Avro without framing."""
    datum = decode(body)
    return {name: grant.encode(datum) for name, grant in GRANTS.items() if grant.takes(datum)}


def hidden_key(secret: bytes, key: bytes) -> bytes:
    """A delivered key that does not tell the item: keyed hash of 16 bytes."""
    return hmac.digest(secret, key, "sha256")[:16]
