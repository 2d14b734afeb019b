"""Puts what a command does on topic `access` before it does it."""

from __future__ import annotations

import getpass
import socket
import time

from shutong_core.audit.access import Act
from shutong_core.audit.acts import ActName, local_actor
from shutong_core.runtime.actlog import write_act
from shutong_core.runtime.node import Node


def command_actor() -> str:
    """Who runs this command, as an event may name it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return local_actor(user, socket.gethostname())


async def on_record(node: Node, name: ActName, target: str, detail: str = "") -> bool:
    """Have the act written; False before the first list. Raises Retryable: then do nothing."""
    act = Act(int(time.time() * 1000), command_actor(), name.stored, target, detail=detail)
    return await write_act(node.client, node.topics.access, act, node.codec.encode)
