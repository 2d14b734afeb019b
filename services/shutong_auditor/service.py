"""Builds the auditor service from its parts and runs it until asked to stop.

It reads `audit` and `access`, writes `checkpoints` and its own access events, and holds nothing
that it could not build again from the topics, but records of use and what the topics lost to term.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2 as httpx
import structlog
from sqlalchemy import Engine

from shutong_auditor.cosigning import WitnessClient, parse_witness
from shutong_auditor.deskservice import OpenBus, open_desk
from shutong_auditor.failpoint import failpoint_of
from shutong_auditor.growth import Floor, TreeGrowth
from shutong_auditor.index.engine import open_index
from shutong_auditor.index.events import EventWriter
from shutong_auditor.index.follow import IndexFollower
from shutong_auditor.index.indexer import Indexer
from shutong_auditor.receiptwatch import ReceiptWatch
from shutong_auditor.signing import CheckpointSigner
from shutong_auditor.treereader import tree_directory
from shutong_auditor.treestore import TreeStore
from shutong_auditor.treetail import Times, TreeTail
from shutong_core.audit.checkpoint import ACCESS, AUDIT, TreeName
from shutong_core.audit.receipts import Verify
from shutong_core.audit.rotation import SIGNER
from shutong_core.runtime.ackedwriter import AckedWriter
from shutong_core.runtime.checkpointfeed import CheckpointFeed
from shutong_core.runtime.cluster import partitions_of
from shutong_core.runtime.health import admin_server
from shutong_core.runtime.keyring import Keyring
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.node import Node, wait_for_bus_name

SERVICE = "auditor"
START_AGAIN_S = 0.5
_log = structlog.stdlib.get_logger(__name__)


async def serve(node: Node, stop: Stop) -> None:
    """Run until `stop`. Raises Fatal where a port is taken, a tree's files or a key are damaged."""
    health = node.health
    health.check("start", lambda: "no connection to Kafka yet")
    admin = admin_server(health, node.metrics, node.settings.auditor.admin)
    await admin.start()
    try:
        cluster = await wait_for_bus_name(node, stop)
        lanes = await _lanes(node, stop)
        if cluster is None or lanes == 0:
            return
        async with running(node, cluster, lanes) as tail:
            health.check("start", lambda: None)
            while not await stop.wait(1.0):
                if (error := tail.ended()) is not None:
                    raise error
                health.beat("main loop", within_s=60)
                _measure(node, tail)
    finally:
        await admin.stop()


async def _lanes(node: Node, stop: Stop) -> int:
    """Number of lanes once the topics are there; 0 if it is time to stop before that."""
    wanted = (node.topics.audit, node.topics.access, node.topics.checkpoints)
    while True:
        with contextlib.suppress(Exception):
            found = await partitions_of(node.client, wanted)
            if len(found) == len(wanted):
                return found[node.topics.audit]
        node.health.check("start", lambda: "the bus has no topics yet: publish a list")
        if await stop.wait(START_AGAIN_S):
            return 0


