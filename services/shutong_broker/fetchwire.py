"""Fetch as Kafka speaks it, with incremental sessions (KIP-227), below aiokafka's consumer.

aiokafka names every partition in every request and decodes every answer field by field: with
hundreds of idle inputs that costs most of a core. A session names only what changed.
All private parts of aiokafka that reading inputs rests on are here; a test holds its version.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from io import BytesIO
from typing import NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response

#: The last version that is not "flexible"; Kafka 2.3 to 4.x speak it.
VERSION = 11
READ_COMMITTED = 1
NO_SESSION = 0
FIRST_EPOCH = 0
EPOCH_MAX = 2**31 - 1
#: FETCH_SESSION_ID_NOT_FOUND and INVALID_FETCH_SESSION_EPOCH: it needs to be told everything again.
SESSION_FORGOTTEN = frozenset({70, 71})

_HEAD = struct.Struct(">iiiibii")  # replica, wait, least and most bytes, isolation, session, epoch
_COUNT = struct.Struct(">i")
_ANSWER_HEAD = struct.Struct(">ihii")  # throttle, error, session, number of topics
_NAME = struct.Struct(">h")
_FROM = struct.Struct(">qqi")  # fetch offset, log start (a follower's), most bytes
# partition, error, high watermark, last stable offset, log start, number of aborted transactions
_PARTITION = struct.Struct(">ihqqqi")
_ABORTED = struct.Struct(">qq")
_REPLICA_AND_SIZE = struct.Struct(">ii")


class Bounds(NamedTuple):
    """How long one fetch may wait for the first byte, and how much it may bring."""

    wait_ms: int
    bytes_max: int
    partition_bytes_max: int


class Fetched(NamedTuple):
    """What one fetch says about one partition; `error` is Kafka's code, 0 if there is none."""

    topic: str
    partition: int
    error: int
    aborted: tuple[tuple[int, int], ...]  # (producer id, its first offset)
    data: bytes  # record batches, the last one possibly cut off


class FetchAnswer(Response):  # type: ignore[misc]  # aiokafka is untyped
    """The answer to `_SessionFetch`, taken apart without aiokafka's generic decoder."""

    API_KEY = 1
    API_VERSION = VERSION

    def __init__(self, error: int, session: int, partitions: list[Fetched]) -> None:
        self.error = error
        self.session = session
        self.partitions = partitions

    def __repr__(self) -> str:
        return f"FetchAnswer({self.error}, {len(self.partitions)} partitions)"

    @classmethod
    def decode(cls, data: BytesIO) -> FetchAnswer:
        """Raises struct.error if it is cut off; aiokafka then closes the connection."""
        at, raw = data.tell(), data.getvalue()
        _, error, session, topics = _ANSWER_HEAD.unpack_from(raw, at)
        at += _ANSWER_HEAD.size
        found: list[Fetched] = []
        for _ in range(topics):
            (length,) = _NAME.unpack_from(raw, at)
            at += _NAME.size
            topic = raw[at : at + length].decode("ascii")
            at += length
            (partitions,) = _COUNT.unpack_from(raw, at)
            at += _COUNT.size
            for _ in range(partitions):
                each, at = _partition(raw, at, topic)
                found.append(each)
        return cls(error, session, found)


def _partition(raw: bytes, at: int, topic: str) -> tuple[Fetched, int]:
    partition, code, _, _, _, count = _PARTITION.unpack_from(raw, at)
    at += _PARTITION.size
    aborted: tuple[tuple[int, int], ...] = ()
    if count > 0:
        end = at + count * _ABORTED.size
        aborted = tuple(_ABORTED.iter_unpack(raw[at:end]))
        at = end
    _, size = _REPLICA_AND_SIZE.unpack_from(raw, at)
    at += _REPLICA_AND_SIZE.size
    data = raw[at : at + size] if size > 0 else b""
    if len(data) < size:
        raise struct.error(f"{size} bytes of records announced, {len(data)} there")
    return Fetched(topic, partition, code, aborted, data), at + max(size, 0)


