"""Topics: names that Kafka takes, and the settings a list version asks for."""

from __future__ import annotations

import listing_fixtures as given_list
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shutong_core.domain.errors import Rejected
from shutong_core.wire.topics import (
    PREFIX_CHARS_MAX,
    TOPIC_CHARS_MAX,
    Topics,
    TopicSpec,
    control_specs,
    delivery_partition,
    topic_specs,
)

IDENTIFIERS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,47}", fullmatch=True)
LONGEST_ID = "a" * 48
DAY_MS = 86_400_000


def test_names_stand_under_the_prefix() -> None:
    topics = Topics("node-1")
    assert topics.inbound("births") == "node-1.inbound.births"
    assert topics.delivery("births-civil") == "node-1.delivery.births-civil"
    assert [
        topics.quarantine,
        topics.audit,
        topics.lanes,
        topics.access,
        topics.receipts,
        topics.checkpoints,
        topics.lists,
        topics.schemas,
    ] == [
        "node-1.quarantine",
        "node-1.audit",
        "node-1.lanes",
        "node-1.access",
        "node-1.receipts",
        "node-1.checkpoints",
        "node-1.control.lists",
        "node-1.control.schemas",
    ]


@given(IDENTIFIERS)
def test_names_parse_back(identifier: str) -> None:
    topics = Topics("a.b")
    assert topics.dataset_of(topics.inbound(identifier)) == identifier
    assert topics.grant_of(topics.delivery(identifier)) == identifier
    assert topics.grant_of(topics.inbound(identifier)) is None
    assert topics.dataset_of(topics.delivery(identifier)) is None


@given(st.text(max_size=40) | st.text(max_size=20).map("shutong.inbound.".__add__))
def test_any_text_is_a_dataset_topic_or_none(text: str) -> None:
    topics = Topics()
    found = topics.dataset_of(text)
    assert found is None or topics.inbound(found) == text


def test_the_longest_prefix_with_the_longest_id_fits_kafka() -> None:
    topics = Topics("p" * PREFIX_CHARS_MAX)
    assert len(topics.delivery(LONGEST_ID)) == TOPIC_CHARS_MAX
    assert max(len(topics.schemas), len(topics.inbound(LONGEST_ID))) <= TOPIC_CHARS_MAX


@pytest.mark.parametrize("prefix", ["", "a b", "政务", "a\n", "p" * (PREFIX_CHARS_MAX + 1)])
def test_a_prefix_kafka_would_refuse_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="topic prefix"):
        Topics(prefix)


@pytest.mark.parametrize("identifier", ["", "A", "a.b", "-a", "a\n", "a" * 49])
def test_only_ids_become_names(identifier: str) -> None:
    for name in (Topics().inbound, Topics().delivery):
        with pytest.raises(ValueError, match="an id is"):
            name(identifier)


def specs(**bus: int) -> dict[str, TopicSpec]:
    version = given_list.minimal(given_list.bus(**bus))
    return {spec.name: spec for spec in topic_specs(version, Topics("t"), 3, 2)}


def test_every_topic_of_the_list_is_there_once() -> None:
    version = given_list.minimal()
    names = [spec.name for spec in topic_specs(version, Topics("t"), 1, 1)]
    assert sorted(names) == sorted(
        [
            *(f"t.{name}" for name in ("quarantine", "audit", "lanes", "access", "receipts")),
            "t.checkpoints",
            "t.control.lists",
            "t.control.schemas",
            "t.inbound.minimum-living",
            "t.delivery.minimum-living-meizhou",
        ]
    )


def test_partitions_follow_the_lanes_except_where_one_order_is_needed() -> None:
    found = {name: spec.partitions for name, spec in specs(lanes=6).items()}
    assert {name for name, count in found.items() if count == 1} == {
        "t.receipts",
        "t.checkpoints",
        "t.control.lists",
        "t.control.schemas",
        "t.delivery.minimum-living-meizhou",
    }
    assert {count for count in found.values() if count != 1} == {6}


def test_a_grant_may_ask_for_as_many_partitions_as_lanes() -> None:
    version = given_list.minimal(given_list.grant(partitions="lanes"))
    found = {spec.name: spec for spec in topic_specs(version, Topics("t"), 1, 1)}
    assert found["t.delivery.minimum-living-meizhou"].partitions == 6
    assert [delivery_partition(lane, 6) for lane in range(6)] == [0, 1, 2, 3, 4, 5]
    assert {delivery_partition(lane, 1) for lane in range(6)} == {0}


def test_every_topic_has_kafkas_time_and_survives_one_lost_replica() -> None:
    for spec in specs().values():
        assert spec.replication == 3
        assert spec.configs["message.timestamp.type"] == "LogAppendTime"
        assert spec.configs["min.insync.replicas"] == "2"
        assert spec.configs["unclean.leader.election.enable"] == "false"


def test_inbound_is_unpacked_and_measured_by_kafka() -> None:
    configs = specs()["t.inbound.minimum-living"].configs
    assert configs["compression.type"] == "uncompressed"
    assert configs["max.message.bytes"] == str(1024 * 1024)
    assert configs["retention.ms"] == str(400 * DAY_MS)


def test_delivery_is_kept_as_long_as_the_grant_says() -> None:
    configs = specs()["t.delivery.minimum-living-meizhou"].configs
    assert configs["retention.ms"] == str(30 * DAY_MS)
    assert configs["max.message.bytes"] == str(2 * 1024 * 1024)


def test_what_proves_is_never_deleted_by_age() -> None:
    found = specs()
    for name in ("audit", "access", "receipts", "checkpoints", "control.lists", "control.schemas"):
        assert found[f"t.{name}"].configs["retention.ms"] == "-1"
        assert found[f"t.{name}"].configs["cleanup.policy"] == "delete"


def test_quarantine_is_kept_for_the_audits_term() -> None:
    configs = specs(audit_term_days=2000)["t.quarantine"].configs
    assert configs["retention.ms"] == str(2000 * DAY_MS)


def test_only_lanes_is_compacted() -> None:
    compacted = [n for n, s in specs().items() if s.configs["cleanup.policy"] == "compact"]
    assert compacted == ["t.lanes"]


def test_the_control_topics_need_no_list() -> None:
    first = control_specs(Topics("t"), 1, 1)
    assert [spec.name for spec in first] == ["t.control.lists", "t.control.schemas"]
    assert topic_specs(given_list.minimal(), Topics("t"), 1, 1)[:2] == first


def test_a_list_without_the_bus_row_is_rejected() -> None:
    with pytest.raises(Rejected, match="bus/bus"):
        topic_specs(given_list.minimal(without=("bus/bus",)), Topics("t"), 1, 1)
