"""Verifies a bus from its own Kafka: blocks, lane state, input offsets, deliveries.

The bus may go on meanwhile. Whatever moves is read before and after the audit, and what the audit
says must lie between the two; when nothing moves, that means: be equal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from shutong_auditor.kafka_read import KafkaReading, open_reading
from shutong_auditor.kafka_trees import KafkaTrees, Signed
from shutong_auditor.kafka_verdict import KafkaVerdict, Limits, tell
from shutong_auditor.lane_checks import (
    LaneRows,
    LaneState,
    grant_findings,
    head_findings,
    missing_offsets,
    position_findings,
)
from shutong_core.audit.checkpoint import AUDIT
from shutong_core.audit.header import parse_header
from shutong_core.audit.verdict import Finding, Statement
from shutong_core.audit.verify import Anchor, LaneVerifier
from shutong_core.audit.verify_delivery import DeliveryVerifier, Ledger
from shutong_core.domain.errors import Rejected
from shutong_core.wire.busrecords import BusCodec
from shutong_core.wire.topics import Topics, lanes_writing_to


async def verify_kafka(
    client: Mapping[str, Any],
    topics: Topics,
    codec: BusCodec,
    *,
    cluster: str | None = None,
    offsets_group: str | None = None,
    lists: Mapping[int, bytes] | None = None,
    grants: Collection[str] | None = None,
    deliveries: bool = True,
    settle_s: float = 1.0,
    signed: Signed | None = None,
) -> KafkaVerdict:
    """Levels 1 and, with `deliveries`, the delivery part of 2.

    `client`: arguments of every aiokafka client. `cluster`: the name the blocks must bear (None:
    taken from the first block). `offsets_group`: default `<prefix>.lanes`. `lists`: list number →
    digest from a source that is trusted. `grants`: only these deliveries (None: all).
    `settle_s`: how long a commit may take to show in all partitions. `signed`: also hold trees,
    checkpoints and access events against a trust bundle.
    Raises Retryable if Kafka cannot be reached or stops answering.
    """
    group = offsets_group or f"{topics.prefix}.lanes"
    async with open_reading(client, codec, group) as reading:
        run = _Run(reading, topics, cluster, dict(lists or {}), settle_s)
        known = len(run.lists)
        names = await reading.load_topics()
        lanes = reading.partitions(topics.audit)
        if not lanes or lanes != reading.partitions(topics.lanes):
            text = Statement(
                "审计主题或分道主题缺失，或分区不一致",
                f"{topics.audit} or {topics.lanes} is missing, or their partitions differ",
            )
            run.verdict.add(Finding("no-audit", text))
            return run.verdict
        first_ends = await run.delivery_ends(names, grants) if deliveries else {}
        if signed is not None:
            await run.start_trees(KafkaTrees(reading, topics, codec, signed))
        await run.lanes()
        if run.trees is not None:
            run.add(await run.trees.access())
        if deliveries:
            # A topic may have come with the first record of a grant meanwhile.
            await run.deliveries(await reading.load_topics(), grants, first_ends)
        run.limits.lists_given = known > 0
        run.limits.trees = run.trees is not None
        tell(run.verdict, run.limits, deliveries=deliveries)
        if run.trees is not None:
            run.trees.tell(run.verdict)
        return run.verdict


class _Run:
    """One verification under way."""

    def __init__(
        self,
        reading: KafkaReading,
        topics: Topics,
        cluster: str | None,
        lists: dict[int, bytes],
        settle_s: float,
    ) -> None:
        self._reading = reading
        self._topics = topics
        self._settle_s = settle_s
        self.lists = lists
        self.ledger = Ledger()
        self.verdict = KafkaVerdict(cluster=cluster or "")
        self.limits = Limits(cluster_given=cluster is not None)
        self.trees: KafkaTrees | None = None

    async def start_trees(self, trees: KafkaTrees) -> None:
        """From here on blocks are also held against what was signed of them."""
        if self.verdict.cluster and trees.cluster != self.verdict.cluster:
            text = Statement(
                f"信任包属于总线 {trees.cluster}", f"the trust bundle is of bus {trees.cluster}"
            )
            self.add([Finding("place", text)])
            return
        self.add(await trees.start())
        self.trees = trees

    async def lanes(self) -> None:
        """Reads and checks every lane's blocks, with the lanes' state before and after."""
        topic = self._topics.audit
        lanes = self._reading.partitions(topic)
        before = {lane: await self._rows(lane) for lane in lanes}
        await asyncio.sleep(self._settle_s)
        limits = await self._reading.ends(topic)
        verifiers = {
            lane: await self._blocks(lane, limits[topic, lane], before[lane]) for lane in lanes
        }
        await asyncio.sleep(self._settle_s)
        for lane in lanes:
            state_before, state_after = before[lane], await self._rows(lane)
            if state_before is not None and state_after is not None:
                self._compare(lane, verifiers[lane], LaneState(state_before, state_after))

    async def _blocks(
        self, lane: int, limits: tuple[int, int], before: LaneRows | None
    ) -> LaneVerifier:
        """The lane's verifier after the blocks at offsets `limits`."""
        verifier: LaneVerifier | None = None
        head = before.head if before else None
        async for record in self._reading.records(self._topics.audit, lane, *limits):
            key = record.key or b""
            if verifier is None:
                verifier = self._verifier(lane, limits[0], key)
                if self.trees is not None:
                    self.add(self.trees.skip(lane, verifier.last.sequence))
            found, body = verifier.feed(record.offset, key, record.value or b"")
            self.add(found)
            if body is not None:
                self.ledger.add(lane, body)
            if self.trees is not None:
                self.add(self.trees.block(lane, key, body))
            if head is not None and head.sequence == verifier.last.sequence:
                self.add(verifier.finish(head))
        if self.trees is not None:
            self.add(self.trees.finish(AUDIT, lane))
        verifier = verifier or LaneVerifier(self.verdict.cluster, lane, self.lists)
        self.verdict.last_blocks[lane] = verifier.last
        self.verdict.totals.add(verifier.totals)
        return verifier

    def _compare(self, lane: int, verifier: LaneVerifier, state: LaneState) -> None:
        cluster, cut = self.verdict.cluster, lane in self.limits.cut or verifier.broken
        self.add(head_findings(verifier, state))
        self.add(position_findings(lane, verifier, state, cut=cut))
        self.add(grant_findings(cluster, lane, verifier, state, cut=cut))
        self.limits.offsets_missing += missing_offsets(verifier, state)

    def _verifier(self, lane: int, first_offset: int, header: bytes) -> LaneVerifier:
        """Starts at block 1, or, where the audit was cut, before the first block that is left."""
        start = None
        try:
            first = parse_header(header)
        except Rejected:
            first = None
        if first is not None:
            self.verdict.cluster = self.verdict.cluster or first.cluster
            # Cut by DeleteRecords, the topic starts above 0; a log that starts at 0 has block 1.
            if first.sequence > 1 and first_offset > 0:
                start = Anchor(first.sequence - 1, first.previous)
                self.limits.cut.append(lane)
        return LaneVerifier(self.verdict.cluster, lane, self.lists, start)

    async def _rows(self, lane: int) -> LaneRows | None:
        try:
            return await self._reading.lane(self._topics, lane)
        except Rejected as error:
            text = Statement("分道状态无法读取", f"the lane's state cannot be read: {error}")
            self.verdict.add(Finding("lane-state", text, lane=lane))
            return None

    async def delivery_ends(
        self, names: frozenset[str], grants: Collection[str] | None
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """(delivery topic, partition) → first offset kept, end now."""
        chosen = self._chosen(names, grants)
        return await self._reading.ends(*map(self._topics.delivery, chosen))

    def _chosen(self, names: frozenset[str], grants: Collection[str] | None) -> list[str]:
        there = {grant for name in names if (grant := self._topics.grant_of(name)) is not None}
        return sorted(there if grants is None else there & set(grants))

    async def deliveries(
        self,
        names: frozenset[str],
        grants: Collection[str] | None,
        first_ends: Mapping[tuple[str, int], tuple[int, int]],
    ) -> None:
        """Every delivery topic there is, and every grant the audit names.

        `first_ends`: `delivery_ends` before the audit was read; what stood there is in it.
        """
        there = self._chosen(names, grants)
        for grant in self.ledger.grants:
            self.verdict.placed[grant] = self.ledger.placed(grant)
            if grant not in there and (grants is None or grant in grants):
                text = Statement("投放主题不存在", "the delivery topic does not exist")
                self.verdict.add(Finding("no-topic", text, grant=grant))
        ends = await self.delivery_ends(names, grants)
        for grant in there:
            self.verdict.delivered[grant] = 0
            topic = self._topics.delivery(grant)
            partitions = self._reading.partitions(topic)
            for partition in partitions:
                first, end = ends[topic, partition]
                newer_from = first_ends.get((topic, partition), (0, 0))[1]
                await self._partition(grant, partition, len(partitions), (first, end, newer_from))

    async def _partition(
        self, grant: str, partition: int, partitions: int, span: tuple[int, int, int]
    ) -> None:
        first, end, newer_from = span
        lanes = lanes_writing_to(partition, partitions, self.verdict.last_blocks)
        verifier = DeliveryVerifier(
            self.verdict.cluster, grant, lanes, self.ledger, from_start=first == 0
        )
        topic = self._topics.delivery(grant)
        async for record in self._reading.records(topic, partition, first, end):
            newer = record.offset >= newer_from
            self.add(
                verifier.feed(record.offset, record.headers, record.key, record.value, newer=newer)
            )
        self.add(verifier.finish())
        self.verdict.delivered[grant] += verifier.records
        self.limits.thinned = self.ledger.thinned
        self.limits.compared += verifier.compared
        self.limits.past_term += first > 0

    def add(self, findings: Iterable[Finding]) -> None:
        """Notes what is wrong."""
        for finding in findings:
            self.verdict.add(finding)
