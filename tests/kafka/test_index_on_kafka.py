"""The index on a real Kafka: follows audit and access under signed lists; the commands that ask."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from kafka.test_cli_on_kafka import ENVIRONMENT, STORY, answer, change_a_grant
from shutong_auditor.deskservice import OpenBus, open_desk
from shutong_auditor.index.engine import open_index
from shutong_auditor.index.events import EventQuestion, events
from shutong_auditor.index.indexer import day_of
from shutong_auditor.index.listshelf import ListShelf
from shutong_auditor.index.questions import Question, last_blocks, sums
from shutong_auditor.service import index_follower
from shutong_core.audit.block import NO_BLOCK, Block, BlockBuilder, BlockFacts
from shutong_core.audit.chain import SEGMENT_HEADER, Segment, extend, genesis
from shutong_core.domain.errors import Rejected
from shutong_core.domain.reasons import Reason
from shutong_core.runtime.ackedwriter import AckedWriter
from shutong_core.runtime.cluster import bus_name
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.logs import configure_logs
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import load_settings
from unit.cli_runner import clean_logs, shutong

__all__ = ["clean_logs"]
pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("clean_logs")]
DATASET, GRANT = "subsistence-allowance", "allowance-meizhou-medical-aid"
ROWS = 10
PLACED = 6  # of each block's rows; one is refused


@dataclass
class IndexedBus:
    """A bus whose lists are published by command and whose blocks are written here."""

    node: Node
    file: Path
    cluster: str = ""
    publisher: str = ""
    heads: dict[int, bytes] = field(default_factory=dict)
    sequences: dict[int, int] = field(default_factory=dict)
    chains: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    digests: dict[int, bytes] = field(default_factory=dict)

    def publish(self) -> None:
        assert shutong("list", "publish", str(self.file)).exit_code == 0
        steps = answer("list", "history")
        self.digests = {each["number"]: bytes.fromhex(each["digest"]) for each in steps}

    async def begin(self) -> None:
        self.cluster = await bus_name(self.node.client, self.node.settings.prefix)
        rows = (await asyncio.to_thread(answer, "list", "show", "dataset"))["rows"]
        row = next(each for each in rows if each["id"] == DATASET)
        self.publisher = [*(row.get("publishers") or ()), {"organisation": row["provider"]}][0][
            "organisation"
        ]

    def block(self, lane: int, list_number: int) -> tuple[Block, list[Any]]:
        """The lane's next block, and the records it places."""
        sequence = self.sequences.get(lane, 0) + 1
        builder = BlockBuilder(hashlib.sha256(f"{lane} {sequence}".encode()).digest()[:16])
        first = (sequence - 1) * ROWS
        part = builder.add_input(DATASET, first)
        for number in range(ROWS):
            refused = Reason.OUT_OF_JURISDICTION if number == ROWS - 1 else None
            row = part.add_row(
                first + number, f"{self.publisher}/s", bytes(32), (), None, 0, refused
            )
            if number < PLACED:
                part.allow(row, GRANT)
        part.end(first + ROWS)
        k, chain = self.chains.get(lane, (0, genesis(self.cluster, GRANT, lane)))
        pairs = [(b"k%d" % n, b"v%d" % (k + n)) for n in range(1, PLACED + 1)]
        header = [(SEGMENT_HEADER, Segment(lane, k + 1, chain).encode())]
        after = extend(chain, pairs)
        part.place(GRANT, k + 1, 40, after)
        facts = BlockFacts(
            cluster=self.cluster,
            lane=lane,
            sequence=sequence,
            previous=self.heads.get(lane, NO_BLOCK),
            list_number=list_number,
            list_digest=self.digests[list_number],
            engine="test",
            decided_ms=int(time.time() * 1000),
            division_digest=bytes(32),
            instance=bytes(16),
        )
        made = builder.build(facts, None)
        self.sequences[lane], self.heads[lane] = sequence, made.hash
        self.chains[lane] = (k + PLACED, after)
        return made, [(header if not n else [], *pair) for n, pair in enumerate(pairs)]

    async def decide(self, *wanted: tuple[int, int], lose: Sequence[int] = ()) -> None:
        """Blocks of (lane, list number) with their deliveries, but records `lose` of each."""
        topics = self.node.topics
        producer = AIOKafkaProducer(**self.node.client)
        await producer.start()
        try:
            for lane, number in wanted:
                made, placed = self.block(lane, number)
                await producer.send_and_wait(topics.audit, made.body, made.header, lane)
                for at, (headers, key, value) in enumerate(placed):
                    if at not in lose:
                        await producer.send_and_wait(
                            topics.delivery(GRANT), value, key, 0, headers=headers
                        )
        finally:
            await producer.stop()

    def shelf(self, kept_max: int = 1) -> ListShelf:
        verify = self.node.keyring.verifier("control")
        return ListShelf(self.node.client, self.node.topics.lists, verify, kept_max)