@contextlib.asynccontextmanager
async def running(node: Node, cluster: str, lanes: int) -> AsyncIterator[TreeTail]:
    """Trees that grow and are signed, on the node's Kafka: everything but the admin port."""
    settings, topics = node.settings.auditor, node.topics
    trees = [TreeName(cluster, name, n) for name in (AUDIT, ACCESS) for n in range(lanes)]
    feed = CheckpointFeed(
        node.client, topics.checkpoints, cluster, node.keyring.publics(SIGNER), lambda: trees
    )
    writer = AckedWriter(
        node.client,
        on_error=lambda name: node.metrics.count("shutong_kafka_errors_total", error_type=name),
    )
    signer = node.keyring.signer(SIGNER)
    lists: dict[int, bytes] = {}
    topic_of = {AUDIT: topics.audit, ACCESS: topics.access}
    growths = {
        (topic_of[tree.topic], tree.number): TreeGrowth(tree, _store(node, tree), lists)
        for tree in trees
    }
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        witnesses = [WitnessClient(parse_witness(text), http) for text in settings.witnesses]
        if not witnesses:
            _log.warning(
                "未配置见证人：能同时改写全部主题与密钥者不会被发现。"
                " No witness is configured: whoever can rewrite all topics and has the key would"
                " not be found out."
            )
        stack.push_async_callback(feed.close)
        feed.start()
        stack.push_async_callback(writer.close)
        await writer.start()
        node.health.check("checkpoints", lambda: feed.problem)
        # What was published before is the floor under every tree: nothing is signed before it.
        await feed.wait_read()
        tail = TreeTail(
            node.client,
            growths,
            CheckpointSigner(
                signer,
                witnesses,
                settings.witnesses_needed,
                writer,
                topics.checkpoints,
                failpoint_of(settings.failpoint),
            ),
            lambda growth: _floor(feed, growth.tree),
            Times(settings.checkpoint_every_s, settings.checkpoint_idle_s),
        )
        node.health.check("trees", lambda: _problem(tail))
        stack.push_async_callback(tail.stop)
        tail.start()
        index, engine = _index_and_watch(node, cluster, lanes, stack)
        bus = OpenBus(cluster, lanes, engine, index, writer)
        await stack.enter_async_context(open_desk(node, bus))
        yield tail


def _index_and_watch(
    node: Node, cluster: str, lanes: int, stack: contextlib.AsyncExitStack
) -> tuple[IndexFollower, Engine]:
    """The index, kept up to date, and the watch over receipts, until the stack is closed."""
    settings = node.settings.auditor
    engine = open_index(settings.index_url, node.settings.data_dir, settings.index_password_file)
    stack.callback(engine.dispose)
    index = index_follower(node, engine, cluster, lanes)
    node.health.check("index", lambda: index.problem)
    stack.push_async_callback(index.stop)
    index.start()
    # An alarm, not a fault of this process: whoever may write receipts must not make it unready.
    receipts = ReceiptWatch(
        node.client,
        node.topics.receipts,
        cluster,
        agency_signed(node.keyring),
        engine,
        lambda grant: node.metrics.count("shutong_receipt_disagreements_total", grant=grant),
        indexed=lambda: index.problem is None,
    )
    stack.push_async_callback(receipts.stop)
    receipts.start()
    return index, engine


def agency_signed(keyring: Keyring) -> Verify:
    """Whether a receipt was signed by a trusted key of the agency that its key id names."""

    def verify(key_id: str, message: bytes, signature: bytes) -> bool:
        name = key_id.rpartition("/")[0]
        return name.startswith("agency/") and keyring.verifier(name)(key_id, message, signature)

    return verify


def index_follower(node: Node, engine: Engine, cluster: str, lanes: int) -> IndexFollower:
    """What keeps the index of this bus; not yet started."""
    indexer = Indexer(engine, node.table, cluster)
    events = EventWriter(engine, node.codec)
    verify = node.keyring.verifier("control")
    return IndexFollower(node.client, node.topics, lanes, verify, indexer, events)


def _store(node: Node, tree: TreeName) -> TreeStore:
    return TreeStore(tree_directory(node.settings.data_dir, tree.topic, tree.number))


def _floor(feed: CheckpointFeed, tree: TreeName) -> Floor | None:
    head = feed.newest(tree)
    return None if head is None else Floor(head.checkpoint, "checkpoints")


def _problem(tail: TreeTail) -> str | None:
    if tail.problem is not None:
        return tail.problem
    if tail.states.problems:
        return "; ".join(tail.states.problems.values())
    return None if tail.all_published() else "trees are being read before they are signed"


def _measure(node: Node, tail: TreeTail) -> None:
    now, metrics = asyncio.get_running_loop().time(), node.metrics
    for name, size in tail.states.sizes.items():
        metrics.set("shutong_tree_leaves", size, tree=name)
    for name, behind in tail.states.behind.items():
        metrics.set("shutong_tree_behind_offsets", behind, tree=name)
    for name, at in tail.states.published_at.items():
        metrics.set("shutong_tree_checkpoint_age_seconds", now - at, tree=name)
    metrics.set("shutong_trees_halted", tail.halted)
