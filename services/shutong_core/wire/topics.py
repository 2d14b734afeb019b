"""Topics: their names, and the partitions and settings that a list version asks for.

The bus creates every topic itself; auto-creation is off. Time stamps are Kafka's (LogAppendTime),
business time stands in the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shutong_core.domain.catalogue import Dataset
from shutong_core.domain.grants import Grant
from shutong_core.domain.version import ListVersion

TOPIC_CHARS_MAX = 249  # Kafka: org.apache.kafka.common.internals.Topic
#: Longest a topic name can get after the prefix: `.delivery.` and an id of 48 characters.
_SUFFIX_CHARS_MAX = 58
PREFIX_CHARS_MAX = TOPIC_CHARS_MAX - _SUFFIX_CHARS_MAX

INBOUND_BYTES_MAX = 1024 * 1024
OUTPUT_BYTES_MAX = 2 * 1024 * 1024  # delivery, quarantine, audit
_DAY_MS = 86_400_000

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it has to be; `configs` are Kafka's names and values."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)


class Topics:
    """The names of all topics under one prefix.

    Raises ValueError for a prefix that Kafka would not take, or that leaves no room for ids.
    """

    __slots__ = ("_delivery", "_inbound", "prefix")

    def __init__(self, prefix: str = "shutong") -> None:
        if not _LEGAL.fullmatch(prefix) or len(prefix) > PREFIX_CHARS_MAX:
            raise ValueError(
                f"topic prefix must be 1-{PREFIX_CHARS_MAX} letters, digits, dots, _ or -"
            )
        self.prefix = prefix
        self._inbound = f"{prefix}.inbound."
        self._delivery = f"{prefix}.delivery."

    def inbound(self, dataset: str) -> str:
        """Where records of `dataset` come in."""
        return self._inbound + _checked(dataset)

    def delivery(self, grant: str) -> str:
        """Where records placed for `grant` go."""
        return self._delivery + _checked(grant)

    @property
    def quarantine(self) -> str:
        """Refused records, sealed."""
        return f"{self.prefix}.quarantine"

    @property
    def audit(self) -> str:
        """Audit blocks; one partition a lane."""
        return f"{self.prefix}.audit"

    @property
    def lanes(self) -> str:
        """State of the lanes, compacted."""
        return f"{self.prefix}.lanes"

    @property
    def access(self) -> str:
        """Refused and privileged requests, acts of administration."""
        return f"{self.prefix}.access"

    @property
    def receipts(self) -> str:
        """Receipts countersigned by agencies."""
        return f"{self.prefix}.receipts"

    @property
    def checkpoints(self) -> str:
        """Signed tree heads."""
        return f"{self.prefix}.checkpoints"

    @property
    def lists(self) -> str:
        """Signed changes of the responsibility list."""
        return f"{self.prefix}.control.lists"

    @property
    def schemas(self) -> str:
        """Registered schemas with their ids."""
        return f"{self.prefix}.control.schemas"

    def transactional_id(self, lane: int) -> str:
        """The one transactional id that may write lane `lane`."""
        return f"{self.prefix}.broker.{lane}"

    @property
    def control_id(self) -> str:
        """The one transactional id that may write lists and schemas."""
        return f"{self.prefix}.control"

    @property
    def lanes_group(self) -> str:
        """The group that holds input offsets; nobody joins it."""
        return f"{self.prefix}.lanes"

    @property
    def broker_group(self) -> str:
        """The group that spreads lanes over broker processes."""
        return f"{self.prefix}.broker"

    def dataset_of(self, topic: str) -> str | None:
        """The dataset whose inbound topic this is, else None."""
        return _after(self._inbound, topic)

    def grant_of(self, topic: str) -> str | None:
        """The grant whose delivery topic this is, else None."""
        return _after(self._delivery, topic)


def control_specs(topics: Topics, replication: int, min_isr: int) -> tuple[TopicSpec, ...]:
    """The topics that must be there before the first list: control.lists, control.schemas."""
    forever = _kept(None, INBOUND_BYTES_MAX, min_isr)
    return (
        TopicSpec(topics.lists, 1, replication, forever),
        TopicSpec(topics.schemas, 1, replication, forever),
    )


def own_specs(
    version: ListVersion, topics: Topics, replication: int, min_isr: int
) -> tuple[TopicSpec, ...]:
    """The bus's own topics under `version`, none of a dataset or grant; else as `topic_specs`."""
    bus = version.bus
    forever = _kept(None, OUTPUT_BYTES_MAX, min_isr)
    specs = list(control_specs(topics, replication, min_isr))
    specs += [
        TopicSpec(topics.lanes, bus.lanes, replication, _compacted(min_isr)),
        TopicSpec(topics.audit, bus.lanes, replication, forever),
        TopicSpec(topics.access, bus.lanes, replication, forever),
        TopicSpec(topics.receipts, 1, replication, forever),
        TopicSpec(topics.checkpoints, 1, replication, forever),
        # A refusal can be disputed as long as the audit speaks of it.
        TopicSpec(
            topics.quarantine,
            bus.lanes,
            replication,
            _kept(bus.audit_term_days, OUTPUT_BYTES_MAX, min_isr),
        ),
    ]
    return tuple(specs)


