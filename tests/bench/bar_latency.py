"""Bar: from publishing to being readable at half of full load, embedded Kafka, reference job.

Full load is measured first. Then an open loop writes half of that rate; a read_committed consumer
on the delivery topic of all rows takes what comes. A latency counts from the moment the record was
due at its sender, whatever delayed it there. One long load before is not counted: for its first
minute or two of many small transactions Kafka's JVM still compiles, on the same two cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from bench import flow, job
from bench.children import cpu_s_of
from bench.drain import drain, profiled
from bench.registry import Bench, Result
from bench.stage import Stage

ROUNDS = 5
SECONDS = 20.0
WARM_SECONDS = 90.0
BACKLOG = 300_000
GOALS_MS = {"p50": "<= 15", "p99": "<= 50"}
_SHOWN = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")


def measure(bench: Bench) -> list[Result]:
    """Median and 99th percentile, each the median of the rounds."""
    found = []
    with bench.stage() as stage:
        version = stage.publish(job.reference_sections(), job.reference_schemas())
        dataset = version.dataset(job.DATASET)
        if dataset is None:
            raise RuntimeError("the list has no dataset")
        targets = {stage.topics.inbound(job.DATASET): dataset.schemas[0].id}
        total = bench.records or BACKLOG
        full = drain(stage, targets, flow.made(20_000), "full", total, bench.env)
        bench.say(f"  full load: {full}")
        rate = full.rate / 2
        with stage.brokers(1, bench.env, command=profiled(bench.profile)) as (broker,):
            warm = flow.Load(stage.bootstrap, targets, rate, WARM_SECONDS, "warm")
            bench.say(f"  warming up: {_round(stage, broker.pid, warm)}")
            for n in range(bench.rounds or ROUNDS):
                load = flow.Load(stage.bootstrap, targets, rate, SECONDS, f"round{n}")
                found.append(_round(stage, broker.pid, load))
                bench.say(f"  {found[-1]}")
    return [
        Result(
            f"publish to readable at half load, {name}",
            statistics.median(each[f"{name}_ms"] for each in found),
            "ms",
            goal,
            [each[f"{name}_ms"] for each in found],
        )
        for name, goal in GOALS_MS.items()
    ]


def _round(stage: Stage, broker: int, load: flow.Load) -> Mapping[str, float]:
    """One steady load: latencies, how late the sender was, who used how much of a processor."""
    reader = flow.Worker("read", load, topic=stage.topics.delivery("b"))
    sender = flow.Worker("send", load)
    pids = {"broker": broker, "kafka": stage.kafka.pid, "reader": reader.pid, "sender": sender.pid}
    try:
        before = {name: cpu_s_of(pid) for name, pid in pids.items()}
        start = flow.soon_ns()
        reader.go(start)
        sender.go(start)
        sender.wait_sent()
        used = {name: cpu_s_of(pid) - before[name] for name, pid in pids.items()}
        sent, read = sender.result(), reader.result()
    finally:
        reader.end()
        sender.end()
    if read["missing"]:
        raise RuntimeError(f"{read['missing']} records did not arrive")
    found = {"rate": round(load.rate), **{name: round(read[name], 1) for name in _SHOWN}}
    found["sender_late_p99_ms"] = round(sent["late_p99_ms"], 2)
    return found | {f"{name}_cores": round(s / load.seconds, 2) for name, s in used.items()}
