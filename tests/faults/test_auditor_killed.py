"""kill -9 of the auditor at every step of publishing: the tree goes on as one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from audit_samples import SampleLane
from kafka.audited_bus import LANES, AuditedBus, signed, until
from shutong_auditor.failpoint import Step
from shutong_auditor.service import running
from shutong_core.audit.block import parse_body
from shutong_core.audit.checkpoint import parse_checkpoint
from shutong_core.audit.merkle import leaf_hash, root_of
from shutong_core.audit.rowtree import block_leaf, row_root
from shutong_core.runtime.freeports import free_port
from shutong_core.runtime.kafka_server import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def killed_auditor(bus: AuditedBus, failpoint: str) -> None:
    """Run the service as a process until its failpoint kills it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SHUTONG_")} | {
        "SHUTONG_PREFIX": bus.prefix,
        "SHUTONG_DATA_DIR": str(bus.directory),
        "SHUTONG_KAFKA_BOOTSTRAP_SERVERS": bus.kafka.bootstrap_servers,
        "SHUTONG_AUDITOR_ADMIN_PORT": str(free_port()),
        "SHUTONG_AUDITOR_HTTP_PORT": str(free_port()),
        "SHUTONG_AUDITOR_CHECKPOINT_EVERY_S": "0.2",
        "SHUTONG_AUDITOR_FAILPOINT": failpoint,
    }
    done = subprocess.run(
        [sys.executable, "-m", "shutong_auditor"],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout[-2000:]


def root(lane: SampleLane, size: int) -> bytes:
    blocks = lane.blocks[:size]
    return root_of(
        [leaf_hash(block_leaf(each.header, row_root(parse_body(each.body)))) for each in blocks]
    )


async def test_an_auditor_killed_at_any_step_of_publishing_leaves_one_consistent_tree(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = AuditedBus(kafka, prefix, tmp_path / "data")
    await bus.create(monkeypatch)
    await bus.act()
    for step in get_args(Step):
        for nth in (1, 2 * LANES + 1):  # the first tree, and a tree of the second round
            await bus.decide(1)
            killing = asyncio.to_thread(killed_auditor, bus, f"{step}:{nth}")
            waiting = asyncio.ensure_future(killing)
            if nth > 1:
                await asyncio.sleep(4)
                await bus.decide(1)
            await waiting
    size = len(bus.lanes[0].blocks)
    async with running(bus.new_node(), bus.cluster, LANES) as tail:
        await until(lambda: signed(tail, audit_0=size, audit_1=size, access_0=1))
        assert tail.halted == 0
    heads = await bus.published()
    assert heads.refused == 0
    for lane in bus.lanes:
        tree = bus.tree("audit", lane.lane)
        assert heads.fault(tree) is None
        head = heads.newest(tree)
        assert head is not None
        assert (head.checkpoint.size, head.checkpoint.root) == (size, root(lane, size))
        note = bus.reader("audit", lane.lane).checkpoint()
        assert note is not None
        assert parse_checkpoint(note.text) == head.checkpoint