class _SessionFetchStruct(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped
    API_KEY = 1
    API_VERSION = VERSION
    RESPONSE_TYPE = FetchAnswer
    SCHEMA = ()  # not used: the body comes encoded

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __repr__(self) -> str:
        return f"SessionFetch({len(self._body)} bytes)"

    def encode(self) -> bytes:
        return self._body


class _SessionFetch(Request[_SessionFetchStruct]):  # type: ignore[misc]  # aiokafka is untyped
    API_KEY = 1

    def __init__(self, body: bytes) -> None:
        self._body = body

    def build(self, request_struct_class: type[_SessionFetchStruct]) -> _SessionFetchStruct:
        return request_struct_class(self._body)


class FetchSession:
    """What one node already knows of our wishes: partition `lane` of several topics.

    Without a free slot Kafka gives no session; then every request names everything, as before.
    """

    def __init__(self, lane: int) -> None:
        self._lane = lane
        self._id = NO_SESSION
        self._epoch = FIRST_EPOCH
        self._held: dict[str, int] = {}
        self._wanted: dict[str, int] = {}

    def request(self, wanted: Mapping[str, int], bounds: Bounds) -> bytes:
        """The body of a request for exactly `wanted`: topic to the offset to fetch from."""
        held = self._held
        self._wanted = dict(wanted)
        if self._epoch == FIRST_EPOCH:
            named, forgotten = list(wanted.items()), []
        else:
            named = [(topic, at) for topic, at in wanted.items() if held.get(topic) != at]
            forgotten = [topic for topic in held if topic not in wanted]
        lane = self._lane
        head = _HEAD.pack(
            -1, bounds.wait_ms, 1, bounds.bytes_max, READ_COMMITTED, self._id, self._epoch
        )
        parts = [head, _COUNT.pack(len(named))]
        one = struct.pack(">iii", 1, lane, -1)  # one partition; its leader epoch is not known
        for topic, at in named:
            name = topic.encode("ascii")
            parts += [
                _NAME.pack(len(name)),
                name,
                one,
                _FROM.pack(at, -1, bounds.partition_bytes_max),
            ]
        parts.append(_COUNT.pack(len(forgotten)))
        one = struct.pack(">ii", 1, lane)
        for topic in forgotten:
            name = topic.encode("ascii")
            parts += [_NAME.pack(len(name)), name, one]
        parts.append(_NAME.pack(0))  # no rack
        return b"".join(parts)

    def settle(self, answer: FetchAnswer) -> bool:
        """Take in what the node answered to the last request; False if it forgot the session.

        Raises KafkaError if it refused for another reason.
        """
        if answer.error:
            self.lost()
            if answer.error in SESSION_FORGOTTEN:
                return False
            error: KafkaError = for_code(answer.error)()
            raise error
        if self._epoch == FIRST_EPOCH:
            self._id = answer.session
            self._epoch = FIRST_EPOCH if answer.session == NO_SESSION else 1
        else:
            self._epoch = 1 if self._epoch == EPOCH_MAX else self._epoch + 1
        self._held = self._wanted
        return True

    def lost(self) -> None:
        """Whether the last request arrived is not known: begin anew, closing the old session."""
        self._epoch = FIRST_EPOCH
        self._held = {}


class FetchLine:
    """One connection of a client to one node, for fetches alone: a fetch that waits holds it up."""

    def __init__(self, client: AIOKafkaClient, node: int, name: str, lane: int) -> None:
        self._client = client
        self._node = node
        self._group = ("fetch", name)
        self._session = FetchSession(lane)

    async def fetch(
        self, wanted: Mapping[str, int], bounds: Bounds, patience_s: float
    ) -> list[Fetched]:
        """One fetch; an answer later than its wait and `patience_s` seconds is given up.

        Raises KafkaError: nothing is known then, and the next fetch begins a new session.
        """
        answer = await self._ask(wanted, bounds, patience_s)
        if not self._session.settle(answer):
            answer = await self._ask(wanted, bounds, patience_s)
            if not self._session.settle(answer):
                raise KafkaConnectionError("a new fetch session was forgotten at once")
        partitions: list[Fetched] = answer.partitions
        return partitions

    async def _ask(
        self, wanted: Mapping[str, int], bounds: Bounds, patience_s: float
    ) -> FetchAnswer:
        request = _SessionFetch(self._session.request(wanted, bounds))
        try:
            async with asyncio.timeout(bounds.wait_ms / 1000 + patience_s):
                answer: FetchAnswer = await self._client.send(
                    self._node, request, group=self._group
                )
        except TimeoutError as error:
            self._lose()
            raise KafkaConnectionError("a fetch was not answered in time") from error
        except BaseException:
            # Cancelled too: the answer under way must not meet the next request.
            self._lose()
            raise
        return answer

    def _lose(self) -> None:
        self._session.lost()
        connection = self._client._conns.pop((self._node, self._group), None)
        if connection is not None:
            connection.close()
