"""Takes in one request: identity, right, entries, records, Kafka's acknowledgement, receipt.

Answers success only after Kafka acknowledged every record. In mode all-or-nothing nothing is
written unless every record is sound; in mode per-record an NDJSON body is written in batches while
it comes in, so memory stays bounded however long it is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence

from shutong_core.audit.access import named
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.ackedwriter import AckedWriter, Unacknowledged
from shutong_core.wire.batches import RecordBatch, chunks
from shutong_core.wire.topics import Topics
from shutong_producer.body import Posted, bytes_max_of, kind_of, mode_of, parts, whole
from shutong_producer.desk import Desk
from shutong_producer.door import RECORD_SIZE_MAX, Door, Prepared
from shutong_producer.entries import (
    AVRO,
    NDJSON,
    Entry,
    Faulty,
    LineCutter,
    WrongDocument,
    entries_of_document,
    entry_of_avro,
    entry_of_line,
    too_large,
)
from shutong_producer.failpoint import Failpoint, no_failpoint
from shutong_producer.gate import Hold
from shutong_producer.outcome import Outcome, Seal
from shutong_producer.refused import RequestRefused, bad_request
from shutong_producer.rights import Caller, publishable

#: Records and bytes written together in mode per-record.
BATCH_RECORDS_MAX = 500
BATCH_BYTES_MAX = 1024 * 1024
_DOORS_MAX = 512
#: Records prepared before other requests get their turn on the event loop.
_TURN = 32
_RETRY_AFTER_S = 2
#: Bytes that a parsed document counts for each byte of its text, beside the text itself.
_PARSED_WEIGHT = 7


class Intake:
    """The way of a request; one for the whole process."""

    def __init__(
        self,
        desk: Desk,
        writer: AckedWriter,
        topics: Topics,
        seal: Seal,
        *,
        failpoint: Failpoint = no_failpoint,
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        self._desk = desk
        self._writer = writer
        self._topics = topics
        self._seal = seal
        self._failpoint = failpoint
        self._on_outcome = on_outcome
        self._doors: OrderedDict[tuple[int, str, str], Door] = OrderedDict()

    async def publish(self, posted: Posted) -> bytes:
        """The body of the 200 answer. Raises RequestRefused, with the access event written."""
        actor, outcome = "", None
        try:
            version, caller = self._desk.identify(posted.authorization, posted.client)
            actor = caller.publisher
            door = self.door(version, caller, posted.dataset)
            outcome = Outcome(posted.dataset, caller.publisher)
            with self._desk.gate.enter() as hold:
                await self._take(posted, door, outcome, hold)
        except RequestRefused as refused:
            if refused.status < 500:
                await self._note(posted, actor, refused.reason, outcome)
            raise
        finally:
            if outcome is not None:
                self._on_outcome(outcome)
        if outcome.refused:
            first = next(iter(outcome.reasons()))
            await self._note(posted, actor, first, outcome)
        return outcome.answer(self._seal, self._desk.wall_ms())

    def door(self, version: ListVersion, caller: Caller, dataset_id: str) -> Door:
        """The door of a dataset for a caller. Raises RequestRefused."""
        dataset = publishable(version, caller, dataset_id)
        key = (version.number, dataset.id, caller.publisher)
        found = self._doors.get(key)
        if found is None:
            bytes_max = self._desk.bounds.record_bytes_max
            try:
                found = Door(
                    version, dataset, self._desk.lists.schemas, caller.publisher, bytes_max
                )
            except Rejected as error:
                raise RequestRefused(
                    Reason.LIST_LEASE_LOST,
                    "清单中该数据资源的模式或规则不可用",
                    "the list's schema or rules for this dataset cannot be used",
                    retry_after_s=30,
                ) from error
            self._doors[key] = found
            while len(self._doors) > _DOORS_MAX:
                self._doors.popitem(last=False)
        return found

    async def _note(
        self, posted: Posted, actor: str, reason: Reason, outcome: Outcome | None
    ) -> None:
        counts = outcome.reasons() if outcome is not None else {}
        detail = " ".join(f"{each.name}={count}" for each, count in counts.items())
        # The dataset's name is the client's own text where the list does not have it.
        version = self._desk.lists.version
        known = version is not None and version.dataset(posted.dataset) is not None
        target = named(posted.dataset, known=known)
        await self._desk.note(
            "publish", reason, posted.client, actor=actor, target=target, detail=detail
        )

    async def _take(self, posted: Posted, door: Door, outcome: Outcome, hold: Hold) -> None:
        mode, kind = mode_of(posted.mode), kind_of(posted)
        entries = self._entries(posted, kind, hold)
        if mode == "per-record":
            await self._take_each(entries, door, outcome, hold)
        else:
            await self._take_all(entries, door, outcome)
        if not outcome.known:
            raise bad_request("请求中没有记录", "the request holds no record")

    async def _take_all(
        self, entries: AsyncIterator[Entry | Faulty], door: Door, outcome: Outcome
    ) -> None:
        prepared = []
        async for entry in entries:
            made = door.prepare(entry) if isinstance(entry, Entry) else entry
            if isinstance(made, Faulty):
                outcome.refuse(made)
            elif not outcome.refused:  # one fault is enough to keep no more records
                prepared.append(made)
        if outcome.refused:
            raise outcome.refusal(self._seal, self._desk.wall_ms())
        await self._write(prepared, outcome)

    async def _take_each(
        self, entries: AsyncIterator[Entry | Faulty], door: Door, outcome: Outcome, hold: Hold
    ) -> None:
        """Write while the body comes in; what was settled is told even if the rest fails."""
        batch: list[Prepared] = []
        size, begun = 0, False
        try:
            async for entry in entries:
                made = door.prepare(entry) if isinstance(entry, Entry) else entry
                if isinstance(made, Faulty):
                    outcome.refuse(made)
                    continue
                batch.append(made)
                size += made.record.size
                if len(batch) >= BATCH_RECORDS_MAX or size >= BATCH_BYTES_MAX:
                    if begun:
                        self._failpoint("between-batches")
                    await self._write(batch, outcome)
                    batch, size, begun = [], 0, True
                    hold.give_back(hold.bytes)
            if batch:
                if begun:
                    self._failpoint("between-batches")
                await self._write(batch, outcome)
        except RequestRefused as refused:
            settled = outcome.so_far(self._seal, self._desk.wall_ms())
            refused.more = {**refused.more, **settled}
            raise

    async def _entries(
        self, posted: Posted, kind: str, hold: Hold
    ) -> AsyncIterator[Entry | Faulty]:
        bounds = self._desk.bounds
        bytes_max = bytes_max_of(kind, bounds)
        if kind == NDJSON:
            source = self._lines(posted, bytes_max, hold)
        else:
            source = self._document(posted, kind, bytes_max, hold)
        index = 0
        async for entry in source:
            index += 1
            if index > bounds.request_records_max:
                raise _too_many_records(bounds.request_records_max)
            if index % _TURN == 0:
                await asyncio.sleep(0)
            yield entry

    async def _document(
        self, posted: Posted, kind: str, bytes_max: int, hold: Hold
    ) -> AsyncIterator[Entry | Faulty]:
        body = await whole(posted, bytes_max, self._desk.bounds, hold)
        if kind == AVRO:
            yield entry_of_avro(body, posted.event_id, posted.operation)
            return
        # Parsed as a whole, JSON takes many times its length: small values, large objects.
        hold.take(_PARSED_WEIGHT * len(body))
        try:
            for entry in entries_of_document(body, self._desk.bounds.request_records_max):
                yield entry
        except WrongDocument as error:
            raise bad_request(error.problem.zh, error.problem.en) from None
        except OverflowError:
            raise _too_many_records(self._desk.bounds.request_records_max) from None

    async def _lines(
        self, posted: Posted, bytes_max: int, hold: Hold
    ) -> AsyncIterator[Entry | Faulty]:
        record_max = self._desk.bounds.record_bytes_max
        cutter, index = LineCutter(record_max), 0
        async for part in parts(posted, bytes_max, self._desk.bounds, hold):
            for line, digest in cutter.feed(part):
                yield _of_line(index, line, digest, record_max)
                index += 1
        for line, digest in cutter.end():
            yield _of_line(index, line, digest, record_max)
            index += 1

    async def _write(self, prepared: Sequence[Prepared], outcome: Outcome) -> None:
        """Write, wait for every acknowledgement, note where each record stands."""
        if not prepared:
            return
        by_lane: dict[int, list[Prepared]] = {}
        for each in prepared:
            by_lane.setdefault(each.partition, []).append(each)
        topic = self._topics.inbound(outcome.dataset)
        batches = [
            RecordBatch(topic, lane, run)
            for lane, found in by_lane.items()
            for run in chunks((each.record for each in found), RECORD_SIZE_MAX, len(found))
        ]
        try:
            bases = await self._writer.write(batches, lambda: self._failpoint("before-ack"))
        except Unacknowledged as error:
            raise RequestRefused(
                Reason.KAFKA_UNAVAILABLE,
                retry_after_s=_RETRY_AFTER_S,
                more={"unknown": [each.index for each in prepared[:1000]]},
            ) from error
        self._failpoint("after-ack")
        for lane, found in by_lane.items():
            offsets = [
                base + place
                for batch, base in zip(batches, bases, strict=True)
                if batch.partition == lane
                for place in range(len(batch.records))
            ]
            outcome.taken += zip(found, offsets, strict=True)


def _of_line(index: int, line: bytes | None, digest: str, bytes_max: int) -> Entry | Faulty:
    if line is None:
        return Faulty(index, digest, None, (too_large(bytes_max),))
    return entry_of_line(index, line, bytes_max)


def _too_many_records(records_max: int) -> RequestRefused:
    return RequestRefused(
        Reason.TOO_LARGE,
        f"一次请求最多 {records_max} 条记录",
        f"a request holds at most {records_max} records",
    )
