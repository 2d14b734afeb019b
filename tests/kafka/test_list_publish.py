"""A list file put in force on a real Kafka: numbers, ids, refusals, rivals, false records."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from shutong_cli.publishing import PublishReport, publish_list_file
from shutong_cli.reading import following, read_current
from shutong_core.domain.changes import encode_change, make_change
from shutong_core.domain.errors import Fatal, Rejected, Retryable
from shutong_core.domain.findings import ListRefused
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import Difference, ensure_topics, existing_topics
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.keyring import Keyring
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import KafkaSettings, Settings
from shutong_core.wire.schemarecords import Registry
from shutong_core.wire.topics import TopicSpec, topic_specs

pytestmark = pytest.mark.kafka
STORY = Path(__file__).resolve().parents[2] / "deploy/samples/story"


@pytest.fixture
def node(kafka: EmbeddedKafka, prefix: str, tmp_path: Path) -> Node:
    """A node with a keyring of its own on the session's Kafka."""
    return Node("cli", settings(kafka, prefix, tmp_path / "data"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of the sample list that a test may change."""
    shutil.copytree(STORY, tmp_path / "story")
    return tmp_path / "story" / "list.yaml"


def settings(kafka: EmbeddedKafka, prefix: str, data_dir: Path) -> Settings:
    return Settings(
        prefix=prefix,
        data_dir=data_dir,
        kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, replication=1, min_isr=1),
    )


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def change_a_grant(file: Path) -> None:
    edit(file, "scenario: 省内统计报表的区划对照", "scenario: 省内统计年报的区划对照")


def line_of(file: Path, number: int) -> str:
    return file.read_text(encoding="utf-8").splitlines()[number - 1].strip()


async def write(node: Node, *values: bytes) -> None:
    """Put records into control.lists behind the publisher's back."""
    producer = AIOKafkaProducer(**node.client)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(node.topics.lists, value, partition=0)
    finally:
        await producer.stop()


def ids(registry: Registry) -> dict[str, list[int]]:
    return {name: [each.id for each in registry.versions(name)] for name in registry.subjects}


async def test_the_first_list_gets_number_one_with_its_topics_and_schemas(
    node: Node, file: Path
) -> None:
    report = await publish_list_file(node, file)
    assert report.version.number == 1
    assert report.changes is not None
    assert len(report.changes.added) == len(report.version.rows)
    assert report.changes.changed == report.changes.removed == ()
    assert report.keyring_made == node.settings.keyring_dir
    assert report.topics_different == ()
    specs = {spec.name for spec in topic_specs(report.version, node.topics, 1, 1)}
    assert specs == set(report.topics_made)
    assert await existing_topics(node.client, node.topics.prefix) == specs
    version, registry = await read_current(node)
    assert version is not None
    assert (version.number, version.digest) == (1, report.version.digest)
    assert ids(registry)[f"{node.topics.inbound('divisions-2023')}-value"] == [1]
    assert len(report.registrations) == sum(map(len, ids(registry).values()))


async def test_the_same_file_again_changes_nothing(node: Node, file: Path) -> None:
    first = await publish_list_file(node, file)
    again = await publish_list_file(node, file)
    assert again.changes is None
    assert again.version.number == 1
    assert again.version.digest == first.version.digest
    assert (again.topics_made, again.registrations, again.keyring_made) == ((), (), None)


async def test_a_changed_grant_makes_number_two_and_keeps_every_schema_id(
    node: Node, file: Path
) -> None:
    await publish_list_file(node, file)
    _, before = await read_current(node)
    change_a_grant(file)
    report = await publish_list_file(node, file)
    assert report.version.number == 2
    assert report.changes is not None
    assert report.changes.changed == ("grant/divisions-guangdong",)
    assert report.changes.added == report.changes.removed == ()
    assert report.registrations == ()
    version, after = await read_current(node)
    assert version is not None
    assert version.number == 2
    assert ids(after) == ids(before)


async def test_a_dry_run_says_the_same_and_writes_nothing(node: Node, file: Path) -> None:
    report = await publish_list_file(node, file, dry_run=True)
    assert report.dry_run
    assert report.version.number == 1
    assert report.changes is not None
    assert node.topics.lists in report.topics_made
    assert await existing_topics(node.client, node.topics.prefix) == frozenset()
    await publish_list_file(node, file)
    change_a_grant(file)
    foreseen = await publish_list_file(node, file, dry_run=True)
    assert (foreseen.version.number, foreseen.topics_made) == (2, ())
    version, _ = await read_current(node)
    assert version is not None
    assert version.number == 1


async def test_a_broken_file_changes_nothing_and_names_the_line(node: Node, file: Path) -> None:
    await publish_list_file(node, file)
    before, registered = await read_current(node)
    edit(file, "scenario: 省内统计报表的区划对照", "scenario: 对照\n    purposes: [x]")
    with pytest.raises(ListRefused) as caught:
        await publish_list_file(node, file)
    place = caught.value.problems[0]
    assert line_of(file, place.line) == "purposes: [x]"
    after, still = await read_current(node)
    assert before is not None
    assert after is not None
    assert (after.number, after.digest) == (before.number, before.digest)
    assert ids(still) == ids(registered)


async def test_a_list_that_breaks_a_rule_across_rows_is_refused_before_anything_is_written(
    node: Node, file: Path
) -> None:
    edit(file, "purpose: statistics\n", "purpose: fund-oversight\n")
    with pytest.raises(ListRefused) as caught:
        await publish_list_file(node, file)
    assert caught.value.problems[0].line > 1
    assert await read_current(node) == (None, Registry())


async def test_two_publishers_at_once_leave_one_consistent_history(
    kafka: EmbeddedKafka, node: Node, file: Path, tmp_path: Path
) -> None:
    await publish_list_file(node, file)
    other = tmp_path / "other"
    shutil.copytree(file.parent, other)
    change_a_grant(file)
    edit(other / "list.yaml", "title: 区划代码对照", "title: 区划代码核对")
    second = Node("cli", node.settings)
    done = await asyncio.gather(
        publish_list_file(node, file),
        publish_list_file(second, other / "list.yaml"),
        return_exceptions=True,
    )
    published = [each for each in done if isinstance(each, PublishReport)]
    assert published
    assert all(isinstance(each, PublishReport | Retryable) for each in done)
    version, _ = await read_current(node)
    assert version is not None
    assert version.number == 1 + len(published)
    assert version.digest in {each.version.digest for each in published}
    # Whoever was fenced succeeds by publishing again.
    last = await publish_list_file(node, file)
    assert last.version.number in (version.number, version.number + 1)


async def test_false_records_are_refused_and_a_good_list_put_in_their_place_is_taken(
    node: Node, file: Path, tmp_path: Path
) -> None:
    first = await publish_list_file(node, file)
    stranger = Keyring(tmp_path / "stranger").signer("control")
    _, parts = make_change(
        first.version, (), ("grant/divisions-guangdong",), first.version.effective_ms + 1
    )
    async with following(node) as feed:
        await feed.wait_ready()
        await write(node, encode_change(parts[0], stranger), b"\x00garbage", b"{}")
        await _until(lambda: feed.refused == 3)
        assert feed.problem is not None
        assert held(feed.version) == 1
        await feed.caught_up()
        assert not feed.current, "it may be the next list under a key that others trust already"
        change_a_grant(file)
        with pytest.raises(Fatal, match="--overrule"):
            await publish_list_file(node, file)
        report = await publish_list_file(node, file, overrule=True)
        assert report.version.number == 2
        version = await asyncio.wait_for(feed.wait_change(1), 10)
        assert (version.number, version.digest) == (2, report.version.digest)


async def test_another_keyring_never_begins_a_second_history(
    kafka: EmbeddedKafka, node: Node, file: Path, tmp_path: Path
) -> None:
    await publish_list_file(node, file)
    stranger = Node("cli", settings(kafka, node.topics.prefix, tmp_path / "elsewhere"))
    with pytest.raises(Fatal, match="keyring"):
        await publish_list_file(stranger, file)
    version, _ = await read_current(node)
    assert held(version) == 1


async def test_a_missing_schema_file_is_named_with_its_line(node: Node, file: Path) -> None:
    (file.parent / "schemas/divisions-2023.avsc").unlink()
    with pytest.raises(Rejected, match=r"list\.yaml:\d+:\d+: dataset/divisions-2023 schema_files"):
        await publish_list_file(node, file)


def held(version: ListVersion | None) -> int:
    return version.number if version else 0


async def _until(true: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_topic_that_is_otherwise_than_the_list_asks_is_told_and_left(
    node: Node, file: Path
) -> None:
    receipts = TopicSpec(node.topics.receipts, 1, 1, {"retention.ms": "1000"})
    await ensure_topics(node.client, [receipts])
    report = await publish_list_file(node, file)
    assert Difference(receipts.name, "retention.ms", "-1", "1000") in report.topics_different
    assert receipts.name not in report.topics_made
    again = await publish_list_file(node, file)
    assert again.topics_different == report.topics_different
