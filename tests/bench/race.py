"""One run of one contestant: the rule by which everybody is timed.

The contestant is started on a fresh prefix and does a first part of the records, which warms it up
and is not timed. Then the rest is written, invisible, while it idles. The clock starts just before
that becomes visible, and stops when the contestant's group has committed all of it: outputs are
then committed too, since they are in the same transactions. Afterwards everything delivered is
read and held against what is due.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench import job, outputs
from bench.children import cpu_s_of, wait_until
from bench.contestants import Contestant
from bench.inbound import Inbound, Progress, Records
from bench.peerjob import Tuning
from bench.registry import Bench

WARM_S_MAX = 300.0
RACE_S_MAX = 900.0
SETTLE_S = 1.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Run:
    """What one run showed; processor seconds are of the timed part."""

    rate: float  # records in per second
    cpu_us: float  # of the contestant's processes, a record
    kafka_cpu_us: float
    rss_mb: float

    def __str__(self) -> str:
        return (
            f"{self.rate:9,.0f} records/s, processor µs a record: own {self.cpu_us:5.1f},"
            f" Kafka {self.kafka_cpu_us:4.1f}; {self.rss_mb:4.0f} MiB"
        )


def run(
    bench: Bench, contestant: Contestant, tuning: Tuning, records: Records, warm: int, count: int
) -> Run:
    """Time `contestant` on `count` records after `warm`. Raises WrongOutput or ChildFailed."""
    with bench.stage() as stage:
        version = stage.publish(job.reference_sections(), job.reference_schemas())
        schema_id = version.dataset(job.DATASET).schemas[0].id  # type: ignore[union-attr]
        topic = stage.topics.inbound(job.DATASET)
        inbound = Inbound(stage.bootstrap, topic, job.LANES, schema_id)
        progress = Progress(stage.bootstrap, contestant.group(stage), topic, job.LANES)
        try:
            with contestant.running(stage, tuning) as children:
                ends = inbound.hide(records, 0, warm)
                inbound.show()
                wait_until(lambda: progress.reached(ends), WARM_S_MAX, "warm-up", children)
                ends = inbound.hide(records, warm, count)
                time.sleep(SETTLE_S)
                pids = [child.pid for child in children]
                own, kafka = sum(map(cpu_s_of, pids)), cpu_s_of(bench.kafka.pid)
                began = inbound.show()
                done = lambda: progress.reached(ends)  # noqa: E731
                wait_until(done, RACE_S_MAX, "the race", children, POLL_S)
                seconds = time.monotonic() - began
                own = sum(map(cpu_s_of, pids)) - own
                kafka = cpu_s_of(bench.kafka.pid) - kafka
                rss = sum(child.rss_mb for child in children)
        finally:
            inbound.close()
            progress.close()
        due = contestant.owes(records.expected(warm + count))
        topics = {grant: stage.topics.delivery(grant) for grant in due}
        outputs.compare(outputs.delivered(stage.bootstrap, topics, job.LANES), due)
    return Run(count / seconds, own / count * 1e6, kafka / count * 1e6, rss)
