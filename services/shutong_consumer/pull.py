"""Pages of a grant for one caller: from its cursor on, its own territory only, waiting for news.

What is read is decided on twice: before reading and just before the page is given out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from shutong_consumer.document import Reading
from shutong_consumer.frontdesk import FrontDesk
from shutong_consumer.inbox import Bounds, Page, Stored, cut
from shutong_consumer.readers import Readers
from shutong_consumer.refused import RequestRefused, busy
from shutong_consumer.rights import Right
from shutong_consumer.topicreader import PositionGone, PositionUnknown, TopicReader
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.domain.reasons import Reason
from shutong_core.wire.cursor import decode_cursor, encode_cursor
from shutong_core.wire.jsonmap import dumps
from shutong_core.wire.topics import Topics

LIMIT_DEFAULT, LIMIT_MAX = 500, 1_000
WAIT_MS_MAX = 30_000
PAGE_BYTES_MAX = 2 * 1024 * 1024
#: So long a page that is due passes over records of other territories; then it is given out empty,
#: and the caller goes on from its cursor: an empty page is the end only where it says so.
SCAN_S = 5.0
_SCAN_STEP = 250
#: Records turned into JSON before other requests get a turn.
_TURN_RECORDS = 100
#: Pages being made at once; each holds some times PAGE_BYTES_MAX.
PAGES_AT_ONCE_MAX = 16
PLACE_S = 2.0
#: A waiting request looks so often whether its caller is still there and may still read.
LOOK_S = 1.0
#: Regions remembered, so that a record is decoded once for all territories of its class.
_REGIONS_MAX = 50_000
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a page; `gone` tells whether the caller hung up."""

    system: str
    grant: str
    cursor: str | None
    limit: int
    wait_s: float
    territory: str | None
    client: str
    gone: Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Given:
    """A page ready to be given out under `right`: each record as JSON text."""

    right: Right
    lines: tuple[str, ...]
    next_cursor: str
    at_end: bool


