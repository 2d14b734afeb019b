"""Verification from Kafka with a trust bundle: trees, checkpoints, access events."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from audit_copies import TRUST, SampleBus, private, public, sample_bus, signed_note
from audit_samples import CLUSTER, SampleLane, filled
from kafka.test_kafka_verify import LANES, Bus
from shutong_auditor.kafka_trees import Signed
from shutong_auditor.kafka_verdict import KafkaVerdict
from shutong_core.audit.checkpoint import Checkpoint, TreeName
from shutong_core.audit.header import encode_header, header_hash, parse_header
from shutong_core.audit.signednote import SignedNote
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.wire.batches import KafkaRecord, RecordBatch

pytestmark = pytest.mark.kafka


class SignedBus(Bus):
    """A bus with what its auditor made of it: trees in a directory, checkpoints, events."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str, directory: Path) -> None:
        super().__init__(kafka, prefix)
        self.directory = directory
        self.samples = SampleBus(self.lanes).add_events(5)
        self.events = list(self.samples.events)
        self.notes = self.samples.write(directory / "copy")
        self.checkpoints = [
            (tree.origin.encode(), note.encode())
            for tree, note in zip(self.samples.trees, self.notes, strict=True)
        ]

    async def create(self) -> None:
        await super().create()
        wanted = [NewTopic(self.topics.access, LANES, 1), NewTopic(self.topics.checkpoints, 1, 1)]
        admin = AIOKafkaAdminClient(**self.client)
        await admin.start()
        try:
            await admin.create_topics(wanted)
        finally:
            await admin.close()

    async def fill(self, change=None) -> None:
        await super().fill(change)
        topics = self.topics
        events = [KafkaRecord(b"p", each) for each in self.events]
        heads = [KafkaRecord(*each) for each in self.checkpoints]
        await self.write(
            [RecordBatch(topics.access, 0, events), RecordBatch(topics.checkpoints, 0, heads)]
        )

    async def held(
        self, *, trees: bool = True, known: tuple[SignedNote, ...] = (), level: int = 2
    ) -> KafkaVerdict:
        scratch = self.directory / f"scratch {trees} {level} {len(known)}"
        scratch.mkdir()
        signed = Signed(
            TRUST,
            self.directory / "copy" / "trees" if trees else None,
            scratch,
            known,
            compute=level > 1,
        )
        return await self.verify(signed=signed, deliveries=level > 1)


@pytest.fixture
def bus(kafka: EmbeddedKafka, prefix: str, tmp_path: Path) -> SignedBus:
    return SignedBus(kafka, prefix, tmp_path)


async def test_a_whole_bus_agrees_with_what_was_signed_of_it(bus: SignedBus) -> None:
    await bus.fill()
    for trees in (True, False):
        for level in (1, 2):
            verdict = await bus.held(trees=trees, level=level)
            assert verdict.ok, verdict.text("en")
            said = verdict.text("en")
            assert "4 trees agree with signed checkpoints at 4 places" in said
            assert "5 access events" in said
            assert ("tree files (--trees)" in said) != trees
            assert "witnessed checkpoints (--trust)" not in said
    assert "(4 kept elsewhere)" in (await bus.held(known=tuple(bus.notes))).text("en")


async def test_what_came_after_the_checkpoints_is_told_and_no_alarm(bus: SignedBus) -> None:
    for lane in bus.lanes:
        lane.add_block()
    await bus.fill()
    for level in (1, 2):
        verdict = await bus.held(level=level)
        assert verdict.ok, verdict.text("en")
        assert "2 leaves against a checkpoint" in verdict.text("en")


def _resealed(bus: SignedBus, lane: SampleLane, _rows: dict) -> None:
    """A block's time changed, everything that hangs on it made to fit."""
    if lane.lane:
        return
    previous = lane.blocks[0].hash
    for at, block in enumerate(lane.blocks[1:], 1):
        head = dataclasses.replace(parse_header(block.header), previous=previous)
        header = encode_header(dataclasses.replace(head, decided_ms=1) if at == 1 else head)
        previous = header_hash(header)
        lane.blocks[at] = dataclasses.replace(block, header=header, hash=previous)
    _rows.update(bus.state(lane))


def _foreign(bus: SignedBus, lane: SampleLane, _rows: dict) -> None:
    tree = TreeName(CLUSTER, "audit", 0)
    key = tree.key(public("stranger"))
    note = Checkpoint(tree.origin, 4, filled("root", 32)).sign(key, private("stranger").sign)
    bus.checkpoints[0] = (bus.checkpoints[0][0], note.encode())


def _fork(bus: SignedBus, lane: SampleLane, _rows: dict) -> None:
    tree = TreeName(CLUSTER, "audit", 1)
    other = signed_note(Checkpoint(tree.origin, 4, filled("other", 32)), tree)
    bus.checkpoints.append((tree.origin.encode(), other.encode()))


def _tile(bus: SignedBus, lane: SampleLane, _rows: dict) -> None:
    path = bus.directory / "copy/trees/audit/0/tile/0/000.p/4"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def _tile_gone(bus: SignedBus, lane: SampleLane, _rows: dict) -> None:
    (bus.directory / "copy/trees/audit/0/tile/0/000.p/4").unlink(missing_ok=True)


def _event_gone(bus: SignedBus, lane: SampleLane, _rows: dict) -> None:
    del bus.events[4:]


def _event_edited(bus: SignedBus, lane: SampleLane, _rows: dict) -> None:
    bus.events[3] = sample_bus(events=7).events[6]


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (_resealed, {"root"}),
        (_foreign, {"checkpoint"}),
        (_fork, {"fork"}),
        (_tile, {"tile"}),
        (_tile_gone, {"tile"}),
        (_event_gone, {"missing"}),
        (_event_edited, {"access"}),
    ],
)
async def test_what_contradicts_a_signature_is_named(
    bus: SignedBus, change: Callable[[SignedBus, SampleLane, dict], None], codes: set[str]
) -> None:
    await bus.fill(lambda lane, rows: change(bus, lane, rows))
    found = {each.code for each in (await bus.held()).findings}
    assert found >= codes, found


async def test_a_bus_restored_from_a_backup_is_behind_what_a_witness_keeps(
    bus: SignedBus, tmp_path: Path
) -> None:
    newer = sample_bus(blocks=6, rows=8, events=5)
    kept = newer.write(tmp_path / "newer")
    await bus.fill()
    assert (await bus.held()).ok
    verdict = await bus.held(known=tuple(kept[:2]))
    assert {each.code for each in verdict.findings} == {"missing"}


async def test_a_trust_bundle_of_another_bus_is_named(bus: SignedBus, tmp_path: Path) -> None:
    await bus.fill()
    other = Signed(dataclasses.replace(TRUST, cluster="another"))
    verdict = await bus.verify(signed=other)
    assert [each.code for each in verdict.findings] == ["place"]