def topic_specs(
    version: ListVersion, topics: Topics, replication: int, min_isr: int
) -> tuple[TopicSpec, ...]:
    """Every topic the bus needs under `version`: its own, then inbound, then delivery, by id.

    `replication` and `min_isr` are 3 and 2 on a cluster, 1 and 1 on the embedded broker. Raises
    Rejected if the list has no row bus/bus.
    """
    bus = version.bus
    specs = list(own_specs(version, topics, replication, min_isr))
    for row in version.of(Dataset):
        if isinstance(row, Dataset):
            configs = _kept(row.retention_days, INBOUND_BYTES_MAX, min_isr)
            # Kafka then unpacks every batch and checks its real size against the limit, so that
            # a few KiB on the wire cannot become gigabytes in a reader.
            configs["compression.type"] = "uncompressed"
            specs.append(TopicSpec(topics.inbound(row.id), bus.lanes, replication, configs))
    for row in version.of(Grant):
        if isinstance(row, Grant):
            partitions = bus.lanes if row.partitions == "lanes" else 1
            configs = _kept(row.retention_days, OUTPUT_BYTES_MAX, min_isr)
            specs.append(TopicSpec(topics.delivery(row.id), partitions, replication, configs))
    return tuple(specs)


def delivery_partition(lane: int, partitions: int) -> int:
    """Which partition of a delivery topic lane `lane` writes to."""
    return lane % partitions


def lanes_writing_to(partition: int, partitions: int, lanes: Iterable[int]) -> list[int]:
    """Which of `lanes` write to partition `partition` of a delivery topic."""
    return [lane for lane in lanes if delivery_partition(lane, partitions) == partition]


def _common(bytes_max: int, min_isr: int) -> dict[str, str]:
    return {
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(bytes_max),
        "min.insync.replicas": str(min_isr),
        # An unclean leader forgets acknowledged records, and with them exactly-once.
        "unclean.leader.election.enable": "false",
    }


def _kept(days: int | None, bytes_max: int, min_isr: int) -> dict[str, str]:
    """Settings of a topic that keeps records for so many days (None: for ever)."""
    return _common(bytes_max, min_isr) | {
        "cleanup.policy": "delete",
        "retention.ms": "-1" if days is None else str(days * _DAY_MS),
        "retention.bytes": "-1",
    }


def _compacted(min_isr: int) -> dict[str, str]:
    """Settings of topic lanes: whoever takes a lane reads its partition whole, so keep it short."""
    return _common(OUTPUT_BYTES_MAX, min_isr) | {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "segment.ms": str(_DAY_MS // 24),
        "segment.bytes": str(16 * 1024 * 1024),
    }


def _checked(identifier: str) -> str:
    if not _IDENTIFIER.fullmatch(identifier):
        raise ValueError("an id is 1-48 lower-case letters, digits and hyphens")
    return identifier


def _after(start: str, topic: str) -> str | None:
    if not topic.startswith(start):
        return None
    identifier = topic[len(start) :]
    return identifier if _IDENTIFIER.fullmatch(identifier) else None
