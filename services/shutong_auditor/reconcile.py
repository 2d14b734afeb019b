"""Daily reconciliation (对账): placed by the audit, against delivery topics and receipts.

Every difference is named by grant, lane and number; nothing is compared by totals alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shutong_auditor.index.indexer import CHINA
from shutong_auditor.index.questions import Span
from shutong_core.audit.chain import segment_of
from shutong_core.audit.receipts import parse_receipt
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.cluster import partitions_of
from shutong_core.runtime.consumers import committed_records, reading_committed
from shutong_core.wire.topics import Topics

#: Read from so long before the day, so that the header of each segment is met, and so long after.
_AROUND_MS = 3_600_000
#: Runs of missing numbers named for one lane.
_GAPS_SHOWN = 10


@dataclass(slots=True)
class GrantDay:
    """One grant on one day, in records."""

    grant: str
    audited: int = 0
    in_topic: int = 0
    acknowledged: int = 0
    #: What differs, for people: (Chinese, English).
    differences: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _LaneSeen:
    """Which of the numbers first_k … last_k of a lane a topic has."""

    span: Span
    wanted: int  # number to come next
    count: int = 0
    repeated: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    missing: int = 0

    def see(self, k: int) -> None:
        """Take the next record's number."""
        if not self.span.first_k <= k <= self.span.last_k:
            return
        if k < self.wanted:
            self.repeated += 1
            return
        self._miss(k - 1)
        self.wanted = k + 1
        self.count += 1

    def end(self) -> None:
        """No record comes any more."""
        self._miss(self.span.last_k)

    def _miss(self, last: int) -> None:
        if last >= self.wanted:
            self.missing += last - self.wanted + 1
            if len(self.gaps) < _GAPS_SHOWN:
                self.gaps.append((self.wanted, last))


@dataclass(slots=True)
class _Seen:
    lanes: dict[int, _LaneSeen]
    lane: int | None = None
    k: int = 0
    cut: bool = False  # the topic no longer has its first records


async def reconcile(
    client: Mapping[str, Any], topics: Topics, day: str, spans: Sequence[Span]
) -> list[GrantDay]:
    """The reconciliation of `day` (`YYYY-MM-DD`, China's time), by grant.

    `spans`: what the index says of that day. Raises Rejected for what is no day, Retryable if
    Kafka does not answer.
    """
    try:
        start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=CHINA)
    except ValueError:
        raise Rejected(f"{day} 不是日期。 {day} is no day: YYYY-MM-DD.") from None
    first_ms = int(start.timestamp() * 1000) - _AROUND_MS
    end_ms = int((start + timedelta(days=1)).timestamp() * 1000) + _AROUND_MS
    by_grant: dict[str, dict[int, Span]] = defaultdict(dict)
    for span in spans:
        by_grant[span.grant][span.lane] = span
    try:
        async with reading_committed(client) as reader:
            signed = await _acknowledged(reader, topics)
            found = []
            for grant, lanes in sorted(by_grant.items()):
                topic = topics.delivery(grant)
                count = (await partitions_of(client, [topic])).get(topic, 0)
                seen = _Seen({lane: _LaneSeen(span, span.first_k) for lane, span in lanes.items()})
                for number in range(count):
                    await _count(reader, TopicPartition(topic, number), (first_ms, end_ms), seen)
                found.append(_compared(grant, seen, signed, there=count > 0))
    except (KafkaError, TimeoutError) as error:
        raise Retryable(f"deliveries cannot be read: {type(error).__name__}") from error
    return found


async def _count(
    consumer: AIOKafkaConsumer,
    place: TopicPartition,
    span_ms: tuple[int, int],
    seen: _Seen,
) -> None:
    """Count the records of a partition whose numbers are the day's."""
    offsets = await consumer.offsets_for_times({place: span_ms[0]})
    until = await consumer.offsets_for_times({place: span_ms[1]})
    end = (await consumer.end_offsets([place]))[place]
    seen.cut |= (await consumer.beginning_offsets([place]))[place] > 0
    if offsets[place] is None:
        return
    end = until[place].offset if until[place] is not None else end
    seen.lane = None
    async for record in committed_records(consumer, place, offsets[place].offset, end):
        try:
            segment = segment_of(record.headers)
        except Rejected:
            seen.lane = None  # not to be attributed: it will be missing, and is named so
            continue
        if segment is not None:
            seen.lane, seen.k = segment.lane, segment.k - 1
        if seen.lane is None:
            continue
        seen.k += 1
        if (lane := seen.lanes.get(seen.lane)) is not None:
            lane.see(seen.k)


async def _acknowledged(consumer: AIOKafkaConsumer, topics: Topics) -> dict[tuple[str, int], int]:
    """How far each (grant, lane) was countersigned; class grants have chains by territory."""
    place = TopicPartition(topics.receipts, 0)
    reached: dict[tuple[str, int], int] = defaultdict(int)
    first = (await consumer.beginning_offsets([place]))[place]
    end = (await consumer.end_offsets([place]))[place]
    async for record in committed_records(consumer, place, first, end):
        try:
            receipt = parse_receipt(record.value or b"", lambda *_: True)
        except Rejected:
            continue  # not for a sum to say; verification does
        if receipt.territory is None:
            name = (receipt.grant, receipt.lane)
            reached[name] = max(reached[name], receipt.last)
    return reached


def _compared(
    grant: str, seen: _Seen, signed: Mapping[tuple[str, int], int], *, there: bool
) -> GrantDay:
    day = GrantDay(grant)
    for number, lane in sorted(seen.lanes.items()):
        lane.end()
        span = lane.span
        day.audited += span.count
        day.in_topic += lane.count + lane.repeated
        day.acknowledged += max(
            0, min(signed.get((grant, number), 0), span.last_k) - span.first_k + 1
        )
        day.differences += _differences(number, lane, cut=seen.cut, there=there)
    return day


def _differences(
    number: int, lane: _LaneSeen, *, cut: bool, there: bool
) -> Iterator[tuple[str, str]]:
    span = lane.span
    numbers = f"{span.first_k}–{span.last_k}"
    if not span.whole:
        yield (
            f"分道 {number}：序号 {numbers}，审计只有 {span.count} 条",
            f"lane {number}: numbers {numbers}, but the audit has {span.count}",
        )
    if lane.missing:
        gaps = ", ".join(f"{first}–{last}" for first, last in lane.gaps)
        zh, en = ("投放主题", "the topic") if there else ("（主题不存在）", "(no topic)")
        if there and cut:
            zh, en = "投放主题（较早的已过保存期）", "the topic (older ones are past their term)"
        yield (
            f"分道 {number}：{zh}缺 {lane.missing} 条，序号 {gaps}",
            f"lane {number}: {en} lacks {lane.missing}, numbers {gaps}",
        )
    if lane.repeated:
        yield (
            f"分道 {number}：投放主题重复 {lane.repeated} 条",
            f"lane {number}: the topic repeats {lane.repeated}",
        )
