"""Says what a bus did wrong, from its topics alone.

Reads with librdkafka, decodes with its own Avro, expects what `visits` says of the records that are
really in inbound. Only the audit's own mathematics is left to the product's verifier. Each check
has a name, so that a test can say which one must turn red.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from faults import visits
from faults.fault_bus import Bus, until
from shutong_auditor.kafka_verify import verify_kafka
from shutong_core.runtime.node import bus_codec

READ_S_MAX = 30.0


@dataclass(frozen=True)
class Read:
    """One record as it lies in the log."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int

    @property
    def header(self) -> dict[str, bytes]:
        return dict(self.headers)


Log = dict[tuple[str, int], list[Read]]


def read(bus: Bus, *topics: str, committed: bool = True) -> Log:
    """Everything in these topics from offset 0 to the end of each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bus.bootstrap,
            "group.id": f"{bus.prefix}.checker",
            "enable.auto.commit": False,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
            "check.crcs": True,
            "fetch.wait.max.ms": 20,
            "auto.offset.reset": "error",
        }
    )
    found: Log = {}
    try:
        known = consumer.list_topics(timeout=10).topics
        places = [(topic, number) for topic in topics for number in known[topic].partitions]
        found = {place: [] for place in places}
        consumer.assign([TopicPartition(*place, 0) for place in places])
        ended: set[tuple[str, int]] = set()

        def step() -> bool:
            for message in consumer.consume(500, timeout=0.2):
                place = (message.topic(), message.partition())
                error = message.error()
                if error is None:
                    found[place].append(_read(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(place)
                elif not error.retriable():
                    raise AssertionError(f"cannot read {place}: {error}")
            return len(ended) == len(places)

        until(step, READ_S_MAX, f"the ends of {topics} read")
    finally:
        consumer.close()
    return found


def _read(message: Any) -> Read:
    return Read(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple((name, value or b"") for name, value in message.headers() or ()),
        message.timestamp()[1],
    )


def outputs(bus: Bus) -> tuple[str, ...]:
    """Every topic that brokers write to for others to read."""
    return (*map(bus.topics.delivery, visits.GRANTS), bus.topics.audit, bus.topics.quarantine)


def snapshot(bus: Bus) -> Log:
    """What readers see now: it must stay a beginning of what they see later."""
    return read(bus, *outputs(bus))


def aborted(bus: Bus) -> int:
    """Records of the outputs that no reader of committed data will ever see."""
    written = read(bus, *outputs(bus), committed=False)
    kept = read(bus, *outputs(bus))
    return sum(len(written[place]) - len(kept[place]) for place in written)


@dataclass
class Report:
    """What was found; `problems` maps a check's name to what it says."""

    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    inbound: int = 0
    placed: int = 0
    refused: int = 0
    blocks: int = 0

    def add(self, check: str, text: str) -> None:
        if len(self.problems[check]) < 5:
            self.problems[check].append(text)

    def require(self) -> None:
        """AssertionError with every problem."""
        assert not self.problems, "\n".join(
            f"{check}: {text}" for check, texts in self.problems.items() for text in texts
        )


Granted = Callable[[Read], Collection[str]]


def check(
    bus: Bus,
    acknowledged: Sequence[str],
    *,
    snapshots: Sequence[Log] = (),
    granted: Granted = lambda _: visits.GRANTS,
) -> Report:
    """Check a bus at rest. `granted`: the grants in force when an inbound record was decided."""
    report = Report()
    inbound_topic = bus.topics.inbound(visits.DATASET)
    log = read(bus, inbound_topic, *outputs(bus))
    inbound = [record for lane in range(bus.lanes) for record in log[inbound_topic, lane]]
    report.inbound = len(inbound)
    _acknowledged(report, inbound, acknowledged)
    expected, refused = _expectation(inbound, granted)
    for grant in visits.GRANTS:
        delivered = _of(log, bus.topics.delivery(grant))
        report.placed += len(delivered)
        _exact(report, grant, delivered, expected[grant])
        _no_leak(report, grant, delivered)
        _order(report, grant, delivered, inbound)
    _quarantine(report, _of(log, bus.topics.quarantine), refused)
    for lane in range(bus.lanes):
        _one_chain(report, lane, log[bus.topics.audit, lane])
    _offsets(report, bus, log)
    _stable(report, log, [*snapshots, read(bus, *outputs(bus))])
    _verified(report, bus, len(inbound))
    return report


def _of(log: Log, topic: str) -> list[Read]:
    return [record for place in sorted(log) if place[0] == topic for record in log[place]]


def _acknowledged(report: Report, inbound: Sequence[Read], serials: Sequence[str]) -> None:
    there = {record.header["ce_id"].decode() for record in inbound}
    for serial in sorted(set(serials) - there):
        report.add("acknowledged", f"{serial} was acknowledged and is not in inbound")


