"""The schema registry read by Confluent's own client, records of a real Kafka decoded by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import Schema as ConfluentSchema
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext

from shutong_control.service import serve
from shutong_core.runtime.cluster import ensure_topics
from shutong_core.runtime.freeports import free_port
from shutong_core.runtime.kafka_server import EmbeddedKafka
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.node import Node
from shutong_core.runtime.settings import Settings
from shutong_core.wire.codec import encode
from shutong_core.wire.framing import frame, guid_header
from shutong_core.wire.schemarecords import Registry, encode_registration
from shutong_core.wire.topics import Topics, TopicSpec, control_specs
from unit.policy_world import MEIZHOU_GRANT, RECORD, World, schema, typed

pytestmark = pytest.mark.kafka
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class Control:
    """A running control service; `ask` calls Confluent's client off the event loop."""

    def __init__(self, node: Node, url: str, registry: Registry) -> None:
        self.node = node
        self.url = url
        self.registry = registry
        self.client = SchemaRegistryClient({"url": url})
        self.inbound = f"{node.topics.inbound('minimum-living')}-value"
        self.delivery = f"{node.topics.delivery(MEIZHOU_GRANT)}-value"

    async def get(self, path: str, **more: Any) -> tuple[int, Any]:
        return await self.call("GET", path, **more)

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with httpx2.AsyncClient() as http:
            answer = await http.request(method, self.url + path, **more)
        assert answer.headers["content-type"] == MEDIA_TYPE
        return answer.status_code, answer.json()


@pytest.fixture
async def control(kafka: EmbeddedKafka, prefix: str, tmp_path: Path) -> AsyncIterator[Control]:
    node = Node(
        "control",
        Settings(
            prefix=prefix,
            data_dir=tmp_path,
            kafka={"bootstrap_servers": kafka.bootstrap_servers},
            control={"http_port": free_port(), "admin_port": 0},
        ),
    )
    await ensure_topics(node.client, control_specs(node.topics, 1, 1))
    registry = registered(node.topics)
    producer = AIOKafkaProducer(**node.client)
    await producer.start()
    for subject in registry.subjects:
        for each in registry.versions(subject):
            key, value = encode_registration(each)
            await producer.send_and_wait(node.topics.schemas, value, key, partition=0)
    await producer.stop()
    stop = Stop()
    service = asyncio.create_task(serve(node, stop))
    url = f"http://127.0.0.1:{node.settings.control.http_port}"
    await until_ready(url)
    yield Control(node, url, registry)
    stop.request()
    await asyncio.wait_for(service, 10)


def registered(topics: Topics) -> Registry:
    """Two versions of a dataset's schema, and what a grant delivers of them."""
    registry = Registry()
    subject = f"{topics.inbound('minimum-living')}-value"
    registry.allot(subject, schema({"remarks": None}))
    registry.allot(subject, schema())
    for each in World().version.grants_by_dataset["minimum-living"]:
        delivered = World().schemas[each.projections[0].delivered_id]
        registry.allot(f"{topics.delivery(each.id)}-value", delivered)
    return registry


async def until_ready(url: str) -> None:
    async with asyncio.timeout(15), httpx2.AsyncClient() as http:
        while True:
            try:
                answer = await http.get(f"{url}/subjects")
                if answer.status_code == 200 and answer.json():
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


async def test_records_in_prefix_and_in_header_mode_are_decoded_by_confluents_deserialiser(
    control: Control,
) -> None:
    topic = control.node.topics.inbound("minimum-living")
    await ensure_topics(control.node.client, [TopicSpec(topic, 1, 1)])
    registration = control.registry.versions(control.inbound)[1]
    datum = typed(RECORD, registration.schema)
    body = encode(registration.schema, datum)
    producer = AIOKafkaProducer(**control.node.client)
    await producer.start()
    await producer.send_and_wait(topic, frame(registration.id, body), partition=0)
    header = guid_header(registration.guid)
    await producer.send_and_wait(topic, body, partition=0, headers=[header])
    await producer.stop()

    def read() -> list[Any]:
        servers = control.node.settings.kafka.bootstrap_servers
        consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([topic])
        decode = AvroDeserializer(control.client)
        found: list[Any] = []
        while len(found) < 2:
            message = consumer.poll(10)
            assert message is not None
            assert message.error() is None
            context = SerializationContext(topic, MessageField.VALUE, message.headers())
            found.append(decode(message.value(), context))
        consumer.close()
        return found

    assert await asyncio.to_thread(read) == [datum, datum]


