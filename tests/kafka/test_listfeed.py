"""A service holds the newest signed list, and lets data out only while Kafka says it is newest."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from faults.proxy import LIST_OFFSETS, KafkaProxy
from shutong_core.domain.catalogue import SchemaRef
from shutong_core.domain.changes import encode_change, make_change
from shutong_core.domain.version import AnyRow, ListVersion
from shutong_core.runtime.cluster import ensure_topics
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.keyring import Keyring
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.listlease import LEASE_S
from shutong_core.wire.schemarecords import Registration, encode_registration
from shutong_core.wire.topics import Topics, control_specs
from unit import listing_fixtures as made
from unit import schema_examples

pytestmark = pytest.mark.kafka


class World:
    """Control's side: signs and writes list versions, as its one writer does."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str, ring: Keyring) -> None:
        self.topics = Topics(prefix)
        self.client = {"bootstrap_servers": kafka.bootstrap_servers}
        self.ring = ring
        self.version: ListVersion | None = None

    def feed(self, **client: Any) -> ListFeed:
        return ListFeed(
            client or self.client,
            self.topics,
            self.ring.verifier("control"),
            time.monotonic,
            trust_mark=self.ring.trust_watch("control"),
        )

    async def write(
        self, topic: str, *records: tuple[bytes | None, bytes], commit: bool = True
    ) -> None:
        producer = AIOKafkaProducer(**self.client, transactional_id=f"{topic}-writer")
        await producer.start()
        try:
            await producer.begin_transaction()
            for key, value in records:
                await producer.send_and_wait(topic, value, key=key, partition=0)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        finally:
            await producer.stop()

    def change(self, *rows: AnyRow, signer: Any = None) -> tuple[ListVersion, list[bytes]]:
        version, parts = make_change(self.version, rows, (), made.EFFECTIVE_MS)
        signer = signer or self.ring.signer("control")
        return version, [encode_change(part, signer) for part in parts]

    async def publish(self, *rows: AnyRow) -> ListVersion:
        self.version, records = self.change(*rows)
        await self.write(self.topics.lists, *((None, record) for record in records))
        return self.version


@pytest.fixture
async def world(kafka: EmbeddedKafka, prefix: str, tmp_path: Path) -> World:
    world = World(kafka, prefix, Keyring(tmp_path / "ring"))
    await ensure_topics(world.client, control_specs(world.topics, 1, 1))
    return world


@pytest.fixture
async def feed(world: World) -> AsyncIterator[ListFeed]:
    feed = world.feed()
    await feed.start()
    yield feed
    await feed.stop()


async def until(condition: Any, timeout_s: float = 15) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def leased(feed: ListFeed) -> bool:
    return feed.lease_ok(time.monotonic())


async def test_no_list_no_lease(world: World, feed: ListFeed) -> None:
    await until(lambda: feed.lease_age(time.monotonic()) < LEASE_S)
    assert feed.version is None
    assert not leased(feed)


async def test_a_published_list_is_in_force_within_a_second(world: World, feed: ListFeed) -> None:
    await world.publish(made.bus(), made.purpose())
    await feed.wait_ready()
    started = time.monotonic()
    version = await world.publish(made.purpose("research"))
    assert (await feed.wait_change(after=1)).digest == version.digest
    assert time.monotonic() - started < 1.5
    assert leased(feed)


async def test_who_starts_late_reads_everything_aborted_transactions_left_out(
    world: World,
) -> None:
    await world.publish(made.bus())
    _, aborted = world.change(made.purpose("never"))
    await world.write(world.topics.lists, (None, aborted[0]), commit=False)
    version = await world.publish(made.purpose("research"))
    feed = world.feed()
    await feed.start()
    try:
        assert (await feed.wait_ready()).digest == version.digest
        assert feed.problem is None
    finally:
        await feed.stop()


async def test_the_lease_is_kept_while_nothing_is_published(world: World, feed: ListFeed) -> None:
    await world.publish(made.bus())
    await feed.wait_ready()
    for _ in range(40):
        assert feed.lease_age(time.monotonic()) < LEASE_S / 2
        await asyncio.sleep(0.1)


