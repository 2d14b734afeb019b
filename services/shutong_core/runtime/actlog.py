"""Acts of a process that does one thing and ends: one chain of events, complete once written."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shutong_core.audit.access import AccessChain, Act
from shutong_core.domain.errors import Retryable
from shutong_core.runtime.ackedwriter import AckedWriter, Unacknowledged
from shutong_core.runtime.cluster import partitions_of
from shutong_core.wire.batches import KafkaRecord, RecordBatch, chunks
from shutong_core.wire.busrecords import AccessEvent
from shutong_core.wire.topics import INBOUND_BYTES_MAX

_READY_S_MAX = 15.0
_CHUNK_BYTES_MAX = INBOUND_BYTES_MAX - 64 * 1024


def act_batches(
    service: str,
    topic: str,
    partitions: int,
    acts: Iterable[Act],
    encode: Callable[[AccessEvent], bytes],
) -> list[RecordBatch]:
    """The acts as one new chain, to be written whole or not at all."""
    chain = AccessChain(service, secrets.token_hex(16))
    key, records = chain.process.encode(), []
    for act in acts:
        encoded, chain = chain.next(act, encode)
        records.append(KafkaRecord(key, encoded))
    place = zlib.crc32(key) % partitions
    return [RecordBatch(topic, place, run) for run in chunks(records, _CHUNK_BYTES_MAX, 1_000)]


async def write_act(
    client: Mapping[str, Any],
    topic: str,
    act: Act,
    encode: Callable[[AccessEvent], bytes],
    service: str = "cli",
) -> bool:
    """Have one act on record; False if the bus has no such topic yet, so before its first list.

    Raises Retryable if Kafka does not acknowledge it: then the act must not be done.
    """
    partitions = (await partitions_of(client, [topic])).get(topic, 0)
    if not partitions:
        return False
    writer = AckedWriter(client)
    await writer.start()
    try:
        await writer.wait_ready(_READY_S_MAX)
        await writer.write(act_batches(service, topic, partitions, [act], encode))
    except Unacknowledged as error:
        raise Retryable(
            "未能把该操作写入访问日志，因此没有执行，请稍后再试。"
            " The act could not be put on record, so it was not done: try again."
        ) from error
    finally:
        await writer.close()
    return True
