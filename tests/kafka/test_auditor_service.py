"""The auditor on a real Kafka: trees grow from topics, checkpoints appear, damage stops them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete

from audit_samples import SampleLane
from kafka.audited_bus import LANES, AuditedBus, signed, until
from shutong_auditor.service import running
from shutong_auditor.treereader import tree_directory
from shutong_cli.key_commands import rotate_auditor
from shutong_core.audit.access import event_hash
from shutong_core.audit.block import parse_body
from shutong_core.audit.checkpoint import parse_checkpoint
from shutong_core.audit.merkle import check_inclusion, inclusion_proof, leaf_hash
from shutong_core.audit.rowtree import block_leaf, row_root
from shutong_core.audit.trust import TrustBundle
from shutong_core.domain.errors import Fatal, Rejected

pytestmark = pytest.mark.kafka


async def test_checkpoints_of_every_tree_are_published_and_prove_blocks_and_events(
    bus: AuditedBus,
) -> None:
    await bus.decide(3)
    event = await bus.act()
    async with running(bus.node, bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=3, audit_1=3, access_0=1, access_1=0))
        await bus.decide(2)
        await until(lambda: signed(tail, audit_0=5, audit_1=5))
    heads = await bus.published()
    assert (heads.refused, len(heads.heads)) == (0, 2 * LANES)
    for lane in bus.lanes:
        head = heads.newest(bus.tree("audit", lane.lane))
        assert head is not None
        reader = bus.reader("audit", lane.lane)
        assert reader.checkpoint() is not None
        for index, block in enumerate(lane.blocks):
            leaf = block_leaf(block.header, row_root(parse_body(block.body)))
            assert reader.leaf(index, 5) == leaf
            proof = inclusion_proof(index, 5, reader.node(5))
            check_inclusion(index, 5, leaf_hash(leaf), proof, head.checkpoint.root)
    head = heads.newest(bus.tree("access", 0))
    assert head is not None
    assert head.checkpoint.root == leaf_hash(event_hash(event))


async def test_a_restarted_auditor_goes_on_and_a_tree_that_stands_still_is_signed_anew(
    bus: AuditedBus,
) -> None:
    await bus.decide(2)
    async with running(bus.node, bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=2, audit_1=2))
    await bus.decide(1)
    async with running(bus.new_node(), bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=3, audit_1=3))
        before = (await bus.published()).newest(bus.tree("audit", 0))
        await asyncio.sleep(1.5)
        after = (await bus.published()).newest(bus.tree("audit", 0))
        assert before is not None
        assert after is not None
        assert after.checkpoint == before.checkpoint
        assert after.at_ms > before.at_ms


async def test_a_lost_disk_is_built_again_to_the_same_tree(bus: AuditedBus) -> None:
    await bus.decide(4)
    await bus.act()
    async with running(bus.node, bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=4, audit_1=4, access_0=1))
    files = {
        str(path.relative_to(bus.directory)): path.read_bytes()
        for path in (bus.directory / "auditor").rglob("*")
        if path.is_file() and "tile" in path.parts
    }
    shutil.rmtree(bus.directory / "auditor")
    async with running(bus.new_node(), bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=4, audit_1=4, access_0=1))
        assert tail.halted == 0
    again = {name: (bus.directory / name).read_bytes() for name in files}
    assert again == files


async def test_a_damaged_tree_file_is_said_and_nothing_is_signed(bus: AuditedBus) -> None:
    await bus.decide(2)
    async with running(bus.node, bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=2))
    tile = tree_directory(bus.directory, "audit", 0) / "tile/0/000.p/2"
    tile.write_bytes(bytes(64))
    with pytest.raises(Fatal, match=r"审计树.*tree"):
        async with running(bus.new_node(), bus.cluster, LANES):
            pass


async def restored(bus: AuditedBus, blocks: dict[int, list[tuple[bytes, bytes]]]) -> None:
    """Topic audit made anew with other content: what a restored backup or a forger leaves."""
    async with bus.admin() as admin:
        await admin.delete_topics([bus.topics.audit])
    await asyncio.sleep(0.5)
    await bus.make_topics(NewTopic(bus.topics.audit, LANES, 1))
    for lane, pairs in blocks.items():
        for header, body in pairs:
            await bus.send((bus.topics.audit, lane, header, body))


async def test_an_audit_restored_from_an_old_backup_halts_its_tree_alone(bus: AuditedBus) -> None:
    for disk_lost in (False, True):
        bus.lanes = [SampleLane(lane) for lane in range(LANES)]
        await restored(bus, {})
        await bus.decide(4)
        async with running(bus.new_node(), bus.cluster, LANES) as tail:
            await until(lambda t=tail: signed(t, audit_0=4, audit_1=4))
        if disk_lost:
            shutil.rmtree(bus.directory / "auditor")
        pairs = {n: [(each.header, each.body) for each in bus.lanes[n].blocks] for n in (0, 1)}
        await restored(bus, {0: pairs[0][:2], 1: pairs[1]})
        async with running(bus.new_node(), bus.cluster, LANES) as tail:
            await until(lambda t=tail: signed(t, audit_1=4) and t.halted == 1)
            said = tail.states.problems["audit/0"]
            assert "备份" in said
            assert "old backup" in said
            assert "audit/0" not in tail.published
        if not disk_lost:
            # Whoever clears everything away begins anew; the topic's checkpoints are the memory.
            shutil.rmtree(bus.directory / "auditor")


async def test_an_audit_that_was_rewritten_halts_its_tree(bus: AuditedBus) -> None:
    await bus.decide(3)
    async with running(bus.node, bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=3))
    forged = SampleLane(0, segment_records=2)  # a chain that holds in itself, but is another one
    for _ in range(4):
        forged.add_block(rows=7)
    await restored(bus, {0: [(each.header, each.body) for each in forged.blocks]})
    shutil.rmtree(bus.directory / "auditor")
    async with running(bus.new_node(), bus.cluster, LANES) as tail:
        await until(lambda: "audit/0" in tail.states.problems)
        assert "rewritten" in tail.states.problems["audit/0"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda pair: (pair[0], pair[1][:-1]), "body differs from its hash"),
        (lambda pair: (pair[0][:-1], pair[1]), "cannot be read|block header"),
        (lambda pair: (b"", None), "block header"),
    ],
)
async def test_a_block_that_does_not_hold_halts_its_tree_and_is_never_signed(
    bus: AuditedBus, damage: Callable, said: str
) -> None:
    await bus.decide(2)
    bad = bus.lanes[0].add_block()
    header, body = damage((bad.header, bad.body))
    async with running(bus.node, bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=2, audit_1=2))
        await bus.send((bus.topics.audit, 0, header, body))
        await bus.decide(1)
        await until(lambda: signed(tail, audit_1=3) and tail.halted == 1)
        assert any(word in tail.states.problems["audit/0"] for word in said.split("|"))
    head = (await bus.published()).newest(bus.tree("audit", 0))
    assert head is not None
    assert head.checkpoint.size == 2
    note = bus.reader("audit", 0).checkpoint()
    assert note is not None
    assert parse_checkpoint(note.text).size == 2


async def test_events_cut_before_they_were_in_the_tree_halt_it(bus: AuditedBus) -> None:
    await bus.act()
    async with running(bus.node, bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, access_0=1))
    for _ in range(3):
        await bus.act()
    async with bus.admin() as admin:
        place = TopicPartition(bus.topics.access, 0)
        await admin.delete_records({place: RecordsToDelete(before_offset=3)})
    async with running(bus.new_node(), bus.cluster, LANES) as tail:
        await until(lambda: tail.halted == 1)
        assert "deleted before" in tail.states.problems["access/0"]


async def test_a_rotated_key_signs_on_and_who_trusts_the_old_one_can_follow(
    bus: AuditedBus,
) -> None:
    await bus.decide(2)
    async with running(bus.node, bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=2, audit_1=2))
        old = TrustBundle(bus.cluster, (bus.node.keyring.signer("auditor").public,))
        key_id = await rotate_auditor(bus.node)
        await bus.decide(1)
    node = bus.new_node()
    assert node.keyring.signer("auditor").key_id == key_id
    async with running(node, bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=3, audit_1=3))
        assert tail.halted == 0
    heads = await bus.published()
    head = heads.newest(bus.tree("audit", 0))
    assert head is not None
    assert (head.checkpoint.size, heads.refused) == (3, 0)
    with pytest.raises(Rejected, match="no auditor"):
        old.accept(head.note, bus.tree("audit", 0))
    records = await bus.rotations()
    assert len(records) == 1
    assert old.rotated(records).accept(head.note, bus.tree("audit", 0)).size == 3