async def test_what_no_trusted_key_signed_is_refused_and_does_not_stop_the_bus(
    world: World, feed: ListFeed, tmp_path: Path
) -> None:
    version = await world.publish(made.bus())
    await feed.wait_ready()
    stranger = Keyring(tmp_path / "o").signer("control")
    _, agency = world.change(made.purpose("x"), signer=world.ring.signer("agency/x"))
    _, again = World.change(world, made.purpose("x"))
    old = world.version
    world.version = None
    _, replayed = world.change(made.bus())
    world.version = old
    world.version, _ = World.change(world, made.purpose("y"))
    _, too_far = world.change(made.purpose("x"), signer=stranger)
    world.version = old
    for record in (b"garbage", too_far[0], agency[0], replayed[0]):
        await world.write(world.topics.lists, (None, record))
    await until(lambda: feed.refused == 4)
    assert feed.problem is not None
    assert feed.version is not None
    assert feed.version.digest == version.digest
    assert leased(feed)
    await world.write(world.topics.lists, (None, again[0]))
    await feed.wait_change(after=1)
    assert feed.problem is None


async def test_the_next_list_under_a_key_not_trusted_yet_ends_the_lease_until_it_is_trusted(
    world: World, feed: ListFeed, tmp_path: Path
) -> None:
    await world.publish(made.bus())
    await feed.wait_ready()
    rotated = Keyring(tmp_path / "o").signer("control")
    version, records = world.change(made.purpose("x"), signer=rotated)
    await world.write(world.topics.lists, (None, records[0]))
    await until(lambda: not leased(feed))
    assert rotated.key_id in str(feed.problem)
    world.ring.trust("control", rotated.public)
    assert (await feed.wait_change(after=1)).digest == version.digest
    await until(lambda: leased(feed))
    assert feed.problem is None


async def test_what_a_stranger_wrote_as_the_next_list_is_overtaken_by_the_true_one(
    world: World, feed: ListFeed, tmp_path: Path
) -> None:
    await world.publish(made.bus())
    await feed.wait_ready()
    _, forged = world.change(made.purpose("x"), signer=Keyring(tmp_path / "o").signer("control"))
    await world.write(world.topics.lists, (None, forged[0]))
    await until(lambda: not leased(feed))
    version = await world.publish(made.purpose("true"))
    assert (await feed.wait_change(after=1)).digest == version.digest
    await until(lambda: leased(feed))


async def remake(world: World) -> None:
    admin = AIOKafkaAdminClient(**world.client)
    await admin.start()
    try:
        await admin.delete_topics([world.topics.lists])
    finally:
        await admin.close()
    await ensure_topics(world.client, control_specs(world.topics, 1, 1))


@pytest.mark.parametrize("lists", [1, 4])
async def test_a_topic_made_anew_with_another_history_is_never_followed(
    world: World, feed: ListFeed, lists: int
) -> None:
    await world.publish(made.bus())
    await world.publish(made.purpose("second"))
    await feed.wait_change(after=1)
    await remake(world)
    world.version = None
    await world.publish(made.bus())
    for number in range(1, lists):
        await world.publish(made.purpose(f"other-{number}"))
    await until(lambda: "this process has seen list 2" in str(feed.problem), 30)
    for _ in range(30):
        assert not leased(feed)
        await asyncio.sleep(0.1)
    assert feed.version is not None
    assert feed.version.number == 2


async def test_a_newer_list_that_cannot_be_used_ends_the_lease(
    world: World, feed: ListFeed
) -> None:
    await world.publish(made.bus())
    await feed.wait_ready()
    # Signed by control, but the step to version 2 is missing.
    world.version, _ = world.change(made.purpose("lost"))
    await world.publish(made.purpose("next"))
    await until(lambda: feed.refused == 1)
    assert not leased(feed)
    assert feed.version is not None
    assert feed.version.number == 1


async def test_a_list_waits_for_the_schemas_it_names(world: World, feed: ListFeed) -> None:
    await world.publish(made.bus())
    await feed.wait_ready()
    schema = schema_examples.one("string")
    reference = SchemaRef(version=1, id=7, guid=schema.guid, digest=schema.digest.hex())
    await world.publish(made.dataset(schemas=(reference,)))
    await until(lambda: not leased(feed))
    assert "schema 7" in str(feed.problem)
    registration = Registration(7, "minimum-living-value", 1, schema)
    await world.write(world.topics.schemas, encode_registration(registration))
    await feed.wait_change(after=1)
    await until(lambda: leased(feed))
    assert feed.schemas[7] == schema


