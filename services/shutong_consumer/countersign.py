"""Receipts: the service recomputes an agency's chain and signs it with the agency's key.

Only for whole segments up to the agency's cursor that have no receipt yet. If the records do not
give the chain that their headers claim, nothing is signed and an alarm is raised.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from shutong_consumer.chains import Countersigning, Stand, Stretch
from shutong_consumer.frontdesk import FrontDesk
from shutong_consumer.inbox import Stored
from shutong_consumer.pull import Pull, gone, start_position
from shutong_consumer.receiptbook import ReceiptBook, Whose, place_key, record_key
from shutong_consumer.refused import RequestRefused
from shutong_consumer.rights import Right
from shutong_consumer.topicreader import Span, TopicReader
from shutong_core.audit.follow import Mismatch
from shutong_core.audit.receipts import DeliveryReceipt, encode_receipt
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.ackedwriter import AckedWriter, Unacknowledged
from shutong_core.runtime.keyring import Keyring
from shutong_core.runtime.metrics import Metrics
from shutong_core.wire.batches import KafkaRecord, RecordBatch

#: Records followed for one request; the caller asks again for the rest.
RECORDS_MAX = 100_000
_TURN_RECORDS = 250
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bus:
    """Where receipts go, and in whose name."""

    cluster: str
    topic: str
    writer: AckedWriter
    keyring: Keyring
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Countersigned:
    """Receipts as stored (RFC 8785); `complete` unless the caller should ask again."""

    right: Right
    receipts: tuple[bytes, ...]
    complete: bool


class Countersigner:
    """Makes receipts; one for the whole process."""

    def __init__(self, bus: Bus, desk: FrontDesk, pull: Pull, book: ReceiptBook) -> None:
        self._bus = bus
        self._desk = desk
        self._pull = pull
        self._book = book
        self._locks: WeakValueDictionary[Whose, asyncio.Lock] = WeakValueDictionary()

    async def countersign(self, right: Right, cursor: str, client: str) -> Countersigned:
        """Receipts up to `cursor`. Raises RequestRefused."""
        if not self._book.ready:
            raise RequestRefused(Reason.KAFKA_UNAVAILABLE, retry_after_s=2)
        await self._desk.note_hosting("countersign", right, client)
        whose = (right.grant.id, right.territory or "")
        lock = self._locks.setdefault(whose, asyncio.Lock())
        async with lock, self._pull.open(right) as reader:
            target = await start_position(reader, cursor)
            span = await reader.span()
            _refuse_outside(target, span)
            stand = _stand(self._book.stand(whose), right, span)
            walk = Countersigning(self._bus.cluster, right.grant.id, right.territory, stand)
            complete = await self._walk(right, reader, stand, target, walk)
            if walk.mismatches:
                raise self._mismatch(right, walk.mismatches[0])
            # Signing is an act in the agency's name: not under a right that has ended meanwhile.
            self._desk.still(right)
            receipts = self._sign(right, walk.stretches())
            # Also where there is nothing to sign: past a bounded run of other territories'
            # records the next request must begin behind it, or none would ever get further.
            if receipts or walk.stand().offsets != stand.offsets:
                await self._write(whose, walk, receipts)
        return Countersigned(right, receipts, complete)

    async def _walk(
        self,
        right: Right,
        reader: TopicReader,
        stand: Stand,
        target: Mapping[int, int],
        walk: Countersigning,
    ) -> bool:
        """Feed what lies between `stand` and `target`; False if that was too much for once."""
        wanted = self._pull.wanted(right, self._pull.reading(right)) or _all
        left = RECORDS_MAX
        for partition, at in stand.offsets.items():
            if at < target[partition]:
                left -= await _follow(
                    reader, walk, wanted, partition, (at, target[partition]), left
                )
        return left > 0

    def _sign(self, right: Right, stretches: tuple[Stretch, ...]) -> tuple[bytes, ...]:
        signer = self._bus.keyring.signer(f"agency/{right.agency}")
        now_ms = self._desk.wall_ms()
        return tuple(
            encode_receipt(
                DeliveryReceipt(
                    cluster=self._bus.cluster,
                    grant=right.grant.id,
                    territory=right.territory,
                    lane=each.lane,
                    first=each.first,
                    last=each.last,
                    chain=each.chain.hex(),
                    agency=f"{right.agency}/{right.caller.system}",
                    at_ms=now_ms,
                ),
                signer.key_id,
                signer.sign,
            )
            for each in stretches
        )

    async def _write(self, whose: Whose, walk: Countersigning, receipts: tuple[bytes, ...]) -> None:
        stand, stretches = walk.stand(), walk.stretches()
        records = [
            KafkaRecord(
                record_key(whose, each.lane),
                receipt,
                # One batch is written whole, so its last record may speak for all.
                (self._book.seal(whose, stand),) if each is stretches[-1] else (),
            )
            for each, receipt in zip(stretches, receipts, strict=True)
        ]
        if not records:
            records = [KafkaRecord(place_key(whose), None, (self._book.seal(whose, stand),))]
        try:
            await self._bus.writer.write([RecordBatch(self._bus.topic, 0, records)])
        except Unacknowledged as error:
            raise RequestRefused(Reason.KAFKA_UNAVAILABLE, retry_after_s=1) from error
        self._book.put(whose, stand)
        count = sum(each.last - each.first + 1 for each in stretches)
        if count:
            self._bus.metrics.count("shutong_acknowledged_total", count, grant=whose[0])

    def _mismatch(self, right: Right, found: Mismatch) -> RequestRefused:
        grant = right.grant.id
        self._bus.metrics.count("shutong_chain_mismatches_total", grant=grant)
        _log.error(
            "DELIVERY CHAIN DOES NOT MATCH: nothing was signed",
            grant=grant,
            lane=found.lane,
            sequence=found.k,
            problem=f"{found.wrong}: expected {found.expected}, found {found.found}",
            remedy="run `shutong audit verify` and keep the topic as it is",
        )
        return RequestRefused(
            Reason.CHAIN_MISMATCH,
            more={
                "lane": found.lane,
                "k": found.k,
                "wrong": str(found.wrong),
                "expected": found.expected,
                "found": found.found,
            },
        )


def receipts_body(signed: Countersigned) -> bytes:
    """The answer; receipts stand in it byte by byte as they were stored."""
    complete = json.dumps(signed.complete).encode()
    return b'{"receipts":[' + b",".join(signed.receipts) + b'],"complete":' + complete + b"}"


async def _follow(
    reader: TopicReader,
    walk: Countersigning,
    wanted: Callable[[Stored], bool],
    partition: int,
    between: tuple[int, int],
    records_max: int,
) -> int:
    """Feed one partition's records from the first offset to below the second; how many.

    A record at or behind the second shows whether the last segment is whole; so does the end of
    what was fetched, because that comes in whole batches.
    """
    at, target = between
    count = 0
    while True:
        ready = await reader.ready({partition: at})
        for record in ready.records[partition]:
            if record.offset >= target or count >= records_max:
                walk.close(partition, record.offset if count >= records_max else target, record)
                return count
            walk.feed(record, own=wanted(record))
            count += 1
            if count % _TURN_RECORDS == 0:
                await asyncio.sleep(0)
        reached = ready.reached[partition]
        if reached >= target or reached == at:
            walk.close(partition, target, None)
            return count
        at = reached


def _all(_: Stored) -> bool:
    return True


def _refuse_outside(target: Mapping[int, int], span: Span) -> None:
    if any(at > span.end[each] for each, at in target.items()):
        raise RequestRefused(Reason.BAD_CURSOR)
    if any(at < span.begin[each] for each, at in target.items()):
        raise gone({each: max(at, span.begin[each]) for each, at in target.items()})


def _stand(known: Stand | None, right: Right, span: Span) -> Stand:
    """Where to go on; where that was deleted, from the first record that is kept.

    The chain is then taken up at the value the first segment claims, and the receipt's `from`
    says so. A territory's chain stands in no header, so there it cannot be taken up.
    """
    if known is None:
        lost = frozenset(each for each, at in span.begin.items() if at > 0)
        stand = Stand(dict(span.begin), {}, None if right.territory is None else {}, lost)
    else:
        lost = frozenset(each for each, at in known.offsets.items() if at < span.begin[each])
        if not lost:
            return known
        kept = {
            lane: each for lane, each in known.lanes.items() if lane % len(span.begin) not in lost
        }
        offsets = {each: max(at, span.begin[each]) for each, at in known.offsets.items()}
        stand = Stand(offsets, kept, known.territory, known.late | lost)
    if lost and right.territory is not None:
        raise RequestRefused(
            Reason.CURSOR_GONE,
            "签收链所需的早期记录已过保存期，无法签收；请向审计取得链值",
            "records that the territory's chain needs are past their retention: nothing can be"
            " countersigned here, ask the auditor for the chain value",
        )
    return stand
