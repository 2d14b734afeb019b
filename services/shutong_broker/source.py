"""The inputs of one lane: partition n of every `inbound.<dataset>`, read from given positions.

Offsets live in a group that nobody joins, so that no rebalance moves them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from aiokafka.errors import CorruptRecordException, KafkaError, OffsetOutOfRangeError

from shutong_broker.fetching import Fetching
from shutong_broker.input import Input
from shutong_broker.plan import Polled
from shutong_broker.policy.model import InboundRecord
from shutong_broker.positions import committed_offsets, first_offsets
from shutong_core.domain.errors import Retryable
from shutong_core.runtime.aiokafka_inside import new_client
from shutong_core.wire.topics import Topics

STOP_S = 5.0
#: Longer than any fetch. A node that does not even answer a connection holds up new ones to the
#: others for so long, also to where its inputs moved.
REQUEST_TIMEOUT_MS = 12_000
_used_at = attrgetter("used_at")
#: A checksum may fail on the way; the same batch twice is damaged where it is stored.
CORRUPT_MAX = 2
#: Once so much was taken, further inputs wait for their turn.
POLL_BYTES_ENOUGH = 4 * 1024 * 1024


class InboundSource:
    """Reads one lane's inputs from given positions."""

    def __init__(self, client: Mapping[str, Any], topics: Topics, group: str, lane: int) -> None:
        self._topics = topics
        self._group = group
        self._lane = lane
        self._client = new_client(client, REQUEST_TIMEOUT_MS)
        self._fetching = Fetching(self._client, lane)
        self._inputs: dict[str, Input] = {}
        self._polled: list[Input] = []
        self._polls = 0
        #: Inputs that are not read.
        self.parked: set[str] = set()
        #: Those of them that can be read again once Kafka lets us.
        self.denied: set[str] = set()

    async def start(self) -> None:
        """Connect. Raises Retryable when Kafka is away."""
        try:
            await self._client.bootstrap()
        except KafkaError as error:
            raise Retryable(f"cannot read inbound: {type(error).__name__}") from error

    async def close(self) -> None:
        """Disconnect; never fails."""
        await self._fetching.close()
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(STOP_S):
                await self._client.close()

    async def committed_all(self, datasets: Sequence[str]) -> dict[str, int | None]:
        """The offset committed for each dataset, asked afresh; None if there is none.

        Raises Retryable if Kafka does not say.
        """
        if not datasets:
            return {}
        topics = {self._topics.inbound(dataset): dataset for dataset in datasets}
        told = await committed_offsets(self._client, self._group, list(topics), self._lane)
        return {topics[topic]: offset for topic, offset in told.items()}

    async def beginnings(self, datasets: Sequence[str]) -> dict[str, int]:
        """The first offset still kept, per dataset; a topic that does not answer is left out."""
        if not datasets:
            return {}
        topics = {self._topics.inbound(dataset): dataset for dataset in datasets}
        told = await first_offsets(self._client, list(topics), self._lane)
        return {topics[topic]: offset for topic, offset in told.items()}

    @property
    def datasets(self) -> frozenset[str]:
        """What is being read."""
        return frozenset(self._inputs)

    def read_from(self, positions: Mapping[str, int]) -> None:
        """Read exactly these datasets from these offsets; what already stands there goes on."""
        inputs: dict[str, Input] = {}
        for dataset, offset in positions.items():
            each = self._inputs.get(dataset)
            if each is None or dataset in self.parked:
                each = Input(dataset, self._topics.inbound(dataset), self._lane, offset)
            inputs[dataset] = each
        self._inputs = inputs
        self._fetching.carry(each for dataset, each in inputs.items() if dataset not in self.parked)
        for dataset, offset in positions.items():
            self.reread(dataset, offset)

    def reread(self, dataset: str, offset: int) -> None:
        """Read one input again from `offset`: what was polled beyond was not taken."""
        each = self._inputs[dataset]
        each.seek(offset)
        if each.has_more and dataset not in self.parked:
            self._fetching.tell(each)

    def give_back(self, positions: Mapping[str, int], polled: Sequence[Polled]) -> None:
        """Read again what was polled and not taken."""
        for each in polled:
            if each.dataset not in self.parked:
                self.reread(each.dataset, positions.get(each.dataset, each.records[0].offset))

    def unpark(self, dataset: str) -> None:
        """Try one input again: the next `read_from` may name it."""
        self.parked.discard(dataset)
        self.denied.discard(dataset)
        self._inputs.pop(dataset, None)

    def park(self, dataset: str) -> None:
        """Stop reading one input; the others flow on."""
        self.parked.add(dataset)
        each = self._inputs.get(dataset)
        if each is not None:
            self._fetching.drop(each)
            self._inputs[dataset] = Input(dataset, each.topic, self._lane, each.position)

    async def poll(self, wait_ms: int, records_max: int) -> tuple[Polled, ...]:
        """What has come, at most `records_max` records, as soon as there is any; inputs take turns.

        First comes the input whose records were used longest ago: who gets no further than the
        first one, serves them all by and by.
        An input that cannot be read, or whose position is no longer kept, is parked and named in
        `parked`. What was polled before counts as used, unless it was given back. Raises Retryable
        if nothing can be read any more.
        """
        self._fetching.require_running()
        if self._inputs.keys() <= self.parked:
            await asyncio.sleep(wait_ms / 1000)  # nothing to read must not mean to spin
            return ()
        for each in self._polled:
            if each.settle():
                each.used_at = self._polls
        self._polled = []
        self._polls += 1
        clock, arrived = asyncio.get_running_loop().time, self._fetching.arrived
        until = clock() + wait_ms / 1000
        while True:
            arrived.clear()
            polled = self._take(records_max)
            self._fetching.taken()
            parked = self._inputs.keys() <= self.parked
            if polled or parked or clock() >= until:
                return polled
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await arrived.wait()

    def _take(self, records_max: int) -> tuple[Polled, ...]:
        """What is there, of each input until there is enough of all."""
        ready, room, came = self._fetching.ready, records_max, 0
        polled: list[Polled] = []
        for each in sorted(ready, key=_used_at):
            if not room or came >= POLL_BYTES_ENOUGH:
                break
            del ready[each]
            ahead = each.bytes_ahead
            records = self._take_from(each, room)
            came += ahead - each.bytes_ahead
            if records:
                room -= len(records)
                polled.append(Polled(each.dataset, records))
                self._polled.append(each)
            if each.dataset not in self.parked and each.has_more:
                ready[each] = None
        return tuple(polled)

    def _take_from(self, each: Input, room: int) -> list[InboundRecord]:
        fault, each.fault = each.fault, None
        if fault is not None:  # Kafka told it of this input alone
            self.park(each.dataset)
            if not isinstance(fault, OffsetOutOfRangeError):
                self.denied.add(each.dataset)
            return []
        try:
            records = each.take(room)
        except CorruptRecordException:
            each.corrupt += 1
            if each.corrupt < CORRUPT_MAX:
                each.refetch()
            else:
                self.park(each.dataset)
            return []
        except (
            Exception
        ):  # whatever a publisher with its own Kafka client wrote, it is this input's
            self.park(each.dataset)
            return []
        if records:
            each.corrupt = 0
        return records
