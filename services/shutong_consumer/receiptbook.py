"""How far each agency has countersigned each grant, read back from topic receipts.

Beside its receipts the service writes a header that says where to go on: offsets and chain values,
under a keyed digest, so that nobody else who may write to the topic can move an agency's place.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shutong_consumer.chains import Stand, decode_stand, encode_stand
from shutong_core.audit.encoding import text
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.consumers import committed_consumer

STAND_HEADER = "shutong_stand"
_MAC_BYTES = 32
_LABEL = b"shutong-stand-v1"
_START_S, _ANSWER_S, _RETRY_S = 10.0, 5.0, 0.5
_log = structlog.stdlib.get_logger(__name__)

#: Grant, territory ("" if the grant is not for a class).
Whose = tuple[str, str]


def seal_stand(secret: bytes, cluster: str, whose: Whose, stand: Stand) -> bytes:
    """Value of the header: keyed digest (32 bytes) ‖ the stand."""
    data = encode_stand(stand)
    return _mac(secret, cluster, whose, data) + data


def open_stand(secret: bytes, cluster: str, whose: Whose, sealed: bytes) -> Stand:
    """The stand in a header's value. Raises Rejected if it was not sealed here for `whose`."""
    mac, data = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, cluster, whose, data)):
        raise Rejected("a stand that this node did not seal")
    return decode_stand(data)


def _mac(secret: bytes, cluster: str, whose: Whose, data: bytes) -> bytes:
    named = text(cluster) + text(whose[0]) + text(whose[1])
    return hmac.digest(secret, _LABEL + named + data, "sha256")


def record_key(whose: Whose, lane: int) -> bytes:
    """Kafka key of a receipt: `<grant>/<territory>/<lane>`."""
    return f"{whose[0]}/{whose[1]}/{lane}".encode()


def place_key(whose: Whose) -> bytes:
    """Kafka key of a record without a receipt, which only says where to go on: no lane."""
    return f"{whose[0]}/{whose[1]}/".encode()


def _whose(key: bytes | None) -> Whose | None:
    parts = (key or b"").decode("ascii", "replace").split("/")
    return (parts[0], parts[1]) if len(parts) == 3 else None


class ReceiptBook:
    """Follows topic receipts; knows the newest stand of each. `start`, then `close`."""

    def __init__(self, client: Mapping[str, Any], topic: str, cluster: str, secret: bytes) -> None:
        self._client = client
        self._place = TopicPartition(topic, 0)
        self._cluster = cluster
        self._secret = secret
        self._stands: dict[Whose, Stand] = {}
        self._next = 0
        self._task: asyncio.Task[None] | None = None
        self._read = False

    @property
    def ready(self) -> bool:
        """Whether the topic was read to what was its end."""
        return self._read

    def problem(self) -> str | None:
        """For readiness."""
        return None if self._read else "topic receipts is being read"

    def start(self) -> None:
        """Begin to read; returns at once."""
        self._task = asyncio.create_task(self._run(), name="receipt book")

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stand(self, whose: Whose) -> Stand | None:
        """The newest stand, None if nothing was countersigned yet."""
        return self._stands.get(whose)

    def put(self, whose: Whose, stand: Stand) -> None:
        """Take a stand, unless a further one is known."""
        known = self._stands.get(whose)
        if known is None or _progress(stand) > _progress(known):
            self._stands[whose] = stand

    def seal(self, whose: Whose, stand: Stand) -> tuple[str, bytes]:
        """The header that says where to go on."""
        return STAND_HEADER, seal_stand(self._secret, self._cluster, whose, stand)

    def take(self, key: bytes | None, headers: Iterable[tuple[str, bytes]], offset: int) -> None:
        """One record of the topic; those that others wrote are passed over."""
        sealed = [value for name, value in headers if name == STAND_HEADER]
        whose = _whose(key)
        if len(sealed) != 1 or whose is None:
            return
        try:
            self.put(whose, open_stand(self._secret, self._cluster, whose, sealed[0]))
        except Rejected:
            _log.warning("receipt with a wrong stand", offset=offset)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, TimeoutError, Retryable) as error:
                _log.warning("receipt book interrupted", error_type=type(error).__name__)
            except Exception as error:
                _log.error("receipt book failed", exc_info=error)
            await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        consumer = committed_consumer(
            self._client,
            request_timeout_ms=int(_ANSWER_S * 1000),
        )
        try:
            async with asyncio.timeout(_START_S):
                await consumer.start()
                if self._place.topic not in await consumer.topics():
                    raise Retryable("topic receipts does not exist yet")
                end = (await consumer.end_offsets([self._place]))[self._place]
            consumer.assign([self._place])
            consumer.seek(self._place, self._next)
            while True:
                found = await consumer.getmany(timeout_ms=500 if self._read else 50)
                for record in found.get(self._place, ()):
                    self.take(record.key, record.headers, record.offset)
                self._next = await consumer.position(self._place)
                self._read = self._read or self._next >= end
        finally:
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(_ANSWER_S):
                    await consumer.stop()


def _progress(stand: Stand) -> tuple[int, int]:
    """Further along the topic counts, then more records signed."""
    return sum(stand.offsets.values()), sum(each.k for each in stand.signed.values())