async def test_confluents_serialiser_uses_what_is_registered_in_every_way(control: Control) -> None:
    topic = control.node.topics.inbound("minimum-living")
    registration = control.registry.versions(control.inbound)[1]
    datum = typed(RECORD, registration.schema)
    written = json.dumps(json.loads(registration.schema.text), indent=2)

    def serialise(**conf: Any) -> bytes:
        serialiser = AvroSerializer(control.client, written, conf=conf)
        data = serialiser(datum, SerializationContext(topic, MessageField.VALUE))
        assert isinstance(data, bytes)
        return data

    expected = frame(registration.id, encode(registration.schema, datum))
    for conf in (
        {},  # registers by default: it is there already
        {"auto.register.schemas": False},
        {"auto.register.schemas": False, "use.latest.version": True},
        {"normalize.schemas": True},
    ):
        assert await asyncio.to_thread(serialise, **conf) == expected


async def test_the_client_finds_schemas_by_id_guid_subject_and_text(control: Control) -> None:
    ask, client = asyncio.to_thread, control.client
    first, second = control.registry.versions(control.inbound)
    assert (await ask(client.get_schema, first.id)).schema_str == first.schema.text
    assert (await ask(client.get_schema_by_guid, second.guid)).schema_str == second.schema.text
    assert await ask(client.get_subjects) == sorted([control.inbound, control.delivery])
    assert await ask(client.get_versions, control.inbound) == [1, 2]
    latest = await ask(client.get_latest_version, control.inbound)
    assert (latest.version, latest.schema_id, latest.guid) == (2, second.id, second.guid)
    assert (await ask(client.get_version, control.inbound, 1)).schema_id == first.id
    looked = await ask(
        client.lookup_schema, control.inbound, ConfluentSchema(first.schema.text, "AVRO")
    )
    assert (looked.schema_id, looked.version) == (first.id, 1)
    versions = await ask(client.get_schema_versions, second.id)
    assert [(each.subject, each.version) for each in versions] == [(control.inbound, 2)]
    assert await ask(client.get_subjects_by_schema_id, second.id) == [control.inbound]
    assert await ask(client.get_schema_types) == ["AVRO"]
    assert await ask(client.get_contexts) == ["."]
    assert await ask(client.get_compatibility) == "FULL_TRANSITIVE"
    assert await ask(client.get_compatibility, control.delivery) == "NONE"
    assert await ask(client.get_global_mode) == "READONLY"
    assert await ask(
        client.test_compatibility, control.inbound, ConfluentSchema(first.schema.text, "AVRO")
    )
    assert SchemaId("AVRO", second.id, second.guid).guid is not None


async def test_whatever_would_change_something_is_not_permitted(control: Control) -> None:
    ask, client = asyncio.to_thread, control.client
    text = json.loads(schema().text)
    text["fields"] = text["fields"][:3]
    other = ConfluentSchema(json.dumps(text), "AVRO")
    for call in (
        (client.register_schema, control.inbound, other),
        (client.register_schema, "someone-else-value", other),
        (client.delete_subject, control.inbound),
        (client.delete_version, control.inbound, 1),
        (client.set_compatibility, control.inbound, "NONE"),
        (client.update_global_mode, "READWRITE"),
    ):
        with pytest.raises(SchemaRegistryError) as caught:
            await ask(*call)
        assert (caught.value.http_status_code, caught.value.error_code) == (422, 42205)
    assert await ask(client.get_versions, control.inbound) == [1, 2]


