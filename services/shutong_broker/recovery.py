"""Taking a lane: read what its predecessor committed, trust nothing that does not fit together.

Order matters: the caller has started the lane's transactional producer before, so nothing that
is read here can still change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_broker.state import NO_PREVIOUS, LaneState
from shutong_broker.statecodec import StateCodec
from shutong_broker.window import (
    WINDOW_AGE_MS_MAX,
    WINDOW_BLOCKS_MAX,
    WINDOW_IDS_MAX,
    Accepted,
    RepeatWindow,
)
from shutong_core.audit.block import header_hash, parse_block, parse_header
from shutong_core.domain.errors import Fatal, Rejected, Retryable
from shutong_core.runtime.consumers import committed_records, reading_committed
from shutong_core.wire.topics import Topics

READ_S_MAX = 60.0
_STEP_OFFSETS = 256
_FETCH = {"max_partition_fetch_bytes": 4 * 1024 * 1024, "fetch_max_wait_ms": 50}


@dataclass(frozen=True, slots=True)
class TakenLane:
    """A lane's committed state, with the window of accepted ids rebuilt from its audit.

    `list_number` and `list_digest` are those the last block was decided by (0 and b"" before the
    first). `clean`: nothing aborted follows the last block, so no reader without read_committed
    can have seen what is not in the audit.
    """

    state: LaneState
    window: RepeatWindow
    blocks_read: int
    list_number: int
    list_digest: bytes
    clean: bool


async def take_lane(
    client: Mapping[str, Any],
    topics: Topics,
    lane: int,
    states: StateCodec,
    now_ms: int,
) -> TakenLane:
    """The state to go on from.

    Raises Fatal if the lane's head and its audit do not agree (the lane must not go on), Retryable
    if Kafka does not answer.
    """
    try:
        async with asyncio.timeout(READ_S_MAX), reading_committed(client, **_FETCH) as reader:
            state, head_from = await _state(reader, topics, lane, states)
            return await _replay_audit(reader, topics, lane, state, head_from, now_ms)
    except (KafkaError, TimeoutError) as error:
        raise Retryable(f"lane {lane}: cannot read its state: {type(error).__name__}") from error


async def _state(
    reader: AIOKafkaConsumer, topics: Topics, lane: int, states: StateCodec
) -> tuple[LaneState, int]:
    tp = TopicPartition(topics.lanes, lane)
    first = (await reader.beginning_offsets([tp]))[tp]
    end = (await reader.end_offsets([tp]))[tp]
    rows: dict[bytes, bytes] = {}
    async for record in committed_records(reader, tp, first, end):
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value
    try:
        return states.decode(rows)
    except Rejected as error:
        raise Fatal(f"lane {lane}: its stored state cannot be read: {error}") from error


async def _replay_audit(
    reader: AIOKafkaConsumer,
    topics: Topics,
    lane: int,
    state: LaneState,
    head_from: int,
    now_ms: int,
) -> TakenLane:
    """Hold the head against the last block; rebuild the window from the blocks before it.

    Blocks are read backwards in growing steps, until the window is full or its age is reached: a
    busy lane writes far more in 24 h than the window holds.
    """
    tp = TopicPartition(topics.audit, lane)
    oldest_ms = now_ms - WINDOW_AGE_MS_MAX
    beginning = (await reader.beginning_offsets([tp]))[tp]
    end = high = (await reader.end_offsets([tp]))[tp]
    recent = (await reader.offsets_for_times({tp: oldest_ms}))[tp]
    floor = max(beginning, min(head_from, recent.offset if recent else high))
    low = max(beginning, min(head_from, high - _STEP_OFFSETS))
    steps: list[list[Accepted]] = []
    ids = blocks = 0
    last: Any = None
    while True:
        seen: list[Accepted] = []
        async for record in committed_records(reader, tp, low, high):
            seen += _accepted(record, lane, oldest_ms)
            blocks += 1
            if not steps:
                last = record
        steps.append(seen)
        ids += sum(map(len, seen))
        if low <= floor or ids >= WINDOW_IDS_MAX or blocks >= WINDOW_BLOCKS_MAX:
            break
        low, high = max(floor, low - (high - low) * 2), low
    _check_head(lane, state, last)
    window = RepeatWindow()
    for step in reversed(steps):
        for each in step:
            window.add(each)
    head = parse_header(last.key) if last else None
    return TakenLane(
        state=state,
        window=window,
        blocks_read=blocks,
        list_number=head.list_number if head else 0,
        list_digest=head.list_digest if head else b"",
        # A committed block is followed by its commit marker and nothing else.
        clean=end == (last.offset + 2 if last else beginning),
    )


def _check_head(lane: int, state: LaneState, last: Any) -> None:
    found = header_hash(last.key) if last else NO_PREVIOUS
    if found != state.header_hash or (last is None) != (state.sequence == 0):
        raise Fatal(
            f"lane {lane}: its head (block {state.sequence}) is not the last block of the audit"
            f" (offset {last.offset if last else None}): nothing is placed; compare with a"
            " receipt or checkpoint before anything is repaired"
        )
    state.block_offset = last.offset if last else -1


def _accepted(record: Any, lane: int, oldest_ms: int) -> list[Accepted]:
    """What a block accepted; nothing where it is too old or holds no event ids."""
    try:
        header, body = parse_block(record.key, record.value)
    except Rejected as error:
        raise Fatal(
            f"lane {lane}: the audit block at offset {record.offset} cannot be read: {error}"
        ) from error
    if header.decided_ms < oldest_ms:
        return []
    rows = [
        row
        for section in body.inputs
        for row in body.rows(section)
        if row.id_hash is not None and row.refusal is None
    ]
    return [
        Accepted(
            salt=body.salt,
            at_ms=header.decided_ms,
            ids=b"".join(row.id_hash or b"" for row in rows),
            digests=b"".join(row.digest for row in rows),
            operations=bytes(row.operation for row in rows),
        )
    ]
