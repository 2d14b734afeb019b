"""Which datasets of the list have an inbound topic, where not the bus but an operator makes topics.

A dataset without one is in the list, and nothing can come in for it: no lane reads it, nothing is
alarmed. Once its topic was seen it counts as there: if it is gone later, the lanes say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from shutong_broker.policies import PolicyBook
from shutong_core.domain.errors import Retryable
from shutong_core.runtime.cluster import partitions_of
from shutong_core.wire.topics import Topics

#: Between two looks for topics that were made meanwhile.
LOOK_EVERY_S = 10.0
#: Topics asked for in one request: its answer is read between two steps of the lanes.
TOPICS_PER_REQUEST = 100

_log = structlog.stdlib.get_logger(__name__)


class InboundTopics:
    """Tells the policy book which datasets can be read."""

    def __init__(self, client: Mapping[str, Any], topics: Topics, book: PolicyBook) -> None:
        self._client = client
        self._topics = topics
        self._book = book
        self._seen: set[str] = set()

    async def look(self) -> None:
        """Look once for the topics not seen yet. Raises Retryable if Kafka does not answer."""
        missing = sorted(self._book.listed - self._seen)
        for start in range(0, len(missing), TOPICS_PER_REQUEST):
            asked = {
                self._topics.inbound(dataset): dataset
                for dataset in missing[start : start + TOPICS_PER_REQUEST]
            }
            there = await partitions_of(self._client, asked)
            self._seen.update(asked[topic] for topic in there)
        self._book.read_only(frozenset(self._seen))

    async def follow(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Retryable as error:
                _log.warning("inbound topics not told", error=str(error))
