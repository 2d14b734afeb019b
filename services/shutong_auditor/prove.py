"""Makes the proof of one record from topic `audit` and the auditor's tree files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_auditor.treereader import TreeReader, tree_directory
from shutong_core.audit.block import parse_block
from shutong_core.audit.body import Body
from shutong_core.audit.checkpoint import AUDIT, parse_checkpoint
from shutong_core.audit.header import Header
from shutong_core.audit.merkle import inclusion_proof
from shutong_core.audit.proof import Proof
from shutong_core.audit.rowtree import block_leaf, prove_row, row_root
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.consumers import stop_consumer
from shutong_core.wire.topics import Topics

READ_S_MAX = 120.0
#: A block is written after its records came in; clocks of Kafka's nodes may differ by this.
_SKEW_MS = 10_000


async def make_proof(
    client: Mapping[str, Any],
    topics: Topics,
    data_dir: Path,
    place: tuple[str, int, int],
    loading: str = "",
) -> Proof:
    """The proof of what became of the record at `place` (dataset, lane, input offset).

    `loading`: of the verdict that this grant's loading cursor gave. Raises Rejected if the audit
    does not speak of it or the trees are not here, Retryable if it is not under a checkpoint yet.
    """
    dataset, lane, offset = place
    tree = TreeReader(tree_directory(data_dir, AUDIT, lane))
    try:
        async with asyncio.timeout(READ_S_MAX), _reader(client) as reader:
            start = await _start(reader, topics, place)
            async for key, value in _blocks(reader, TopicPartition(topics.audit, lane), start):
                header, body = parse_block(key, value)
                found = _row(body, dataset, loading, offset)
                if found is not None:
                    return _proof(tree, key, header, body, found)
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


def _proof(
    tree: TreeReader, stored: bytes, header: Header, body: Body, place: tuple[int, int]
) -> Proof:
    note = tree.checkpoint()
    if note is None:
        raise Rejected(
            f"{tree.directory} 中没有审计树：请在审计服务所在的机器上执行。"
            f" There is no tree in {tree.directory}: run this on the auditor's machine."
        )
    size, index = parse_checkpoint(note.text).size, header.sequence - 1
    if index >= size:
        raise Retryable(
            f"第 {header.sequence} 块尚未进入检查点，请稍后再试。"
            f" Block {header.sequence} is not under a checkpoint yet (it has {size}): try again."
        )
    if tree.leaf(index, size) != block_leaf(stored, row_root(body)):
        raise Rejected(
            f"第 {header.sequence} 块与已签名的树不同：请执行 shutong audit verify。"
            f" Block {header.sequence} is not the one in the signed tree: verify the audit."
        )
    path = tuple(inclusion_proof(index, size, tree.node(size)))
    return Proof(note, stored, path, prove_row(body, *place))


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
        first = (await reader.beginning_offsets([inbound]))[inbound]
        end = (await reader.end_offsets([inbound]))[inbound]
    except KafkaError:
        return None
    if not first <= offset < end:
        return None
    reader.assign([inbound])
    reader.seek(inbound, offset)
    found = await reader.getmany(inbound, timeout_ms=1_000, max_records=1)
    records = found.get(inbound, [])
    return records[0].timestamp if records else None


async def _blocks(
    reader: AIOKafkaConsumer, place: TopicPartition, start: int
) -> AsyncIterator[tuple[bytes, bytes]]:
    end = (await reader.end_offsets([place]))[place]
    reader.assign([place])
    reader.seek(place, start)
    while await reader.position(place) < end:
        for record in (await reader.getmany(place, timeout_ms=200)).get(place, ()):
            yield record.key or b"", record.value or b""


@asynccontextmanager
async def _reader(client: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    reader = AIOKafkaConsumer(
        **client,
        group_id=None,
        auto_offset_reset="none",
        isolation_level="read_committed",
        check_crcs=True,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        fetch_max_wait_ms=50,
    )
    await reader.start()
    try:
        yield reader
    finally:
        await stop_consumer(reader)
