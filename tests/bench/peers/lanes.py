"""A peer in Python: six overlapping lanes in one process, each with its transactional producer.

`python -m bench.peers.lanes fastavro|copy peer.json`. `fastavro` decodes, filters and encodes each
record and takes one SHA-256 of it; `copy` only carries it to the topic of grant b. Whole batches go
out per lane and topic through the same client as the bus's, with the input offsets in the same
transaction: what is left to compare is the work on the record.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from bench import reference
from shutong_core.runtime.transaction import Deadlines, TransactionalProducer
from shutong_core.wire.batches import ColumnBatch

RECORDS_MAX = 2_000  # of one transaction
BATCH_BYTES_MAX = 2 * 1024 * 1024 - 64 * 1024
Columns = tuple[list[bytes | None], list[bytes | None]]
Decide = Callable[[Sequence[ConsumerRecord]], dict[str, Columns]]


def copying(told: dict[str, Any]) -> Decide:
    """Every record as it is, to one topic."""
    topic = next(each["topic"] for each in told["grants"] if each["grant"] == "b")

    def decide(records: Sequence[ConsumerRecord]) -> dict[str, Columns]:
        return {topic: ([each.key for each in records], [each.value for each in records])}

    return decide


def deciding(told: dict[str, Any]) -> Decide:
    """The job's grants by fastavro."""
    outputs = [
        (
            reference.GRANTS[each["grant"]],
            each["topic"],
            b"\0" + struct.pack(">I", each["delivered_id"]),
            bytes.fromhex(each["secret"]) if each["secret"] else None,
        )
        for each in told["grants"]
    ]

    def decide(records: Sequence[ConsumerRecord]) -> dict[str, Columns]:
        found: dict[str, Columns] = {topic: ([], []) for _, topic, _, _ in outputs}
        for record in records:
            body = record.value[5:]
            hashlib.sha256(body).digest()
            datum = reference.decode(body)
            for grant, topic, framing, secret in outputs:
                if grant.takes(datum):
                    keys, values = found[topic]
                    key = record.key
                    keys.append(key if secret is None else reference.hidden_key(secret, key))
                    values.append(framing + grant.encode(datum))
        return found

    return decide


async def lane(number: int, told: dict[str, Any], decide: Decide) -> None:
    """Serve one lane until cancelled."""
    codec = told["tuning"]["codec"]
    client = {"bootstrap_servers": told["bootstrap"]}
    source = TopicPartition(told["inbound"], number)
    producer = TransactionalProducer(
        client,
        f"{told['group']}.{number}",
        Deadlines(),
        batch_bytes_max=BATCH_BYTES_MAX,
        compression=None if codec == "none" else codec,
    )
    consumer = AIOKafkaConsumer(
        **client,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=2 * 1024 * 1024,
    )
    await producer.start()
    await consumer.start()
    consumer.assign([source])
    consumer.seek(source, 0)
    try:
        while True:
            polled = await consumer.getmany(timeout_ms=200, max_records=RECORDS_MAX)
            if records := polled.get(source):
                await place(producer, number, told, decide(records), records[-1].offset + 1)
    finally:
        await producer.close()
        await consumer.stop()


async def place(
    producer: TransactionalProducer,
    number: int,
    told: dict[str, Any],
    found: dict[str, Columns],
    next_offset: int,
) -> None:
    """One transaction: all outputs of a batch and its input offset."""
    await producer.begin()
    for topic, (keys, values) in found.items():
        if keys:
            await producer.send(ColumnBatch(topic, number, keys, values))
    await producer.offsets({(told["inbound"], number): next_offset}, told["group"])
    await producer.commit()


async def serve(told: dict[str, Any], decide: Decide) -> None:
    """All lanes until SIGTERM, or until one fails."""
    lanes = asyncio.gather(*(lane(number, told, decide) for number in range(told["lanes"])))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lanes.cancel)
    try:
        await lanes
    except asyncio.CancelledError:
        return


def main() -> None:
    kind, path = sys.argv[1:]
    told = json.loads(Path(path).read_text())
    decide = {"copy": copying, "fastavro": deciding}[kind](told)
    uvloop.run(serve(told, decide))


if __name__ == "__main__":
    main()
