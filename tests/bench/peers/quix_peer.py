"""A peer in Quix Streams: `quix_peer.py peer.json`, run in a virtual environment of its own.

What a Python team would write today: one application, exactly-once, fastavro, one topic per grant.
It imports nothing of the project.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
from quixstreams import Application
from quixstreams.models import SerializationContext, Serializer, TopicConfig


def plain(schema: Any) -> Any:
    """An Avro schema without its logical types, so that values pass as they stand."""
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if isinstance(schema, dict):
        return {name: plain(part) for name, part in schema.items() if name != "logicalType"}
    return schema


class Grant(Serializer):  # type: ignore[misc]
    """Whom one grant takes, and the serializer of what it gives."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.topic: str = told["topic"]
        self._cities = None if told["cities"] is None else frozenset(told["cities"])
        self._active_only: bool = told["active_only"]
        self._masked: bool = told["mask_id_number"]
        self._items: list[str] = told["items"]
        self._framing = b"\0" + struct.pack(">I", told["delivered_id"])
        self._secret = bytes.fromhex(told["secret"]) if told["secret"] else None
        self._schema = fastavro.parse_schema(plain(json.loads(told["schema"])))

    def takes(self, datum: dict[str, Any]) -> bool:
        """Whether the record is for this grant."""
        if self._cities is not None and datum["town_code"][:4] not in self._cities:
            return False
        return not self._active_only or datum["status"] == "active"

    def __call__(self, datum: dict[str, Any], ctx: SerializationContext) -> bytes:
        """The framed output."""
        given = {name: datum[name] for name in self._items}
        if self._masked:
            text = given["id_number"]
            given["id_number"] = f"{text[:6]}********{text[-4:]}"
        body = io.BytesIO()
        body.write(self._framing)
        fastavro.schemaless_writer(body, self._schema, given)
        return body.getvalue()

    @property
    def key(self) -> Callable[[dict[str, Any]], bytes] | None:
        """Makes the delivered key; None if the record keeps its own."""
        secret = self._secret
        if secret is None:
            return None
        return lambda datum: hmac.digest(secret, datum["id_number"].encode(), "sha256")[:16]


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    written = fastavro.parse_schema(plain(json.loads(told["schema"])))
    app = Application(
        broker_address=told["bootstrap"],
        consumer_group=told["group"],
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=told["tuning"]["commit_ms"] / 1000,
        auto_create_topics=False,
        use_changelog_topics=False,
        state_dir=told["state_dir"],
        loglevel="WARNING",
        producer_extra_config={
            "compression.type": told["tuning"]["codec"],
            "linger.ms": 50,
            "batch.size": 256 * 1024,
            "queue.buffering.max.messages": 500_000,
        },
        consumer_extra_config={"max.partition.fetch.bytes": 2 * 1024 * 1024},
    )
    config = TopicConfig(num_partitions=told["lanes"], replication_factor=1)
    inbound = app.topic(
        told["inbound"], value_deserializer="bytes", key_deserializer="bytes", config=config
    )

    def decode(value: bytes) -> dict[str, Any]:
        body = value[5:]
        hashlib.sha256(body).digest()
        return fastavro.schemaless_reader(io.BytesIO(body), written, None)

    # The publisher's headers must not pass.
    records = app.dataframe(inbound).apply(decode).set_headers(lambda *_: [])
    for grant in map(Grant, told["grants"]):
        topic = app.topic(
            grant.topic, key_serializer="bytes", value_serializer=grant, config=config
        )
        records.filter(grant.takes).to_topic(topic, key=grant.key)
    app.run()


if __name__ == "__main__":
    main()
