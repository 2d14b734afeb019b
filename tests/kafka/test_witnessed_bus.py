"""A bus with a witness: the operator who owns all of Kafka and the auditor's disk is found out."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic

from audit_samples import SampleLane
from kafka.audited_bus import LANES, AuditedBus, signed, until
from shutong_auditor.service import running
from shutong_core.audit.checkpoint import parse_checkpoint
from shutong_core.audit.signednote import NoteKey, parse_vkey, verified_by
from shutong_core.audit.trust import TrustBundle
from shutong_core.runtime.freeports import free_port
from shutong_core.runtime.httpserver import HttpServer
from shutong_core.runtime.node import Node
from shutong_core.runtime.servicesettings import Listener
from shutong_core.runtime.settings import load_settings
from shutong_witness.app import make_app
from shutong_witness.service import make_witness

pytestmark = pytest.mark.kafka


class Office:
    """The audit office's own machine: a witness with its own keyring and memory."""

    def __init__(self, bus: AuditedBus, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        trust = directory / "bus.trust.json"
        trust.write_bytes(
            TrustBundle(bus.cluster, (bus.node.keyring.signer("auditor").public,)).encode()
        )
        self.node = Node(
            "witness",
            load_settings(
                data_dir=directory / "data", witness={"trust": trust, "name": "audit-office/w1"}
            ),
        )
        self.witness = make_witness(self.node)
        self.port = free_port()

    @property
    def key(self) -> NoteKey:
        return parse_vkey(self.witness.key.vkey)

    @property
    def address(self) -> str:
        return f"{self.witness.key.vkey} http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Answering, as after a start."""
        self.witness = make_witness(self.node)
        app = make_app(self.witness, self.node.metrics)
        server = HttpServer(app, Listener(port=self.port), drain_s=1)
        await server.start()
        try:
            yield
        finally:
            await server.stop()


def witnessed(bus: AuditedBus, office: Office) -> Node:
    return bus.new_node(witnesses=[office.address], witnesses_needed=1)


async def rewritten(bus: AuditedBus, topic: str, partitions: int) -> None:
    """Somebody with all rights to Kafka empties a topic."""
    async with bus.admin() as admin:
        await admin.delete_topics([topic])
    await asyncio.sleep(0.5)
    await bus.make_topics(NewTopic(topic, partitions, 1))


async def test_every_published_checkpoint_is_cosigned(bus: AuditedBus, tmp_path: Path) -> None:
    office = Office(bus, tmp_path / "office")
    await bus.decide(3)
    async with office.open(), running(witnessed(bus, office), bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=3, audit_1=3, access_0=0))
        await bus.decide(2)
        await until(lambda: signed(tail, audit_0=5, audit_1=5))
    heads = await bus.published()
    for head in heads.heads.values():
        assert office.key in verified_by(head.note, [office.key])
    note = bus.reader("audit", 1).checkpoint()
    assert note is not None
    assert office.key in verified_by(note, [office.key])


async def test_without_its_witness_nothing_is_published_until_it_comes_back(
    bus: AuditedBus, tmp_path: Path
) -> None:
    office = Office(bus, tmp_path / "office")
    await bus.decide(2)
    async with running(witnessed(bus, office), bus.cluster, LANES) as tail:
        await until(lambda: "0 of 1 witnesses" in tail.states.problems.get("audit/0", ""))
        assert tail.published == {}
        assert (await bus.published()).heads == {}
        async with office.open():
            await until(lambda: signed(tail, audit_0=2, audit_1=2))
            await until(lambda: tail.states.problems == {})


async def test_an_operator_who_rewrites_audit_checkpoints_and_disk_together_is_found_out(
    bus: AuditedBus, tmp_path: Path
) -> None:
    office = Office(bus, tmp_path / "office")
    await bus.decide(3)
    async with office.open():
        async with running(witnessed(bus, office), bus.cluster, LANES) as tail:
            await until(lambda: signed(tail, audit_0=3, audit_1=3))
        # A history that holds in itself: every chain, count and hash is as it should be.
        forged = SampleLane(0, segment_records=2)
        for _ in range(5):
            forged.add_block(rows=7)
        await rewritten(bus, bus.topics.audit, LANES)
        await rewritten(bus, bus.topics.checkpoints, 1)
        shutil.rmtree(bus.directory / "auditor")
        for block in forged.blocks:
            await bus.send((bus.topics.audit, 0, block.header, block.body))
        for block in bus.lanes[1].blocks[:2]:
            await bus.send((bus.topics.audit, 1, block.header, block.body))
        async with running(witnessed(bus, office), bus.cluster, LANES) as tail:
            await until(lambda: tail.halted == 2)
            assert "rewritten" in tail.states.problems["audit/0"]
            assert "cosigned a tree of 3 leaves, here are 2" in tail.states.problems["audit/1"]
    heads = await bus.published()
    assert not [tree for tree in heads.heads if tree.topic == "audit"], "nothing was published"
    kept = office.witness.memory.note(bus.tree("audit", 0).origin)
    assert kept is not None
    assert parse_checkpoint(kept.text).size == 3, "the evidence is the office's own"