async def test_a_schema_record_that_contradicts_itself_is_refused(
    world: World, feed: ListFeed
) -> None:
    key, value = encode_registration(Registration(1, "s", 1, schema_examples.one("string")))
    await world.write(world.topics.schemas, (b"2", value))
    await world.write(world.topics.schemas, (key, value))
    await until(lambda: 1 in feed.schemas)
    assert feed.refused == 1


async def test_a_cut_connection_ends_the_lease_in_time_and_it_comes_back(
    world: World, kafka: EmbeddedKafka
) -> None:
    await world.publish(made.bus())
    async with KafkaProxy(kafka.ports.advertised, kafka.ports.proxied) as proxy:
        feed = world.feed(bootstrap_servers=kafka.proxied_bootstrap_servers)
        await feed.start()
        try:
            await feed.wait_ready()
            await proxy.refuse()
            cut = time.monotonic()
            await until(lambda: not leased(feed))
            assert time.monotonic() - cut <= LEASE_S + 0.2
            version = await world.publish(made.purpose("while-cut-off"))
            await proxy.accept_again()
            assert (await feed.wait_ready()).digest == version.digest
        finally:
            await feed.stop()


async def test_the_lease_counts_from_the_question_not_from_the_answer(
    world: World, kafka: EmbeddedKafka
) -> None:
    await world.publish(made.bus())
    async with KafkaProxy(kafka.ports.advertised, kafka.ports.proxied) as proxy:
        feed = world.feed(bootstrap_servers=kafka.proxied_bootstrap_servers)
        await feed.start()
        try:
            await feed.wait_ready()
            late = 1.5
            rule = proxy.delay(LIST_OFFSETS, late, side="response", count=1000)
            await rule.reached()
            await asyncio.sleep(3 * late)
            # Each answer is 1.5 s old when it comes, and counts so.
            assert feed.lease_age(time.monotonic()) >= late - 0.1
        finally:
            await feed.stop()


async def test_answers_that_stay_away_end_the_lease(world: World, kafka: EmbeddedKafka) -> None:
    await world.publish(made.bus())
    async with KafkaProxy(kafka.ports.advertised, kafka.ports.proxied) as proxy:
        feed = world.feed(bootstrap_servers=kafka.proxied_bootstrap_servers)
        await feed.start()
        try:
            await feed.wait_ready()
            rule = proxy.hold(LIST_OFFSETS, side="response", count=1000)
            await rule.reached()
            began = time.monotonic()
            await until(lambda: not leased(feed))
            assert time.monotonic() - began <= LEASE_S + 0.2
            proxy.heal()
            await feed.wait_ready()
        finally:
            await feed.stop()


async def test_a_process_that_was_paused_has_no_lease_when_it_wakes(
    world: World, tmp_path: Path
) -> None:
    await world.publish(made.bus())
    code = textwrap.dedent(f"""
        import asyncio, sys, time
        from pathlib import Path
        from shutong_core.runtime.keyring import Keyring
        from shutong_core.runtime.listfeed import ListFeed
        from shutong_core.wire.topics import Topics

        async def main():
            verify = Keyring(Path({str(world.ring.directory)!r})).verifier("control")
            feed = ListFeed({world.client!r}, Topics({world.topics.prefix!r}), verify)
            await feed.start()
            await feed.wait_ready()
            print("ready", flush=True)
            last = time.monotonic()
            while True:
                # As a broker does before EndTxn: no await between the clock and the answer.
                now = time.monotonic()
                ok = feed.lease_ok(now)
                if now - last > 3:
                    print("woke", ok, feed.version.number, flush=True)
                    await feed.wait_ready()
                    print("again", feed.version.number, flush=True)
                    return
                last = now
                await asyncio.sleep(0.01)

        asyncio.run(main())
    """)
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert process.stdout is not None

    async def said() -> str:
        while True:
            line = await asyncio.to_thread(process.stdout.readline)  # type: ignore[union-attr]
            if not line or line.split()[0] in {"ready", "woke", "again"}:
                return line.strip()

    try:
        assert await said() == "ready"
        os.kill(process.pid, signal.SIGSTOP)
        await world.publish(made.purpose("revoked-meanwhile"))
        await asyncio.sleep(LEASE_S + 0.5)
        os.kill(process.pid, signal.SIGCONT)
        assert await said() == "woke False 1"
        assert await said() == "again 2"
    finally:
        process.kill()
        process.wait()