def _expectation(
    inbound: Sequence[Read], granted: Granted
) -> tuple[Mapping[str, list[dict[str, Any]]], list[tuple[int, int, str]]]:
    """Grant → records to be delivered; (lane, offset, reason) of every refusal."""
    expected: dict[str, list[dict[str, Any]]] = {grant: [] for grant in visits.GRANTS}
    refused: list[tuple[int, int, str]] = []
    accepted: set[bytes] = set()
    for raw in inbound:
        record = visits.decode(raw.value or b"", visits.WHOLE)
        event_id = raw.header["ce_id"]
        reason = visits.refusal(record) or ("DUPLICATE" if event_id in accepted else None)
        if reason is not None:
            refused.append((raw.partition, raw.offset, reason))
            continue
        accepted.add(event_id)
        for grant in granted(raw):
            rule = visits.GRANTS[grant]
            if rule.takes(record):
                expected[grant].append({name: record[name] for name in rule.items})
    return expected, refused


def _exact(
    report: Report, grant: str, delivered: Sequence[Read], expected: Sequence[dict[str, Any]]
) -> None:
    wanted = {record["serial"]: record for record in expected}
    seen: set[str] = set()
    for raw in delivered:
        place = f"{grant} partition {raw.partition} offset {raw.offset}"
        try:
            record = visits.decode(raw.value or b"", visits.GRANTS[grant].schema)
        except (ValueError, EOFError, UnicodeDecodeError, IndexError) as error:
            report.add("exact-set", f"{place}: not the grant's record: {error}")
            continue
        serial = record["serial"]
        if serial in seen:
            report.add("no-duplicate", f"{place}: {serial} was delivered before")
        seen.add(serial)
        if wanted.get(serial) != record or raw.key != record["person"].encode():
            report.add("exact-set", f"{place}: {serial} is not what was to be delivered")
    for serial in sorted(wanted.keys() - seen):
        report.add("exact-set", f"{grant}: {serial} is missing")


def _no_leak(report: Report, grant: str, delivered: Sequence[Read]) -> None:
    canary = visits.CANARY.encode()
    for raw in delivered:
        parts = [raw.key or b"", raw.value or b"", *(value for _, value in raw.headers)]
        if any(canary in part for part in parts):
            report.add("no-leak", f"{grant} offset {raw.offset} holds an item not granted")


def _order(report: Report, grant: str, delivered: Sequence[Read], inbound: Sequence[Read]) -> None:
    """Per key, deliveries follow the offsets of their (first) sources."""
    source: dict[str, int] = {}
    for raw in inbound:
        source.setdefault(raw.header["ce_id"].decode(), raw.offset)
    last: dict[bytes, int] = {}
    for raw in delivered:
        try:
            serial = visits.decode(raw.value or b"", visits.GRANTS[grant].schema)["serial"]
        except (ValueError, EOFError, UnicodeDecodeError, IndexError):
            continue
        key, at = raw.key or b"", source.get(serial, -1)
        if at <= last.get(key, -1):
            report.add("order", f"{grant} offset {raw.offset}: {serial} comes after a later record")
        last[key] = at


def _quarantine(
    report: Report, found: Sequence[Read], refused: Sequence[tuple[int, int, str]]
) -> None:
    report.refused = len(found)
    seen = sorted(
        (
            raw.partition,
            int(raw.header["offset"]),
            raw.header["reason"].decode(),
        )
        for raw in found
    )
    if seen != sorted(refused):
        odd = set(seen) ^ set(refused)
        report.add("quarantine", f"refused and quarantined differ, e.g. {sorted(odd)[:3]}")
        if len(seen) != len(set(seen)):
            report.add("quarantine", "a refusal is there twice")


def _one_chain(report: Report, lane: int, blocks: Sequence[Read]) -> None:
    """Each block names the SHA-256 of exactly the block before it: no fork, no gap."""
    report.blocks += len(blocks)
    previous = bytes(32)
    for block in blocks:
        if previous not in (block.key or b""):
            report.add("one-chain", f"lane {lane} offset {block.offset}: not after its neighbour")
        previous = hashlib.sha256(block.key or b"").digest()


def _offsets(report: Report, bus: Bus, log: Log) -> None:
    """Committed = one after the last record: everything decided, nothing skipped."""
    for lane, (committed, _) in bus.positions().items():
        records = log[bus.topics.inbound(visits.DATASET), lane]
        wanted = records[-1].offset + 1 if records else -1
        if committed != wanted:
            report.add("offsets", f"lane {lane}: committed {committed}, last record + 1 = {wanted}")


def _stable(report: Report, log: Log, others: Sequence[Log]) -> None:
    """What was read once is read again, byte for byte."""
    for number, other in enumerate(others):
        for place, records in other.items():
            if log[place][: len(records)] != records:
                report.add("re-read", f"{place} reads otherwise than in reading {number}")


def _verified(report: Report, bus: Bus, inbound: int) -> None:
    """The product's verifier finds nothing, and its figures are ours."""
    verdict = asyncio.run(verify_kafka(bus.client, bus.topics, bus_codec(), settle_s=0.05))
    for finding in verdict.findings:
        report.add("audit", f"{finding}")
    if verdict.totals.rows != inbound:
        report.add("audit-rows", f"{verdict.totals.rows} rows for {inbound} inbound records")
    if verdict.totals.refused != report.refused:
        report.add("audit-rows", f"{verdict.totals.refused} refusals, {report.refused} quarantined")
    if sum(verdict.placed.values()) != report.placed:
        report.add("audit-rows", f"{verdict.placed} placed by the audit, {report.placed} delivered")