async def test_errors_and_unknown_paths_have_the_registrys_shape_and_codes(
    control: Control,
) -> None:
    inbound = control.inbound
    for path, expected in {
        "/associations/resources/-/some-topic?resourceType=topic": (404, 404),
        "/nothing/here": (404, 404),
        "/schemas/ids/99": (404, 40403),
        "/schemas/ids/x": (404, 404),
        "/schemas/ids/99999999999999999999": (404, 404),
        "/schemas/guids/00000000-0000-0000-0000-000000000000": (404, 40403),
        "/subjects/unknown-value/versions": (404, 40401),
        "/subjects/unknown-value/versions/latest": (404, 40401),
        f"/subjects/{inbound}/versions/9": (404, 40402),
        f"/subjects/{inbound}/versions/0": (422, 42202),
        f"/subjects/{inbound}/versions/last": (422, 42202),
        f"/config/{inbound}": (404, 40408),
    }.items():
        status, body = await control.get(path)
        assert set(body) == {"error_code", "message"}
        assert (status, body["error_code"]) == expected, path
    for method, path, body_sent, expected in (
        ("POST", "/subjects/unknown-value", b'{"schema":"\\"string\\""}', (404, 40401)),
        ("POST", f"/subjects/{inbound}", b'{"schema":"\\"string\\""}', (404, 40403)),
        ("POST", f"/subjects/{inbound}", b"{", (422, 42201)),
        ("POST", f"/subjects/{inbound}", b'{"schema":"{"}', (422, 42201)),
        ("POST", f"/subjects/{inbound}", b'{"schema":"[]","schemaType":"JSON"}', (422, 42201)),
        ("POST", f"/subjects/{inbound}", b"[" * 100_000, (422, 42201)),
        ("POST", "/associations", b"{}", (422, 42205)),
        ("PATCH", "/config", b"{}", (422, 42205)),
    ):
        status, body = await control.call(method, path, content=body_sent)
        assert (status, body["error_code"]) == expected, path


async def test_answers_have_no_field_that_old_clients_do_not_know(control: Control) -> None:
    registration = control.registry.versions(control.inbound)[1]
    number, inbound = registration.id, control.inbound
    accepts = {"Confluent-Accept-Unknown-Properties": "true"}
    for path, fields in {
        f"/schemas/ids/{number}?fetchMaxId=false&subject={inbound}": {"schema"},
        f"/subjects/{inbound}/versions/2": {"subject", "version", "id", "schema"},
        "/config": {"compatibilityLevel"},
        f"/config/{inbound}?defaultToGlobal=true": {"compatibilityLevel"},
        f"/mode/{inbound}": {"mode"},
    }.items():
        status, body = await control.get(path)
        assert (status, set(body)) == (200, fields)
        status, body = await control.get(path, headers=accepts)
        assert set(body) == fields | ({"guid"} if "schema" in fields else set())


async def test_a_slash_at_the_end_and_unknown_request_fields_do_not_matter(
    control: Control,
) -> None:
    assert await control.get("/config/") == (200, {"compatibilityLevel": "FULL_TRANSITIVE"})
    assert await control.get("/subjects/") == await control.get("/subjects")
    first = control.registry.versions(control.inbound)[0]
    sent = {"schema": first.schema.text, "metadata": {}, "ruleSet": None, "new": 1}
    path = f"/subjects/{control.inbound}?normalize=false&deleted=true"
    status, body = await control.call("POST", path, json=sent)
    assert (status, body["id"]) == (200, first.id)
    # The same schema written in another way: full name instead of namespace, other order.
    other = json.loads(first.schema.text)
    other["name"] = f"{other.pop('namespace')}.{other['name']}"
    sent = {"schema": json.dumps(dict(reversed(other.items())), indent=1)}
    status, body = await control.call("POST", path, json=sent)
    assert (status, body["id"]) == (200, first.id)


async def test_long_answers_can_be_had_in_parts(control: Control) -> None:
    _, everything = await control.get("/schemas")
    assert [(each["subject"], each["version"]) for each in everything] == [
        (control.delivery, 1),
        (control.inbound, 1),
        (control.inbound, 2),
    ]
    _, newest = await control.get("/schemas?latestOnly=true")
    assert len(newest) == 2
    _, part = await control.get("/schemas?offset=1&limit=1")
    assert part == everything[1:2]
    _, named = await control.get(f"/subjects?subjectPrefix={control.inbound[:-8]}")
    assert named == [control.inbound]
