"""Receipts against the audit: agreement counts, every disagreement is named with both figures."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from audit_samples import filled
from kafka.audited_bus import AuditedBus, until
from shutong_auditor.index.engine import open_index
from shutong_auditor.index.indexer import Indexer
from shutong_auditor.receiptwatch import ReceiptWatch
from shutong_auditor.service import agency_signed
from shutong_core.audit.receipts import DeliveryReceipt, encode_receipt
from unit.test_index import TABLE, indexed

pytestmark = pytest.mark.kafka
ORGANISATION, GRANT = "11440000006940140P", "births-city"
PRIVATE = Ed25519PrivateKey.from_private_bytes(filled("agency", 32))


@pytest.fixture
async def bus(bus: AuditedBus) -> AuditedBus:
    bus.node.keyring.trust(f"agency/{ORGANISATION}", PRIVATE.public_key().public_bytes_raw())
    for lane in bus.lanes:
        for _ in range(3):
            lane.add_block()
    return bus


@pytest.fixture
def engine(bus: AuditedBus, tmp_path: Path) -> Engine:
    made = open_index(None, tmp_path)
    indexer = Indexer(made, TABLE, bus.cluster)
    for lane in bus.lanes:
        indexer.add(indexed(each, n) for n, each in enumerate(lane.blocks))
    return made


def receipt(bus: AuditedBus, last: int, chain: bytes, by: Ed25519PrivateKey = PRIVATE) -> bytes:
    made = DeliveryReceipt(
        cluster=bus.cluster,
        grant=GRANT,
        lane=0,
        first=1,
        last=last,
        chain=chain.hex(),
        agency=f"{ORGANISATION}/own",
        at_ms=1,
    )
    mark = hashlib.sha256(by.public_key().public_bytes_raw()).hexdigest()[:16]
    return encode_receipt(made, f"agency/{ORGANISATION}/{mark}", by.sign)


@asynccontextmanager
async def watching(bus: AuditedBus, engine: Engine) -> AsyncIterator[tuple[ReceiptWatch, list]]:
    told: list[str] = []
    watch = ReceiptWatch(
        bus.node.client,
        bus.topics.receipts,
        bus.cluster,
        agency_signed(bus.node.keyring),
        engine,
        told.append,
        patience_s=1.0,
    )
    watch.start()
    try:
        yield watch, told
    finally:
        await watch.stop()


async def test_receipts_that_agree_are_counted_and_nothing_is_alarmed(
    bus: AuditedBus, engine: Engine
) -> None:
    k, chain = bus.lanes[0].heads[GRANT]
    await bus.send((bus.topics.receipts, 0, b"x", receipt(bus, k, chain)))
    await bus.send((bus.topics.receipts, 0, b"x", b""))
    await bus.send((bus.topics.receipts, 0, b"x", receipt(bus, k - 1, filled("inside", 32))))
    async with watching(bus, engine) as (watch, told):
        await until(lambda: watch.compared == 1 and watch.not_comparable == 1)
        assert (watch.problem, told) == (None, [])


async def test_every_disagreement_is_named_with_both_figures_and_the_next_receipt_counts(
    bus: AuditedBus, engine: Engine
) -> None:
    k, chain = bus.lanes[0].heads[GRANT]
    stranger = Ed25519PrivateKey.generate()
    other = filled("other records", 32)
    for value in (
        receipt(bus, k, other),
        receipt(bus, k + 50, chain),
        receipt(bus, k, chain, stranger),
        receipt(bus, k, chain)[:-4],
        b"\xff" * 100,
        receipt(bus, k, chain),
    ):
        await bus.send((bus.topics.receipts, 0, b"x", value))
    async with watching(bus, engine) as (watch, told):
        await until(lambda: watch.found == 5 and watch.compared == 1)
        said = str(watch.problem)
        assert f"signed chain {other.hex()[:16]}…, the audit has {chain.hex()[:16]}…" in said
        assert f"signed for {k + 50} records, the audit placed {k}" in said
        assert "signature does not hold" in said
        assert told.count(GRANT) == 2
