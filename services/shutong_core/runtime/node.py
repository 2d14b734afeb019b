"""What every service builds first: settings, logs, keyring, Kafka's address, the region table.

Wiring only; a service's own parts are built in its `service.py` from what this gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog

from shutong_core.domain.errors import Fatal, Retryable
from shutong_core.domain.regions import RegionTable, parse_table
from shutong_core.domain.version import ListVersion
from shutong_core.runtime.cluster import bus_name
from shutong_core.runtime.health import Health
from shutong_core.runtime.kafka_ports import answers_metadata, read_ports
from shutong_core.runtime.keyring import Keyring
from shutong_core.runtime.lifecycle import Stop
from shutong_core.runtime.listfeed import ListFeed
from shutong_core.runtime.logs import configure_logs
from shutong_core.runtime.metrics import Metrics
from shutong_core.runtime.resources import locate, package_file
from shutong_core.runtime.settings import Settings, load_settings
from shutong_core.wire.busrecords import BusCodec
from shutong_core.wire.topics import Topics, TopicSpec, own_specs, topic_specs

DIVISIONS_FILE = "divisions-2023-06-30.tsv.xz"
KAFKA_RETRY_S = 1.0
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True)
class Node:
    """One process's view of its node; parts are built when first asked for."""

    service: str
    settings: Settings

    @cached_property
    def client(self) -> Mapping[str, Any]:
        """Arguments of every Kafka client. Raises Fatal if no Kafka is known or running."""
        settings = self.settings
        return settings.kafka.client_kwargs(
            None if settings.kafka.bootstrap_servers else embedded_address(settings)
        )

    @cached_property
    def keyring(self) -> Keyring:
        """The keyring of the node."""
        return Keyring(self.settings.keyring_dir)

    @cached_property
    def topics(self) -> Topics:
        """Topic names."""
        return Topics(self.settings.prefix)

    @cached_property
    def table(self) -> RegionTable:
        """The division table that ships with the product."""
        return parse_table(package_file(DIVISIONS_FILE).read_bytes())

    @cached_property
    def codec(self) -> BusCodec:
        """Codec of the bus's own records."""
        return bus_codec()

    @cached_property
    def metrics(self) -> Metrics:
        """The process's metrics."""
        return Metrics(self.service)

    @cached_property
    def health(self) -> Health:
        """The process's health."""
        return Health()

    def topics_to_make(self, version: ListVersion) -> tuple[TopicSpec, ...]:
        """The topics that this node makes under a list. Raises Rejected if it has no bus row."""
        make = topic_specs if self.settings.topics == "all" else own_specs
        return make(version, self.topics, *self.settings.replication)

    def list_feed(self) -> ListFeed:
        """A follower of the list that trusts the control key of the keyring; not yet started."""
        return ListFeed(
            self.client,
            self.topics,
            self.keyring.verifier("control"),
            trust_mark=self.keyring.trust_watch("control"),
        )


def bus_codec() -> BusCodec:
    """Codec of the bus's own records, from schemas/bus."""
    return BusCodec(
        path.read_text(encoding="utf-8") for path in sorted(locate("schemas/bus").glob("*.avsc"))
    )


def embedded_address(settings: Settings) -> str:
    """Where the embedded Kafka of this data directory answers. Raises Fatal if it does not."""
    ports = read_ports(settings.data_dir / "kafka")
    if ports is None or not answers_metadata("127.0.0.1", ports.port):
        raise Fatal(
            "未设置 SHUTONG_KAFKA_BOOTSTRAP_SERVERS，内置 Kafka 也未运行：请先运行 shutong up。"
            " SHUTONG_KAFKA_BOOTSTRAP_SERVERS is not set and the embedded Kafka is not running:"
            " start it with `shutong up`."
        )
    return f"127.0.0.1:{ports.port}"


def open_node(service: str, *, needs_kafka: bool = True, **overrides: Any) -> Node:
    """Read settings, set up logs, say aloud what an operator must know.

    Raises Fatal for wrong settings.
    """
    settings = load_settings(**overrides)
    configure_logs(service, settings.log_level)
    for warning in settings.warnings(needs_kafka=needs_kafka):
        _log.warning(warning)
    return Node(service, settings)


async def wait_for_bus_name(node: Node, stop: Stop) -> str | None:
    """The bus's name, asked until Kafka answers; None if it is time to stop before that."""
    while True:
        try:
            return await bus_name(node.client, node.settings.prefix)
        except Retryable as error:
            _log.warning("waiting for Kafka", error=str(error))
        if await stop.wait(KAFKA_RETRY_S):
            return None
