"""Reads how the list came to be: every signed version in control.lists, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shutong_cli.reading import require_keyring
from shutong_core.domain.changes import Assembler
from shutong_core.domain.errors import Fatal, Rejected, Retryable
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import partitions_of
from shutong_core.runtime.consumers import committed_records, reading_committed
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


async def read_version(node: Node, number: int) -> ListVersion:
    """Version `number` of the list. Raises Rejected if there is none, Retryable as above."""
    require_keyring(node)
    assembler = Assembler(node.keyring.verifier("control"))
    try:
        async with asyncio.timeout(READ_S_MAX), aclosing(_records(node)) as records:
            async for record in records:
                try:
                    version = assembler.add(record)
                except Rejected:
                    continue
                if version is not None and version.number == number:
                    return version
    except (KafkaError, TimeoutError) as error:
        raise Retryable(f"control.lists cannot be read: {type(error).__name__}") from error
    raise Rejected(
        f"control.lists 中没有可信的清单第 {number} 版。"
        f" control.lists has no list {number} that this node's keyring trusts."
    )


async def require_own_bus(node: Node) -> None:
    """Raises Fatal if control.lists has records of which the node's keyring signed none.

    Asked before anything is made or started: a keyring made by accident could only begin a second
    history, which nobody would obey. Raises Retryable if Kafka does not answer.
    """
    if not await partitions_of(node.client, [node.topics.lists]):
        return
    keyring = node.settings.keyring_dir
    if keyring.exists() and await read_history(node):
        return
    if await _has_records(node):
        prefix = node.settings.prefix
        raise Fatal(
            f"这个 Kafka（主题前缀 {prefix}）的清单由另一个密钥环签名，不是 {keyring}。"
            "请把那个密钥环复制到这里，或用 SHUTONG_DATA_DIR 指明其数据目录，"
            "或用 SHUTONG_PREFIX 另选前缀重新开始。"
            f" This Kafka (topic prefix {prefix}) belongs to another keyring, not to {keyring}:"
            " copy that keyring there, or set SHUTONG_DATA_DIR to where it is, or begin anew under"
            " another SHUTONG_PREFIX."
        )


async def _has_records(node: Node) -> bool:
    try:
        async with asyncio.timeout(READ_S_MAX), aclosing(_records(node)) as records:
            async for _ in records:
                return True
    except (KafkaError, TimeoutError) as error:
        raise Retryable(f"control.lists cannot be read: {type(error).__name__}") from error
    return False


def _step(held: ListVersion | None, version: ListVersion) -> Step:
    before = held.digests if held else {}
    changed = sum(before.get(row_id) != digest for row_id, digest in version.digests.items())
    changed += len(before.keys() - version.digests.keys())
    return Step(version.number, version.digest, version.effective_ms, len(version.digests), changed)


async def _records(node: Node) -> AsyncGenerator[bytes, None]:
    """Values of all records that stand in control.lists now."""
    partition = TopicPartition(node.topics.lists, 0)
    async with reading_committed(node.client, max_partition_fetch_bytes=2 * 1024 * 1024) as reader:
        end = (await reader.end_offsets([partition]))[partition]
        async for record in committed_records(reader, partition, 0, end):
            yield record.value or b""