class Pull:
    """Makes pages; one for the whole process."""

    def __init__(self, desk: FrontDesk, readers: Readers, topics: Topics) -> None:
        self._desk = desk
        self._readers = readers
        self._topics = topics
        self._places = asyncio.Semaphore(PAGES_AT_ONCE_MAX)
        self._regions: dict[tuple[str, str | None, int, int], str | None] = {}
        self._closing = False

    def finish(self) -> None:
        """Let waiting requests go with what they have: the process is about to stop."""
        self._closing = True

    async def page(self, asked: Asked) -> Given:
        """The next page. Raises RequestRefused."""
        right = self._desk.right(asked.system, asked.grant, asked.territory)
        await self._desk.note_hosting("pull", right, asked.client)
        async with self.open(right) as reader:
            position = await start_position(reader, asked.cursor)
            given = await self._collect(asked, right, reader, position)
        self._desk.still(right)
        return given

    def open(self, right: Right) -> Opened:
        """The grant's reader, lent; Kafka's faults become refusals."""
        return Opened(
            self._readers,
            self._topics.delivery(right.grant.id),
            _partitions(right, self._desk.list_in_force().bus.lanes),
        )

    def reading(self, right: Right) -> Reading:
        """How the grant's records are read, by the schemas registered for its topic."""
        subject = f"{self._topics.delivery(right.grant.id)}-value"
        schemas = {each.id: each.schema for each in self._desk.lists.registry.versions(subject)}
        return Reading(right.grant, right.dataset, schemas)

    def wanted(self, right: Right, reading: Reading) -> Callable[[Stored], bool] | None:
        """Whether a record is the caller's; None if all are."""
        if right.territory is None:
            return None
        lies_in = self._desk.rights.lies_in(right.territory)
        grant = right.grant.id

        def test(record: Stored) -> bool:
            # With the item: a list may name another one for the role.
            place = (grant, reading.region_item, record.partition, record.offset)
            if place not in self._regions:
                if len(self._regions) >= _REGIONS_MAX:
                    self._regions.clear()
                try:
                    self._regions[place] = reading.region(record)
                except Rejected as error:
                    raise unreadable(right, record, error) from error
            return lies_in(self._regions[place])

        return test

    async def _collect(
        self, asked: Asked, right: Right, reader: TopicReader, position: Mapping[int, int]
    ) -> Given:
        """Looks from `position` on until there is something for the caller, or time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + asked.wait_s
        reading = self.reading(right)
        wanted = self.wanted(right, reading)
        while True:
            wait_s = min(LOOK_S, max(0.0, deadline - loop.time()))
            ready = await reader.ready(position, wait_s)
            bounds = Bounds(asked.limit, PAGE_BYTES_MAX, _SCAN_STEP if wanted else LIMIT_MAX)
            page = cut(ready, position, bounds, wanted)
            if page.records:
                return await self._given(right, reading, reader, page)
            idle = page.whole and page.following == position
            position = page.following
            at_end = idle or (page.whole and reader.at_end(position))
            now = loop.time()
            over = self._closing or now >= deadline + SCAN_S or (now >= deadline and at_end)
            if over or (asked.wait_s and await asked.gone()):
                return Given(right, (), encode_cursor(position), at_end)
            # Whoever may no longer read need not wait any longer.
            self._desk.still(right)
            await asyncio.sleep(0)

    async def _given(
        self, right: Right, reading: Reading, reader: TopicReader, page: Page
    ) -> Given:
        try:
            async with asyncio.timeout(PLACE_S):
                await self._places.acquire()
        except TimeoutError:
            raise busy() from None
        try:
            lines: list[str] = []
            for record in page.records:
                lines.append(dumps(_document(reading, record, right)))
                if len(lines) % _TURN_RECORDS == 0:
                    await asyncio.sleep(0)
        finally:
            self._places.release()
        at_end = page.whole and reader.at_end(page.following)
        return Given(right, tuple(lines), encode_cursor(page.following), at_end)


class Opened:
    """A lent reader; what it cannot do becomes a refusal of the request."""

    def __init__(self, readers: Readers, topic: str, partitions: tuple[int, ...]) -> None:
        self._lent = readers.lend(topic, partitions)

    async def __aenter__(self) -> TopicReader:
        return await self._lent.__aenter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._lent.__aexit__(None, None, None)
        if isinstance(error, Retryable):
            raise RequestRefused(Reason.KAFKA_UNAVAILABLE, retry_after_s=1) from error
        if isinstance(error, PositionGone):
            raise gone(error.oldest) from error
        if isinstance(error, PositionUnknown):
            raise RequestRefused(Reason.BAD_CURSOR) from error


def gone(oldest: Mapping[int, int]) -> RequestRefused:
    """The cursor is past its retention (410), with the oldest one that is not."""
    return RequestRefused(Reason.CURSOR_GONE, more={"oldest_cursor": encode_cursor(oldest)})


async def start_position(reader: TopicReader, cursor: str | None) -> Mapping[int, int]:
    """Where a caller begins: at its cursor, without one at the oldest record kept.

    Raises RequestRefused for a cursor that cannot be of this grant.
    """
    if cursor is None:
        return (await reader.span()).begin
    position = decode_cursor(cursor)
    if isinstance(position, Reason):
        raise RequestRefused(position)
    if set(position) != set(reader.partitions):
        raise RequestRefused(Reason.BAD_CURSOR)
    return position


def _partitions(right: Right, lanes: int) -> tuple[int, ...]:
    return tuple(range(lanes if right.grant.partitions == "lanes" else 1))


def _document(reading: Reading, record: Stored, right: Right) -> dict[str, object]:
    """The record as JSON; a fault of the bus's own record stops the page and is an alarm."""
    try:
        return reading.document(record)
    except Rejected as error:
        raise unreadable(right, record, error) from error


def unreadable(right: Right, record: Stored, error: Rejected) -> RequestRefused:
    """A placed record that cannot be read: the bus's own fault, told aloud."""
    _log.error(
        "placed record cannot be read",
        grant=right.grant.id,
        partition=record.partition,
        offset=record.offset,
        error_type=type(error).__name__,
    )
    return RequestRefused(
        Reason.MALFORMED,
        "已投放的记录无法读取，请联系总线运维",
        "a placed record cannot be read: tell the bus's operators",
        status=500,
    )
