"""Registers one schema, without a list: the same one writer, the same order as publishing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shutong_control.publish import read_to_end
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.transaction import Deadlines, TransactionalProducer
from shutong_core.wire.batches import KafkaRecord, RecordBatch
from shutong_core.wire.compat import full_transitive
from shutong_core.wire.schemarecords import Registration, Registry, encode_registration
from shutong_core.wire.schemas import Schema
from shutong_core.wire.topics import INBOUND_BYTES_MAX, Topics

SEEN_S_MAX = 30.0
_SUBJECT = re.compile(r"[A-Za-z0-9._-]{1,249}-value")


def allot_schema(
    registry: Registry, topics: Topics, subject: str, schema: Schema
) -> tuple[Registration, bool]:
    """The registration of `schema` under `subject`, put into `registry`; True if it is new.

    Raises Rejected if the subject is not that of a dataset, or if the schema is not compatible
    with every earlier version.
    """
    topic = subject.removesuffix("-value")
    if not _SUBJECT.fullmatch(subject) or topics.dataset_of(topic) is None:
        # What a grant delivers is projected by publishing, never given by hand.
        raise Rejected(
            f"主体 {subject[:300]!r} 应为 {topics.prefix}.inbound.<数据资源>-value。"
            f" The subject must be {topics.prefix}.inbound.<dataset>-value."
        )
    earlier = [each.schema for each in registry.versions(subject)]
    found = () if schema in earlier else full_transitive(schema, earlier)
    if found:
        raise Rejected(
            "与已登记的版本不兼容。 Not compatible with the versions registered already:\n"
            + "\n".join(f"  {each.path or 'schema'}: {each.zh}。 {each.en}." for each in found)
        )
    return registry.allot(subject, schema)


async def register_schema(
    client: Mapping[str, Any],
    topics: Topics,
    feed: ListFeed,
    subject: str,
    schema: Schema,
    acts: Callable[[Registration], Sequence[RecordBatch]] = lambda _: (),
) -> tuple[Registration, bool]:
    """Register `schema` under `subject`, and wait until `feed` shows it; True if it is new.

    `acts`: events about it, written in one commit with it.

    The control topics must be there and `feed` be started. Raises Rejected as `allot_schema`,
    Retryable if Kafka does not answer, Fenced if another writer came in between: nothing was
    written then, call again; Fatal as `read_to_end`.
    """
    producer = TransactionalProducer(
        client, topics.control_id, Deadlines(), batch_bytes_max=INBOUND_BYTES_MAX - 4096
    )
    try:
        # Fences every other writer before the registry is read.
        await producer.start()
        await read_to_end(feed)
        made, new = allot_schema(feed.registry.copy(), topics, subject, schema)
        if not new:
            return made, False
        await producer.begin()
        record = KafkaRecord(*encode_registration(made))
        for batch in (RecordBatch(topics.schemas, 0, (record,)), *acts(made)):
            await producer.send(batch)
        await producer.commit()
    finally:
        await producer.close()
    try:
        async with asyncio.timeout(SEEN_S_MAX):
            while made.id not in feed.schemas:
                await feed.caught_up(SEEN_S_MAX)
    except TimeoutError:
        raise Retryable(f"schema {made.id} was written, but is not seen: {feed.problem}") from None
    return made, True
