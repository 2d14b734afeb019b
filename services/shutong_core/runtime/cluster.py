"""The Kafka cluster as the bus needs it: topics made from their specs, checked, and its id.

A topic is only ever made, never changed here: more partitions would move keys between lanes, and
other settings are the operator's to reconcile, so a difference is reported instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.wire.topics import TopicSpec

REQUEST_TIMEOUT_MS = 10_000
RETRY_S = 0.25
#: Topics of one CreateTopics request; a province's list makes some thousands.
TOPICS_PER_REQUEST = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """A topic that is there, but not as its spec says."""

    topic: str
    setting: str  # Kafka's name of the setting, or `partitions`
    wanted: str
    found: str


@asynccontextmanager
async def _admin(client: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**client, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
            await admin.start()
        yield admin
    except TimeoutError as error:
        raise Retryable("Kafka did not answer in time") from error
    except KafkaError as error:
        raise Retryable(f"Kafka: {type(error).__name__}") from error
    finally:
        try:
            async with asyncio.timeout(5):
                await admin.close()
        except (TimeoutError, KafkaError):
            pass


async def cluster_id(client: Mapping[str, Any]) -> str:
    """The cluster's own id. Raises Retryable if Kafka does not answer."""
    async with _admin(client) as admin:
        found = (await admin.describe_cluster()).get("cluster_id")
    if not isinstance(found, str) or not found:
        raise Fatal("this Kafka has no cluster id: version 3.9 or newer is needed")
    return found


async def partitions_of(client: Mapping[str, Any], topics: Iterable[str]) -> dict[str, int]:
    """Number of partitions of those of `topics` that exist and have a leader everywhere."""
    names = list(topics)
    if not names:
        return {}
    async with _admin(client) as admin:
        return await _led_partitions(admin, names)


async def existing_topics(client: Mapping[str, Any], prefix: str) -> frozenset[str]:
    """Names of all topics that begin with `<prefix>.`."""
    async with _admin(client) as admin:
        names = await admin.list_topics()
    return frozenset(name for name in names if name.startswith(f"{prefix}."))


async def ensure_topics(
    client: Mapping[str, Any], specs: Iterable[TopicSpec], timeout_s: float = 60
) -> tuple[Difference, ...]:
    """Make the topics that are missing, wait until each has its leaders; what differs is returned.

    Safe when several processes do it at once. Raises Retryable if it is not done in `timeout_s`
    seconds, Fatal if the cluster refuses for good (rights, too few nodes).
    """
    wanted = {spec.name: spec for spec in specs}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        try:
            async with _admin(client) as admin:
                there = await _led_partitions(admin, list(wanted))
                missing = [spec for name, spec in wanted.items() if name not in there]
                if not missing:
                    return await _differences(admin, wanted, there)
                await _create(admin, missing)
        except Retryable:
            if loop.time() > deadline:
                raise
        if loop.time() > deadline:
            raise Retryable(f"topics are not ready after {timeout_s:g} s")
        await asyncio.sleep(RETRY_S)


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> None:
    for start in range(0, len(specs), TOPICS_PER_REQUEST):
        answer = await admin.create_topics(
            [
                NewTopic(
                    name=spec.name,
                    num_partitions=spec.partitions,
                    replication_factor=spec.replication,
                    topic_configs=dict(spec.configs),
                )
                for spec in specs[start : start + TOPICS_PER_REQUEST]
            ]
        )
        for name, code, *_ in answer.topic_errors:
            error = for_code(code)
            if error in {InvalidReplicationFactorError}:
                raise Fatal(
                    f"主题 {name} 需要的副本数多于集群节点数，请设置 SHUTONG_KAFKA_REPLICATION。"
                    f" Topic {name} asks for more copies than the cluster has nodes: set"
                    " SHUTONG_KAFKA_REPLICATION and SHUTONG_KAFKA_MIN_ISR."
                )
            if error in {TopicAuthorizationFailedError, PolicyViolationError}:
                raise Fatal(
                    f"集群不允许创建主题 {name}。"
                    f" The cluster does not let us create topic {name} ({error.__name__})."
                )
            # Anything else may pass; the next round sees what is still missing.
            if error not in {NoError, TopicAlreadyExistsError} and not error.retriable:
                raise Fatal(f"topic {name} cannot be created: {error.__name__}")


async def _led_partitions(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    found = {}
    for topic in await admin.describe_topics(names):
        partitions = topic["partitions"]
        led = partitions and all(each["leader"] >= 0 for each in partitions)
        if topic["error_code"] == 0 and led:
            found[topic["topic"]] = len(partitions)
    return found


async def _differences(
    admin: AIOKafkaAdminClient, wanted: Mapping[str, TopicSpec], there: Mapping[str, int]
) -> tuple[Difference, ...]:
    found = [
        Difference(name, "partitions", str(spec.partitions), str(there[name]))
        for name, spec in wanted.items()
        if there[name] != spec.partitions
    ]
    names = list(wanted)
    for start in range(0, len(names), TOPICS_PER_REQUEST):
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(wanted[name].configs))
            for name in names[start : start + TOPICS_PER_REQUEST]
        ]
        for answer in await admin.describe_configs(resources):
            for code, _, _, name, entries in answer.resources:
                if code != 0:
                    raise Retryable(f"settings of topic {name} cannot be read")
                actual = {entry[0]: entry[1] for entry in entries}
                found += [
                    Difference(name, setting, value, str(actual.get(setting)))
                    for setting, value in wanted[name].configs.items()
                    if actual.get(setting) != value
                ]
    return tuple(found)


async def bus_name(client: Mapping[str, Any], prefix: str) -> str:
    """What the audit and every delivery chain call this bus: `<cluster id>/<topic prefix>`.

    The prefix belongs to it because one cluster may carry several buses.
    """
    return f"{await cluster_id(client)}/{prefix}"