@pytest.fixture
async def bus(
    kafka: EmbeddedKafka, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> IndexedBus:
    given = ENVIRONMENT | {
        "PREFIX": prefix,
        "DATA_DIR": str(tmp_path / "data"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "AUDITOR_HTTP_PORT": "0",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"SHUTONG_{name}", value)
    shutil.copytree(STORY, tmp_path / "story")
    made = IndexedBus(Node("cli", load_settings()), tmp_path / "story" / "list.yaml")
    await asyncio.to_thread(made.publish)
    await made.begin()
    return made


async def asked(*arguments: str) -> Any:
    """What a command answers as JSON."""
    return await asyncio.to_thread(answer, *arguments)


async def three_lists(bus: IndexedBus) -> None:
    text = bus.file.read_text(encoding="utf-8")
    change_a_grant(bus.file)
    await asyncio.to_thread(bus.publish)
    bus.file.write_text(text, encoding="utf-8")
    await asyncio.to_thread(bus.publish)
    assert sorted(bus.digests) == [1, 2, 3]


async def test_blocks_of_several_lists_are_indexed_and_asked_by_command(bus: IndexedBus) -> None:
    await three_lists(bus)
    await bus.decide((0, 1), (1, 3), (0, 2), (2, 1), (0, 3))
    done = await asyncio.to_thread(shutong, "audit", "index")
    assert "5 blocks were new" in done.stdout, done.output
    again = await asyncio.to_thread(shutong, "audit", "index")
    assert "0 blocks were new" in again.stdout

    found = await asked("audit", "search", "--grant", GRANT, "--by", "list_number,verdict")
    placed = {
        each["list_number"]: each["count"] for each in found["lines"] if each["verdict"] == "placed"
    }
    assert placed == {1: 2 * PLACED, 2: PLACED, 3: 2 * PLACED}
    by_block = await asked("audit", "search", "--grant", GRANT, "--by", "lane,sequence")
    assert len(by_block["lines"]) == 5
    mine = await asked("audit", "search", "--publisher", bus.publisher, "--by", "verdict")
    assert sum(each["count"] for each in mine["lines"]) > 0
    nobody = await asked("audit", "search", "--publisher", "nobody", "--by", "verdict")
    assert nobody["lines"] == []
    matrix = await asked("audit", "matrix")
    assert sum(each["count"] for each in matrix["lines"]) == 5 * PLACED

    acts = events(
        open_index(None, bus.node.settings.data_dir), EventQuestion(action="list.activate")
    )[0]
    assert [each["target"] for each in acts] == ["list/3", "list/2", "list/1"]

    before = await asked("audit", "search", "--by", "day,grant_id,verdict")
    rebuilt = await asyncio.to_thread(shutong, "audit", "index", "--rebuild")
    assert "5 blocks were new" in rebuilt.stdout
    assert await asked("audit", "search", "--by", "day,grant_id,verdict") == before


async def test_a_day_is_reconciled_to_zero_or_the_numbers_are_named(bus: IndexedBus) -> None:
    await bus.decide((0, 1), (1, 1), (0, 1))
    await asyncio.to_thread(shutong, "audit", "index")
    day = day_of(int(time.time() * 1000))
    told = await asked("audit", "reconcile", day)
    (grant,) = told["grants"]
    assert (told["ok"], grant["audited"], grant["in_topic"]) == (True, 3 * PLACED, 3 * PLACED)
    await bus.decide((0, 1), lose=(2, 3))
    await asyncio.to_thread(shutong, "audit", "index")
    done = await asyncio.to_thread(shutong, "audit", "reconcile", day, "--json")
    assert done.exit_code == 1
    (grant,) = json.loads(done.stdout)["grants"]
    # Where two are lost, what follows cannot be told apart from a shorter segment.
    (difference,) = grant["differences"]
    assert difference["en"] == "lane 0: the topic lacks 2, numbers 17–18"
    assert grant["audited"] - grant["in_topic"] == 2


async def test_a_block_that_came_twice_to_a_topic_is_named(bus: IndexedBus) -> None:
    await bus.decide((0, 1))
    bus.chains[0] = (0, genesis(bus.cluster, GRANT, 0))
    saved = dict(bus.sequences), dict(bus.heads)
    topics, (_, placed) = bus.node.topics, bus.block(0, 1)
    bus.sequences, bus.heads = saved
    producer = AIOKafkaProducer(**bus.node.client)
    await producer.start()
    for headers, key, value in placed:
        await producer.send_and_wait(topics.delivery(GRANT), value, key, 0, headers=headers)
    await producer.stop()
    await asyncio.to_thread(shutong, "audit", "index")
    day = day_of(int(time.time() * 1000))
    done = await asyncio.to_thread(shutong, "audit", "reconcile", day, "--json")
    (grant,) = json.loads(done.stdout)["grants"]
    assert grant["differences"][0]["en"] == f"lane 0: the topic repeats {PLACED}"


async def test_the_follower_goes_on_as_blocks_and_events_come(bus: IndexedBus) -> None:
    await bus.decide((0, 1))
    lanes = 6
    engine = open_index(None, bus.node.settings.data_dir)
    follower = index_follower(bus.node, engine, bus.cluster, lanes)
    assert not await follower.caught_up(0.1)
    follower.start()
    try:
        assert await follower.caught_up(20)
        assert last_blocks(engine) == {0: 1}
        await bus.decide((0, 1), (3, 1))
        await asyncio.to_thread(shutong, "key", "issue", "wuhua-civil")
        assert await follower.caught_up(20)
        assert last_blocks(engine) == {0: 2, 3: 1}
        assert events(engine, EventQuestion(action="key.issue"))[0]
        assert follower.problem is None
    finally:
        await follower.stop()
    total = sums(engine, Question(verdict="placed"), ()).lines[0][-1]
    assert total == 3 * PLACED


async def test_a_block_without_its_list_stops_the_index_and_says_so(bus: IndexedBus) -> None:
    bus.digests[9] = bytes(32)
    await bus.decide((0, 9))
    engine = open_index(None, bus.node.settings.data_dir)
    follower = index_follower(bus.node, engine, bus.cluster, 6)
    follower._list_s = 0.5
    with pytest.raises(Rejected, match="list 9"):
        await follower.run_once()
    assert last_blocks(engine) == {}


async def test_a_shelf_of_one_list_gives_any_of_them_and_no_other(bus: IndexedBus) -> None:
    await three_lists(bus)
    shelf = bus.shelf()
    try:
        for number in (3, 1, 2, 2, 1, 3):
            version = await shelf.get(number, bus.digests[number], 10)
            assert (version.number, version.digest) == (number, bus.digests[number])
            assert len(shelf._kept) == 1
        with pytest.raises(Rejected, match="another list 3"):
            await shelf.get(3, bytes(32), 10)
        with pytest.raises(Rejected, match="does not have"):
            await shelf.get(4, bytes(32), 0.5)
    finally:
        await shelf.close()


async def test_a_requester_files_its_record_of_use_by_command(
    bus: IndexedBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A command sends logs to a stderr that closes with it; here a service of this process goes on.
    monkeypatch.setattr("shutong_cli.session.configure_logs", lambda *_: None)
    log = (tmp_path / "log").open("w", encoding="utf-8")
    configure_logs("auditor", "info", log)
    rows = (await asked("list", "show", "grant"))["rows"]
    requester = next(each["requester"] for each in rows if each["id"] == GRANT)
    systems = (await asked("list", "show", "system"))["rows"]
    system = next(each["id"] for each in systems if each["organisation"] == requester)
    key = tmp_path / "s.key"
    done = await asyncio.to_thread(shutong, "key", "issue", system, "--out", str(key))
    assert done.exit_code == 0, done.output
    use = {
        "grant": GRANT, "first_day": "2026-11-01", "last_day": "2026-11-26", "scenario": "医疗救助",
        "process": "比对", "effect": "免证明", "storage": "专网", "destruction": "期满清除",
    }  # fmt: skip
    file = tmp_path / "use.json"
    file.write_text(json.dumps(use), encoding="utf-8")
    node = bus.node
    engine = open_index(None, node.settings.data_dir)
    writer = AckedWriter(node.client)
    await writer.start()
    await writer.wait_ready(15)
    follower = index_follower(node, engine, bus.cluster, 6)
    follower.start()
    try:
        async with open_desk(node, OpenBus(bus.cluster, 6, engine, follower, writer)) as http:
            common = ("--key-file", str(key), "--url", http.url)
            for _ in range(100):  # the desk waits for word that the list is the newest
                told = await asyncio.to_thread(
                    shutong, "audit", "use-record", "file", str(file), *common, "--json"
                )
                if told.exit_code != 75:
                    break
                await asyncio.sleep(0.1)
            assert told.exit_code == 0, told.output
            filed = json.loads(told.stdout)
            listed = await asked("audit", "use-record", "list", *common)
            assert [each["id"] for each in listed["records"]] == [filed["id"]]
            file.write_text(json.dumps(use | {"grant": "divisions-guangdong"}), encoding="utf-8")
            refused = await asyncio.to_thread(
                shutong, "audit", "use-record", "file", str(file), *common
            )
            assert refused.exit_code == 2
            assert "NOT_YOUR_GRANT" in refused.stderr
            assert await follower.caught_up(20)
        acts = events(engine, EventQuestion(target=f"grant/{GRANT}", action="use.record"))[0]
        assert filed["digest"] in acts[0]["detail"]
    finally:
        await follower.stop()
        await writer.close()
    assert "救助" not in (tmp_path / "log").read_text(encoding="utf-8")


async def test_nothing_is_purged_within_its_term(bus: IndexedBus) -> None:
    await bus.decide((0, 1))
    await asyncio.to_thread(shutong, "audit", "index")
    for day in ("2026-01-01", "2099-01-01", day_of(int(time.time() * 1000))):
        done = await asyncio.to_thread(shutong, "audit", "purge", day)
        assert done.exit_code == 2, done.output
        assert "1096" in done.stderr
    done = await asyncio.to_thread(shutong, "audit", "purge", "2020-01-01")
    assert (done.exit_code, "0 blocks" in done.stdout) == (0, True)
    found = await asked("audit", "search", "--by", "verdict")
    assert found["lines"]
