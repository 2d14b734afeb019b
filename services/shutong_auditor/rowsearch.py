"""Finds the audit block that decided one input record, without reading the whole audit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_core.audit.block import parse_block
from shutong_core.audit.body import Body
from shutong_core.audit.header import Header
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.consumers import committed_records, reading_committed
from shutong_core.wire.topics import Topics

READ_S_MAX = 120.0
#: A block is written after its records came in; clocks of Kafka's nodes may differ by this.
_SKEW_MS = 10_000
_FETCH = {"max_partition_fetch_bytes": 4 * 1024 * 1024, "fetch_max_wait_ms": 50}


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A block and where in it the record's row is: input number `section`, `row` within it."""

    stored: bytes  # the header as Kafka has it
    header: Header
    body: Body
    section: int
    row: int


async def find_row(
    client: Mapping[str, Any], topics: Topics, place: tuple[str, int, int], loading: str = ""
) -> FoundRow:
    """The row of the record at `place` (dataset, lane, input offset).

    `loading`: the one that this grant's loading cursor gave. Raises Rejected if the audit does not
    speak of it, Retryable if Kafka does not answer.
    """
    dataset, lane, offset = place
    try:
        async with asyncio.timeout(READ_S_MAX), reading_committed(client, **_FETCH) as reader:
            start = await _start(reader, topics, place)
            audit = TopicPartition(topics.audit, lane)
            end = (await reader.end_offsets([audit]))[audit]
            async for record in committed_records(reader, audit, start, end):
                header, body = parse_block(record.key or b"", record.value or b"")
                found = _row(body, dataset, loading, offset)
                if found is not None:
                    return FoundRow(record.key, header, body, *found)
    except (KafkaError, TimeoutError) as error:
        raise Retryable(f"audit cannot be read: {type(error).__name__}") from error
    raise Rejected(
        f"审计中没有 {dataset} 分道 {lane} 偏移 {offset} 的裁决。"
        f" The audit has no verdict on {dataset} lane {lane} offset {offset}: not decided yet, not"
        " a record, or cut by its term."
    )


def _row(body: Body, dataset: str, loading: str, offset: int) -> tuple[int, int] | None:
    """(section, row) of that input offset; None if the block does not have it."""
    for number, section in enumerate(body.inputs):
        cursor = (section.dataset, section.loading)
        if cursor == (dataset, loading) and section.first <= offset < section.next:
            offsets = list(section.offsets())
            if offset in offsets:
                return number, offsets.index(offset)
    return None


async def _start(reader: AIOKafkaConsumer, topics: Topics, place: tuple[str, int, int]) -> int:
    """Offset in the audit before which the record cannot have been decided."""
    dataset, lane, offset = place
    audit = TopicPartition(topics.audit, lane)
    first: int = (await reader.beginning_offsets([audit]))[audit]
    at_ms = await _came_in(reader, TopicPartition(topics.inbound(dataset), lane), offset)
    if at_ms is None:
        return first
    found = (await reader.offsets_for_times({audit: max(0, at_ms - _SKEW_MS)}))[audit]
    return first if found is None else max(first, found.offset)


async def _came_in(reader: AIOKafkaConsumer, inbound: TopicPartition, offset: int) -> int | None:
    """When the record was appended; None if it is past its term."""
    try:
        found = await first_at(reader, inbound, offset)
    except KafkaError:
        return None
    return None if found is None else int(found.timestamp)


async def first_at(reader: AIOKafkaConsumer, place: TopicPartition, offset: int) -> Any:
    """The first record at `offset` or after it; None if that offset is gone or not there yet."""
    first = (await reader.beginning_offsets([place]))[place]
    end = (await reader.end_offsets([place]))[place]
    if offset < first:
        return None
    async for record in committed_records(reader, place, offset, end):
        return record
    return None
