"""Writes an audit copy from a bus that may be at work.

What is signed and countersigned first, then the audit, then the deliveries that it speaks of: so
each is covered by what comes after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from shutong_auditor.copyfiles import (
    ABOUT,
    About,
    block_file,
    delivery_file,
    event_file,
    segment_part,
    write_frame,
)
from shutong_auditor.kafka_read import KafkaReading, open_reading
from shutong_auditor.treecopy import copy_tree
from shutong_auditor.treereader import tree_directory
from shutong_core.audit.block import parse_body
from shutong_core.audit.chain import segment_of
from shutong_core.audit.checkpoint import ACCESS, AUDIT
from shutong_core.audit.verify_delivery import Ledger
from shutong_core.domain.errors import Rejected
from shutong_core.wire.busrecords import BusCodec
from shutong_core.wire.topics import Topics

#: How long a commit may take to show in all partitions.
SETTLE_S = 1.0


async def export_copy(
    client: Mapping[str, Any],
    topics: Topics,
    codec: BusCodec,
    cluster: str,
    directory: Path,
    trees_of: Path | None,
) -> About:
    """Write the copy of bus `cluster` to `directory`, which must not exist.

    `trees_of`: data directory with the auditor's trees, None for a copy without. Raises Rejected
    if the directory is there or the bus has no audit, Retryable if Kafka does not answer.
    """
    await asyncio.to_thread(_new_directory, directory)
    async with open_reading(client, codec, topics.lanes_group) as reading:
        await reading.load_topics()
        lanes = len(reading.partitions(topics.audit))
        if not lanes:
            raise Rejected("没有审计主题。 There is no topic audit: is this the right prefix?")
        run = _Export(reading, topics, directory)
        await run.topic(topics.checkpoints, 0, "checkpoints.records", _whole)
        if trees_of is not None:
            await asyncio.to_thread(_copy_trees, trees_of, directory, lanes)
        await run.topic(topics.receipts, 0, "receipts.records", _value)
        for number in range(lanes):
            await run.topic(topics.access, number, event_file(number), _value)
        for lane in range(lanes):
            await run.topic(topics.audit, lane, block_file(lane), run.block(lane))
        await asyncio.sleep(SETTLE_S)
        # A topic may have come with the first record of a grant meanwhile.
        names = await reading.load_topics()
        for grant in sorted(filter(None, map(topics.grant_of, names))):
            for partition in reading.partitions(topics.delivery(grant)):
                await run.delivery(grant, partition)
    about = About(cluster, lanes, frozenset(run.late))
    await asyncio.to_thread((directory / ABOUT).write_bytes, about.encode())
    return about


def _new_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        raise Rejected(f"{directory} 已存在。 {directory} exists already.") from None
    except OSError as error:
        raise Rejected(f"{directory}: 无法建立 cannot be made ({error.strerror})") from None


Write = Callable[[BinaryIO, Any], None]


class _Export:
    """One export under way."""

    def __init__(self, reading: KafkaReading, topics: Topics, directory: Path) -> None:
        self._reading = reading
        self._topics = topics
        self._directory = directory
        self._ledger = Ledger()
        self.late: set[str] = set()

    async def topic(self, topic: str, partition: int, name: str, write: Write) -> None:
        """All that stands in one partition now."""
        if partition not in self._reading.partitions(topic):
            first, end = 0, 0
        else:
            first, end = (await self._reading.ends(topic))[topic, partition]
        if first > 0:
            self.late.add(name.rpartition(".")[0])
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stream = stack.enter_context(path.open("wb"))
            async for record in self._reading.records(topic, partition, first, end):
                write(stream, record)

    def block(self, lane: int) -> Write:
        """Writes a block and remembers what it placed."""

        def write(stream: BinaryIO, record: Any) -> None:
            write_frame(stream, record.key or b"", record.value)
            try:
                self._ledger.add(lane, parse_body(record.value or b""))
            except Rejected:
                return  # verification tells of it

        return write

    async def delivery(self, grant: str, partition: int) -> None:
        """The records of a delivery partition that the exported blocks speak of."""
        ends = self._ledger.of(grant)
        newer = False

        def write(stream: BinaryIO, record: Any) -> None:
            nonlocal newer
            headers = tuple((name, bytes(value)) for name, value in record.headers)
            try:
                segment = segment_of(headers)
            except Rejected:
                segment = None
            if segment is not None:
                there = ends.get(segment.lane)
                newer = segment.k > (there.ks[-1] if there else 0)
            if not newer:
                write_frame(stream, segment_part(headers), record.key, record.value)

        name = delivery_file(grant, partition)
        await self.topic(self._topics.delivery(grant), partition, name, write)


def _whole(stream: BinaryIO, record: Any) -> None:
    write_frame(stream, record.key, record.value)


def _value(stream: BinaryIO, record: Any) -> None:
    write_frame(stream, record.value or b"")


def _copy_trees(trees_of: Path, directory: Path, lanes: int) -> None:
    for topic in (AUDIT, ACCESS):
        for number in range(lanes):
            copy_tree(
                tree_directory(trees_of, topic, number), directory / "trees" / topic / str(number)
            )