async def test_topics_that_do_not_exist_yet_are_waited_for(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path
) -> None:
    world = World(kafka, prefix, Keyring(tmp_path / "ring"))
    feed = world.feed()
    await feed.start()
    try:
        await until(lambda: "does not exist yet" in str(feed.problem))
        await ensure_topics(world.client, control_specs(world.topics, 1, 1))
        await world.publish(made.bus())
        assert (await feed.wait_ready()).number == 1
    finally:
        await feed.stop()


async def test_without_a_list_waiting_ends_with_the_reason(feed: ListFeed) -> None:
    from shutong_core.domain.errors import Retryable

    with pytest.raises(Retryable, match="responsibility list"):
        await feed.wait_ready(timeout_s=1)


def every(records: Sequence[bytes]) -> list[tuple[None, bytes]]:
    return [(None, record) for record in records]


async def test_a_change_in_parts_takes_force_as_a_whole(world: World, feed: ListFeed) -> None:
    await world.publish(made.bus())
    await feed.wait_ready()
    rows = [made.purpose(f"p-{number:05d}", title="长" * 450) for number in range(1200)]
    version, records = world.change(*rows)
    assert len(records) > 2
    await world.write(world.topics.lists, *every(records[:1]))
    await asyncio.sleep(0.6)
    assert feed.version is not None
    assert feed.version.number == 1
    await world.write(world.topics.lists, *every(records[1:]))
    assert (await feed.wait_change(after=1)).digest == version.digest


async def test_while_a_large_list_is_taken_up_the_old_one_holds_and_everything_else_runs(
    world: World, feed: ListFeed
) -> None:
    await world.publish(made.bus())
    await until(lambda: feed.holds(1))
    rows = [made.purpose(f"p-{number:05d}", title="长" * 150) for number in range(4000)]
    version, records = world.change(*rows)
    turns: list[bool] = []

    async def other() -> None:
        while feed.version is None or feed.version.number == 1:
            # Between slices: no half of the new list is ever seen, and the old one may be used.
            turns.append(feed.holds(1) and feed.version is not None and len(feed.version.rows) == 1)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    try:
        async with asyncio.timeout(30):
            await world.write(world.topics.lists, *every(records))
            assert (await feed.wait_change(after=1)).digest == version.digest
            await task
    finally:
        task.cancel()
    assert len(turns) > 10
    assert all(turns)


