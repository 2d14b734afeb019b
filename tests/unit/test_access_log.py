"""Privileged acts are written one by one or not done; only refusals may be summed up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest
from bus_schemas import codec

from shutong_core.audit.access import Act
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.accesslog import WAITING_MAX, WAITING_REFUSALS_MAX, AccessLog
from shutong_core.runtime.ackedwriter import AckedWriter, Unacknowledged
from shutong_core.wire.batches import RecordBatch
from shutong_core.wire.busrecords import AccessEvent

CODEC = codec()
REFUSED = Act(1, "a/b", "pull", refused=Reason.NOT_YOUR_GRANT)
PRIVILEGED = Act(1, "a/b", "pull", "grant/x", detail="on behalf of c")


class Writer:
    """Stands for Kafka: answers, refuses, or keeps everybody waiting."""

    def __init__(self) -> None:
        self.events: list[AccessEvent] = []
        self.away = False
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, batches: Sequence[RecordBatch]) -> list[int]:
        await self.open.wait()
        if self.away:
            raise Unacknowledged("away")
        for batch in batches:
            self.events += [
                CODEC.decode_as(AccessEvent, record.value or b"") for record in batch.records
            ]
        return [0]


@pytest.fixture
async def writer() -> Writer:
    return Writer()


@pytest.fixture
async def log(writer: Writer) -> AsyncIterator[AccessLog]:
    made = AccessLog(
        "consumer",
        cast(AckedWriter, writer),
        "access",
        lambda: 1,
        CODEC.encode,
        clock=lambda: 0.0,
        single_per_s_max=2,
    )
    await made.start()
    yield made
    writer.open.set()
    await made.close(0.1)


async def test_a_privileged_act_is_written_by_itself_also_in_a_flood(
    log: AccessLog, writer: Writer
) -> None:
    said = [await log.record(REFUSED) for _ in range(5)]
    assert said == [True, True, False, False, False]
    assert await log.record(PRIVILEGED)
    assert [event.target for event in writer.events] == ["", "", "grant/x"]


async def test_a_privileged_act_that_kafka_does_not_acknowledge_is_false(
    log: AccessLog, writer: Writer
) -> None:
    writer.away = True
    assert not await log.record(PRIVILEGED)
    writer.away, held = False, writer.open
    held.clear()
    assert not await log.record(PRIVILEGED, within_s=0.05)


async def test_a_privileged_act_that_finds_no_room_is_false_and_refusals_leave_room(
    log: AccessLog, writer: Writer
) -> None:
    writer.open.clear()
    log._single_max = 10 * WAITING_MAX
    flood = [asyncio.create_task(log.record(REFUSED, 1)) for _ in range(WAITING_REFUSALS_MAX + 300)]
    await asyncio.sleep(0)
    acts = [asyncio.create_task(log.record(PRIVILEGED, 1)) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    writer.open.set()
    written = sum(await asyncio.gather(*acts))
    assert WAITING_MAX - WAITING_REFUSALS_MAX <= written < WAITING_MAX
    assert sum(event.target == "grant/x" for event in writer.events) == written
    await asyncio.gather(*flood)
