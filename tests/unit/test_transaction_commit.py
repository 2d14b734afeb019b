"""A transaction of which anything failed is never committed, whoever waited for what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shutong_core.runtime.transaction import Deadlines, TransactionalProducer, TransactionFailed
from shutong_core.runtime.transactionlink import TransactionLink
from shutong_core.wire.batches import ColumnBatch
from unit.test_transaction_link import INVALID_STATE, FakeKafka


async def test_offsets_that_failed_while_nobody_waited_are_not_committed_over() -> None:
    kafka = FakeKafka()
    producer = TransactionalProducer({}, "id", Deadlines(), batch_bytes_max=10_000)
    stand_in: Any = kafka
    producer._client = stand_in
    producer._link = TransactionLink(stand_in, "id", 15_000, 4_000)
    await producer._link.init()
    await producer.begin()
    sent = await producer.send(ColumnBatch("t", 0, [b"k"], [b"v"]))
    await sent
    kafka.tell("TxnOffsetCommit", INVALID_STATE)
    offsets = asyncio.create_task(producer.offsets({("t", 0): 3}, "group"))
    await asyncio.sleep(0)
    with pytest.raises(TransactionFailed):
        await producer.commit()
    assert "EndTxn" not in kafka.asked
    assert producer.poisoned
    with pytest.raises(TransactionFailed):
        await offsets