async def test_a_list_that_is_known_but_not_taken_up_ends_the_lease_of_the_old_one_in_time(
    world: World, feed: ListFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.publish(made.bus())
    await until(lambda: feed.holds(1))
    stopped = asyncio.Event()

    async def never(_steps: Any, **_: Any) -> None:
        stopped.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("shutong_core.runtime.listfeed.in_slices", never)
    await world.publish(made.purpose("revoked"))
    await asyncio.wait_for(stopped.wait(), 15)
    began = time.monotonic()
    await until(lambda: not feed.holds(1))
    assert time.monotonic() - began <= LEASE_S + 0.2
    assert not leased(feed)


@pytest.mark.parametrize("adds", [True, False])
async def test_while_a_newer_list_waits_the_old_one_may_be_used_only_if_nothing_else_changed(
    world: World, feed: ListFeed, adds: bool
) -> None:
    await world.publish(made.bus(), made.purpose("relief"))
    await until(lambda: feed.holds(1))
    schema = schema_examples.one("string")
    reference = SchemaRef(version=1, id=7, guid=schema.guid, digest=schema.digest.hex())
    others = [] if adds else [made.purpose("relief", title="another title")]
    await world.publish(made.dataset(schemas=(reference,)), *others)
    await until(lambda: "schema 7" in str(feed.problem))
    # The list cannot be taken up before its schema comes: longer than any lease.
    end = time.monotonic() + LEASE_S + 1
    held = []
    while time.monotonic() < end:
        held.append(feed.holds(1))
        await asyncio.sleep(0.05)
    assert all(held) if adds else not held[-1]
    assert not feed.current, "nothing may be published after a list that is not taken up"
    registration = Registration(7, "minimum-living-value", 1, schema)
    await world.write(world.topics.schemas, encode_registration(registration))
    await until(lambda: feed.holds(2))


@pytest.mark.parametrize(("adds", "followed"), [(True, False), (False, False), (True, True)])
async def test_while_a_change_is_read_part_by_part_the_old_list_holds_only_if_it_only_adds(
    world: World, feed: ListFeed, monkeypatch: pytest.MonkeyPatch, adds: bool, followed: bool
) -> None:
    """`followed`: another list lies behind the change, and nobody knows yet what it takes away."""
    await world.publish(made.bus(), made.purpose("relief"))
    await until(lambda: feed.holds(1))
    rows = [made.purpose(f"p-{number:05d}", title="长" * 450) for number in range(1200)]
    others = [] if adds else [made.purpose("relief", title="another title")]
    _, records = world.change(*rows, *others)
    assert len(records) >= 3
    held: list[bool] = []
    real = feed._keep_word

    async def keep_word(consumer: Any, *, read: bool) -> None:
        # As slow as a reader beside busy lanes: longer than the lease in all.
        for _ in range(5):
            await asyncio.sleep(LEASE_S / 10)
            await real(consumer, read=read)
            held.append(feed.holds(1))

    monkeypatch.setattr(feed, "_keep_word", keep_word)
    behind = [records[0]] if followed else []
    await world.write(world.topics.lists, *every([*records, *behind]))
    await until(lambda: len(held) >= 5 * len(records), 30)
    # After the last part only the marker of the transaction is unread.
    of_parts = held[: 5 * (len(records) - 1)]
    assert held[0]
    assert all(of_parts) if adds and not followed else not held[5 * len(records) - 1]
    monkeypatch.undo()
    await until(lambda: feed.holds(2))


async def test_what_came_while_schemas_are_read_is_known_before_the_rest_of_them(
    world: World, feed: ListFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutong_core.runtime.listfeed.SCHEMAS_BETWEEN", 1)
    monkeypatch.setattr("shutong_core.runtime.listfeed.ASK_EVERY_MS", 1)
    await world.publish(made.bus(), made.purpose("relief"))
    await until(lambda: feed.holds(1))
    real, published = feed._keep_word, 0

    async def keep_word(consumer: Any, *, read: bool) -> None:
        nonlocal published
        published += 1
        if published == 1:
            await world.publish(made.purpose("relief", title="another title"))
        await real(consumer, read=read)
        if read:
            seen.append(feed.holds(1))
            await asyncio.sleep(LEASE_S / 4)

    seen: list[bool] = []
    monkeypatch.setattr(feed, "_keep_word", keep_word)
    names = ("string", "int", "boolean", "double", "long", "bytes", "float")
    registered = [
        encode_registration(Registration(number, f"s-{number}", 1, schema_examples.one(name)))
        for number, name in enumerate(names, 1)
    ]
    await world.write(world.topics.schemas, *registered)
    await until(lambda: len(seen) == len(names), 30)
    # The newer list changed a row: while the schemas are still read, the old one ends in time.
    assert seen[0]
    assert not seen[-1]
    monkeypatch.undo()
    await until(lambda: feed.holds(2))
    assert set(feed.schemas) == set(range(1, len(names) + 1))


async def test_what_was_taken_before_the_connection_broke_is_not_taken_twice(
    world: World, feed: ListFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.publish(made.bus())
    await feed.wait_ready()
    broken = 0

    async def breaks(*_: Any, **__: Any) -> None:
        nonlocal broken
        broken += 1
        raise TimeoutError

    monkeypatch.setattr("shutong_core.runtime.listfeed.SCHEMAS_BETWEEN", 1)
    monkeypatch.setattr("shutong_core.runtime.listfeed.ASK_EVERY_MS", -1)
    monkeypatch.setattr(feed, "_keep_word", breaks)
    names = ("string", "int", "boolean")
    schemas = [schema_examples.one(name) for name in names]
    registered = [
        encode_registration(Registration(number, f"s-{number}", 1, schema))
        for number, schema in enumerate(schemas, 1)
    ]
    await world.write(world.topics.schemas, *registered)
    await until(lambda: broken >= 2)
    monkeypatch.undo()
    await until(lambda: set(feed.schemas) == {1, 2, 3})
    assert feed.refused == 0
