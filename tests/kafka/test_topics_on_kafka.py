"""Real Kafka takes the topics as specified, and real clients pick the lanes we compute."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.wire.keys import partition_of
from shutong_core.wire.topics import Topics, TopicSpec, topic_specs
from unit import listing_fixtures

pytestmark = pytest.mark.kafka
LANES = 6


def create(kafka: EmbeddedKafka, specs: tuple[TopicSpec, ...]) -> AdminClient:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    wanted = [
        NewTopic(spec.name, spec.partitions, spec.replication, config=dict(spec.configs))
        for spec in specs
    ]
    for done in admin.create_topics(wanted, operation_timeout=20).values():
        done.result(30)
    return admin


def test_kafka_takes_every_topic_with_its_partitions_and_settings(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    specs = topic_specs(listing_fixtures.minimal(), Topics(prefix), 1, 1)
    admin = create(kafka, specs)
    topics = admin.list_topics(timeout=20).topics
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs]
    for spec, (_, found) in zip(specs, admin.describe_configs(resources).items(), strict=True):
        assert len(topics[spec.name].partitions) == spec.partitions
        settings_found = {name: entry.value for name, entry in found.result(30).items()}
        assert {name: settings_found[name] for name in spec.configs} == spec.configs


def test_the_longest_name_we_allow_is_allowed_by_kafka(kafka: EmbeddedKafka, prefix: str) -> None:
    topics = Topics(prefix + "p" * (191 - len(prefix)))
    name = topics.delivery("a" * 48)
    assert len(name) == 249
    create(kafka, (TopicSpec(name, 1, 1, {}),))
    with pytest.raises(KafkaException):
        create(kafka, (TopicSpec(name + "a", 1, 1, {}),))


def test_librdkafka_with_murmur2_random_writes_to_the_lane_we_compute(
    kafka: EmbeddedKafka, prefix: str
) -> None:
    topic = Topics(prefix).inbound("births")
    create(kafka, (TopicSpec(topic, LANES, 1, {}),))
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"}
    )
    where: dict[bytes, int] = {}

    def written(error: object, message: Message) -> None:
        assert error is None
        where[bytes(message.key() or b"")] = message.partition() or 0

    keys = [bytes(range(start, start + size)) for size in range(1, 60) for start in (0, 100, 190)]
    for key in keys:
        producer.produce(topic, key=key, value=b"", on_delivery=written)
    assert producer.flush(30) == 0
    assert where == {key: partition_of(key, LANES) for key in keys}
