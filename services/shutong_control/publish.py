"""Puts a list file in force: validate, allot, sign, write schemas and list in one transaction.

One writer at a time: the transactional id of control fences everybody else *before* the newest
list is read, so what is written follows exactly what was read, or nothing is written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shutong_control.allot import Allotted, allot
from shutong_core.domain.changes import (
    SNAPSHOT_EVERY,
    Change,
    Signer,
    difference,
    encode_change,
    make_change,
    make_snapshot,
)
from shutong_core.domain.errors import Fatal
from shutong_core.domain.findings import Finding
from shutong_core.domain.listfile import DraftList
from shutong_core.domain.version import AnyRow, ListVersion
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.transaction import Deadlines, TransactionalProducer
from shutong_core.wire.batches import KafkaRecord, RecordBatch, chunks
from shutong_core.wire.schemarecords import Registry, encode_registration
from shutong_core.wire.schemas import Schema
from shutong_core.wire.topics import INBOUND_BYTES_MAX, Topics

CAUGHT_UP_S_MAX = 30.0

Check = Callable[[ListVersion, Mapping[int, Schema]], Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Draft:
    """A list file that was read, with the texts of the schema files it names (by its path)."""

    file: DraftList
    texts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What publishing a draft would change in `previous`."""

    previous: ListVersion | None
    version: ListVersion
    upserts: tuple[AnyRow, ...]
    removals: tuple[str, ...]
    parts: tuple[Change, ...]
    allotted: Allotted
    registry: Registry


def prepare(
    draft: Draft,
    registry: Registry,
    previous: ListVersion | None,
    topics: Topics,
    check: Check,
    now_ms: int,
) -> Prepared | None:
    """The next version from a draft; None if it says what is in force already.

    Raises ListRefused, a Rejected, with every problem and its place in the file.
    """
    extended = registry.copy()
    allotted = allot(draft.file, draft.texts, extended, topics)
    upserts, removals = difference(previous, allotted.rows)
    if not upserts and not removals:
        return None
    version, parts = make_change(previous, upserts, removals, now_ms)
    draft.file.refuse_if(check(version, extended.schemas))
    return Prepared(previous, version, upserts, removals, parts, allotted, extended)


async def read_to_end(feed: ListFeed, overrule: bool = False) -> None:
    """Wait until `feed` holds what a change may follow.

    With `overrule`, records under a key of control that this keyring does not trust are no
    hindrance: somebody looked, and they are forged.

    Raises Retryable if Kafka does not answer, Fatal if the topics hold what cannot be used here:
    a change written after it would be refused by everybody, or begin a second history.
    """
    await feed.caught_up(CAUGHT_UP_S_MAX)
    version = feed.version
    if version is not None and feed.doubted:
        if overrule:
            return
        raise Fatal(
            f"{feed.problem} 确认是伪造后，可用 shutong list publish --overrule 以可信清单取代。"
            " Once you are sure that it is forged, `shutong list publish --overrule` puts a trusted"
            " list in its place."
        )
    if version is None and feed.refused:
        raise Fatal(
            "control.lists 或 control.schemas 中的记录不被本密钥环信任，请使用签发清单的密钥环。"
            " The records in control.lists or control.schemas are not trusted by this keyring: use"
            f" the keyring that signed the list ({feed.problem})."
        )
    if not (feed.current if version else feed.holds(0)):
        raise Fatal(
            "control.lists 中最新的清单在此无法使用，不能在其后发布。"
            f" The newest list in control.lists cannot be used here: {feed.problem}"
        )


class Publisher:
    """Writes list versions; the only writer of control.lists and control.schemas."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: Topics,
        feed: ListFeed,
        signer: Signer,
        check: Check,
        ensure_topics: Callable[[ListVersion], Awaitable[None]],
        now_ms: Callable[[], int],
        *,
        overrule: bool = False,
        acts: Callable[[Prepared], Sequence[RecordBatch]] = lambda _: (),
    ) -> None:
        """`acts`: events about the change, written in one commit with it."""
        self._overrule = overrule
        self._acts = acts
        self._client = client
        self._topics = topics
        self._feed = feed
        self._signer = signer
        self._check = check
        self._ensure_topics = ensure_topics
        self._now_ms = now_ms

    async def publish(self, draft: Draft) -> Prepared | None:
        """Put `draft` in force; None if nothing would change.

        Raises ListRefused if the draft is wrong, Retryable if Kafka does not answer, Fenced if
        another publisher came in between: then nothing was written, publish again; Fatal as
        `read_to_end` does.
        """
        producer = TransactionalProducer(
            self._client,
            self._topics.control_id,
            Deadlines(),
            batch_bytes_max=INBOUND_BYTES_MAX - 4096,
        )
        try:
            await producer.start()
            await read_to_end(self._feed, self._overrule)
            prepared = prepare(
                draft,
                self._feed.registry,
                self._feed.version,
                self._topics,
                self._check,
                self._now_ms(),
            )
            if prepared is None:
                return None
            # Topics first: a list in force never names a topic that is not there.
            await self._ensure_topics(prepared.version)
            await producer.begin()
            for batch in (*self._batches(prepared), *self._acts(prepared)):
                await producer.send(batch)
            await producer.commit()
            return prepared
        finally:
            await producer.close()

    def _batches(self, prepared: Prepared) -> list[RecordBatch]:
        schemas = [
            KafkaRecord(*encode_registration(registration))
            for registration in prepared.allotted.registrations
        ]
        parts = list(prepared.parts)
        if prepared.version.number % SNAPSHOT_EVERY == 0:
            parts += make_snapshot(prepared.version)
        changes = [
            KafkaRecord(str(part.n).encode(), encode_change(part, self._signer)) for part in parts
        ]
        return [
            RecordBatch(topic, 0, run)
            for topic, records in ((self._topics.schemas, schemas), (self._topics.lists, changes))
            for run in chunks(records, INBOUND_BYTES_MAX - 64 * 1024, 1_000)
        ]
