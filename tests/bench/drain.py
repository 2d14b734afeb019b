"""A round of draining: records wait on inbound, a broker starts, the audit says how fast it was."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from bench import audittrail, flow
from bench.children import BrokerChild, ChildFailed, wait_until
from bench.stage import Stage

DRAINED_S_MAX = 300.0


@dataclass(frozen=True, slots=True)
class Drained:
    """Records decided and placed per second; records refused; median length of a transaction."""

    rate: float
    placed_rate: float
    refused: int
    transaction_ms: float
    rss_mb: float
    cpu_s: float


def drain(
    stage: Stage,
    targets: Mapping[str, int],
    records: Sequence[flow.Made],
    mark: str,
    total: int,
    env: Mapping[str, str] | None = None,
    profile: str | None = None,
) -> Drained:
    """Fill `total` records over topics (→ schema id), then let one broker process take them."""
    audit = stage.topics.audit
    since = audittrail.ends(stage.bootstrap, audit)
    flow.fill(stage.bootstrap, targets, records, mark, total)
    with stage.brokers(1, env, command=profiled(profile)) as (broker,):
        wait_drained(stage, targets, broker)
        rss, cpu = broker.rss_mb, broker.cpu_s
    found = audittrail.blocks(stage.bootstrap, audit, since)
    if sum(block.rows for block in found) != total:
        raise RuntimeError(f"{sum(block.rows for block in found)} of {total} records decided")
    speed = audittrail.rate(found)
    return Drained(
        rate=speed,
        placed_rate=speed * sum(block.placed for block in found) / total,
        refused=sum(block.refused for block in found),
        transaction_ms=audittrail.transaction_ms(found),
        rss_mb=rss,
        cpu_s=cpu,
    )


def wait_drained(stage: Stage, topics: Iterable[str], broker: BrokerChild) -> None:
    """Wait until every record on these inbound topics is decided.

    Kafka is asked, not the broker: a look at its metrics costs it what some hundred records do.
    """
    reader = Consumer(
        {
            "bootstrap.servers": stage.bootstrap,
            "group.id": stage.topics.lanes_group,
            # Else the answer waits for offsets of transactions under way: there are always some.
            "isolation.level": "read_uncommitted",
        }
    )
    ends = audittrail.all_ends(stage.bootstrap, topics)
    wanted = [
        TopicPartition(name, lane) for name, held in ends.items() for lane in range(len(held))
    ]

    def decided() -> bool:
        if '"error_type":"Fatal"' in broker.log_path.read_text(errors="replace"):
            raise ChildFailed(f"a lane halted:\n{broker.tail()}")
        try:
            told = reader.committed(wanted, timeout=10)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._TIMED_OUT:
                raise
            return False
        return all(max(at.offset, 0) >= ends[at.topic][at.partition] for at in told)

    try:
        wait_until(decided, DRAINED_S_MAX, "all records decided", [broker])
    finally:
        reader.close()


def profiled(directory: str | None) -> tuple[str, ...]:
    """How to start a broker: as the product does, or under cProfile with its statistics there."""
    if directory is None:
        return ("-m", "shutong_broker")
    os.environ["BENCH_PROFILE"] = directory
    return (str(Path(__file__).with_name("profiled_broker.py")),)


def peak_mb(pid: int) -> float:
    """The most resident memory that a process ever had, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
