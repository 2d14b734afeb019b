"""Reads what is in force: the list and the schemas, from Kafka alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shutong_control.publish import read_to_end
from shutong_core.domain.errors import Fatal, Rejected
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import partitions_of
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.node import Node
from shutong_core.wire.schemarecords import Registry


@asynccontextmanager
async def following(node: Node) -> AsyncIterator[ListFeed]:
    """A started list feed, stopped at the end."""
    feed = node.list_feed()
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()


def require_keyring(node: Node) -> None:
    """Raises Fatal if there is no keyring: reading must not make one by the way."""
    if not node.settings.keyring_dir.exists():
        raise Fatal(
            f"没有密钥环 {node.settings.keyring_dir}，无法验证清单的签名。"
            "请在发布清单的节点上执行，或用 SHUTONG_KEYRING、SHUTONG_DATA_DIR 指明它。"
            f" There is no keyring {node.settings.keyring_dir}, so the list's signature cannot be"
            " verified: run this on the node that publishes, or set SHUTONG_KEYRING or"
            " SHUTONG_DATA_DIR."
        )


async def read_current(node: Node) -> tuple[ListVersion | None, Registry]:
    """The list in force and all registered schemas; (None, empty) before the first publishing.

    Changes nothing in Kafka. Raises Retryable if Kafka does not answer, Fatal if what is there
    cannot be used.
    """
    wanted = {node.topics.lists, node.topics.schemas}
    if not wanted <= (await partitions_of(node.client, wanted)).keys():
        return None, Registry()
    require_keyring(node)
    async with following(node) as feed:
        await read_to_end(feed)
        return feed.version, feed.registry


async def read_in_force(node: Node) -> tuple[ListVersion, Registry]:
    """As `read_current`; raises Rejected that says what to do if there is no list yet."""
    version, registry = await read_current(node)
    if version is None:
        raise Rejected(
            "还没有生效的清单：请先执行 shutong list publish 文件。"
            " No list is in force yet: run `shutong list publish FILE` first."
        )
    return version, registry
