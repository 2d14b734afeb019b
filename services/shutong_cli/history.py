"""Reads how the list came to be: every signed version in control.lists, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_cli.reading import require_keyring
from shutong_core.domain.changes import Assembler
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import partitions_of
from shutong_core.runtime.node import Node

READ_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """One version: its hash (32 bytes), how many rows it has and how many it changed."""

    number: int
    digest: bytes
    effective_ms: int
    rows: int
    changed: int


async def read_history(node: Node) -> tuple[Step, ...]:
    """Every version that a key trusted by the node's keyring signed; refused records are skipped.

    Raises Retryable if Kafka does not answer in time.
    """
    if not await partitions_of(node.client, [node.topics.lists]):
        return ()
    require_keyring(node)
    assembler = Assembler(node.keyring.verifier("control"))
    steps: list[Step] = []
    held: ListVersion | None = None
    try:
        async with asyncio.timeout(READ_S_MAX):
            async for record in _records(node):
                try:
                    version = assembler.add(record)
                except Rejected:
                    continue  # as every reader does; readiness and alarms tell of it
                if version is not None and (held is None or version.number > held.number):
                    steps.append(_step(held, version))
                    held = version
    except (KafkaError, TimeoutError) as error:
        raise Retryable(f"control.lists cannot be read: {type(error).__name__}") from error
    return tuple(steps)


def _step(held: ListVersion | None, version: ListVersion) -> Step:
    before = held.digests if held else {}
    changed = sum(before.get(row_id) != digest for row_id, digest in version.digests.items())
    changed += len(before.keys() - version.digests.keys())
    return Step(version.number, version.digest, version.effective_ms, len(version.digests), changed)


async def _records(node: Node) -> AsyncIterator[bytes]:
    """Values of all records that stand in control.lists now."""
    partition = TopicPartition(node.topics.lists, 0)
    consumer = AIOKafkaConsumer(
        **node.client,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        check_crcs=True,
        max_partition_fetch_bytes=2 * 1024 * 1024,
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    yield record.value or b""
    finally:
        await consumer.stop()
