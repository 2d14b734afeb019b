"""Metrics: each declared once here, with type, unit, labels and meaning.

An undeclared name does not pass the type checker. A label never carries a person, a record or an
event id; how many values a label may take is capped, the rest is counted under `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

#: Values of one label of one metric; a node has at most this many datasets, grants or systems
#: before it has to be looked at by total.
LABEL_VALUES_MAX = 2_000
OTHER = "other"

CounterName = Literal[
    "shutong_intake_records_total",
    "shutong_intake_requests_total",
    "shutong_decisions_total",
    "shutong_refused_total",
    "shutong_placed_total",
    "shutong_out_of_scope_total",
    "shutong_withheld_total",
    "shutong_transactions_total",
    "shutong_lane_takes_total",
    "shutong_audit_blocks_total",
    "shutong_fetched_total",
    "shutong_acknowledged_total",
    "shutong_chain_mismatches_total",
    "shutong_egress_requests_total",
    "shutong_access_events_total",
    "shutong_list_changes_total",
    "shutong_kafka_errors_total",
    "shutong_witness_requests_total",
    "shutong_receipt_disagreements_total",
]
GaugeName = Literal[
    "shutong_list_number",
    "shutong_list_lease_age_seconds",
    "shutong_lanes_held",
    "shutong_lane_sequence",
    "shutong_lane_backlog_records",
    "shutong_lane_parked_inputs",
    "shutong_lane_checkpoint_age_seconds",
    "shutong_tree_leaves",
    "shutong_tree_behind_offsets",
    "shutong_tree_checkpoint_age_seconds",
    "shutong_trees_halted",
    "shutong_witnessed_trees",
    "shutong_ready",
]
HistogramName = Literal[
    "shutong_intake_seconds",
    "shutong_transaction_seconds",
    "shutong_transaction_records",
    "shutong_publish_to_placed_seconds",
    "shutong_egress_seconds",
    "shutong_list_apply_seconds",
]
MetricName = CounterName | GaugeName | HistogramName


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What one metric means; labels are closed sets or ids of list rows, buckets in its unit."""

    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# Around the goals: publish to readable 15 ms at the median, 50 ms at the 99th percentile; a
# transaction at most 1 s.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_RECORDS = (1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000)


def _counter(meaning: str, *labels: str) -> MetricSpec:
    return MetricSpec("counter", meaning, labels)


def _gauge(meaning: str, *labels: str) -> MetricSpec:
    return MetricSpec("gauge", meaning, labels)


def _histogram(meaning: str, buckets: tuple[float, ...], *labels: str) -> MetricSpec:
    return MetricSpec("histogram", meaning, labels, buckets)


METRICS: Mapping[MetricName, MetricSpec] = {
    "shutong_intake_records_total": _counter(
        "Records offered to the producer service, by outcome (accepted or the reason).",
        "dataset",
        "outcome",
    ),
    "shutong_intake_requests_total": _counter(
        "HTTP requests to the producer service, by status.", "status"
    ),
    "shutong_decisions_total": _counter(
        "Inbound records decided, by verdict on the record (passed or refused).",
        "dataset",
        "verdict",
    ),
    "shutong_refused_total": _counter(
        "Records refused as a whole by the broker, by reason.", "dataset", "reason"
    ),
    "shutong_placed_total": _counter("Records placed on delivery topics.", "grant"),
    "shutong_out_of_scope_total": _counter(
        "Verdicts withheld because the record's region lies outside the grant's scope; all grants.",
        "dataset",
    ),
    "shutong_withheld_total": _counter(
        "Records withheld from a grant, by reason other than out of scope.", "grant", "reason"
    ),
    "shutong_transactions_total": _counter(
        "Lane transactions, by outcome (committed, failed, unknown, fenced).", "lane", "outcome"
    ),
    "shutong_lane_takes_total": _counter(
        "Attempts to take a lane, by outcome (taken, fenced, halted, retried).", "lane", "outcome"
    ),
    "shutong_audit_blocks_total": _counter("Audit blocks committed.", "lane"),
    "shutong_fetched_total": _counter("Records read by agencies.", "grant", "mode"),
    "shutong_acknowledged_total": _counter("Records countersigned by agencies.", "grant"),
    "shutong_chain_mismatches_total": _counter(
        "Delivery chains that did not match the records when an agency countersigned.", "grant"
    ),
    "shutong_egress_requests_total": _counter(
        "HTTP requests to the consumer service, by status.", "status"
    ),
    "shutong_access_events_total": _counter(
        "Refused or privileged requests written to the access topic.", "action", "reason"
    ),
    "shutong_list_changes_total": _counter(
        "Changes read from control.lists, by outcome (applied or refused).", "outcome"
    ),
    "shutong_receipt_disagreements_total": _counter(
        "Receipts that do not agree with the audit, or do not hold: each is in the log.", "grant"
    ),
    "shutong_witness_requests_total": _counter(
        "Requests to cosign a checkpoint, by answer (cosigned or why not).", "answer"
    ),
    "shutong_kafka_errors_total": _counter("Errors of Kafka clients, by type.", "error_type"),
    "shutong_list_number": _gauge("Number of the list version in force here."),
    "shutong_list_lease_age_seconds": _gauge(
        "Age of the word from Kafka that the list held is the newest; above 3 nothing flows."
    ),
    "shutong_lanes_held": _gauge("Lanes that this process holds."),
    "shutong_lane_sequence": _gauge("Sequence of the newest audit block of a lane.", "lane"),
    "shutong_lane_backlog_records": _gauge("Inbound offsets not decided yet.", "lane", "dataset"),
    "shutong_lane_parked_inputs": _gauge("Inputs that failed their check and wait.", "lane"),
    "shutong_lane_checkpoint_age_seconds": _gauge(
        "Age of the lane's newest checkpoint, as the broker counts its grace.", "lane"
    ),
    "shutong_tree_leaves": _gauge("Leaves of a tree of the audit.", "tree"),
    "shutong_tree_behind_offsets": _gauge(
        "Offsets of the tree's topic that are not in the tree yet.", "tree"
    ),
    "shutong_tree_checkpoint_age_seconds": _gauge(
        "Time since this auditor published a checkpoint of the tree.", "tree"
    ),
    "shutong_trees_halted": _gauge(
        "Trees that are not signed any more: see the log, then inquire."
    ),
    "shutong_witnessed_trees": _gauge("Trees of which this witness cosigned a checkpoint."),
    "shutong_ready": _gauge("1 if every readiness check passes."),
    "shutong_intake_seconds": _histogram(
        "Time of one request to the producer service, until Kafka acknowledged.", _SECONDS
    ),
    "shutong_transaction_seconds": _histogram(
        "Time of one lane transaction, begin to commit.", _SECONDS, "lane"
    ),
    "shutong_transaction_records": _histogram(
        "Inbound records in one lane transaction.", _RECORDS, "lane"
    ),
    "shutong_publish_to_placed_seconds": _histogram(
        "From Kafka's inbound time stamp to the commit that placed the record.", _SECONDS
    ),
    "shutong_egress_seconds": _histogram(
        "Time of one request to the consumer service.", _SECONDS, "mode"
    ),
    "shutong_list_apply_seconds": _histogram(
        "From the publication of a list version to its use here.", _SECONDS
    ),
}


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self, service: str, version: str = "0.1.0") -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for name, spec in METRICS.items():
            self._declare(name, spec)
        self._seen: dict[tuple[str, str], set[str]] = {}
        info = Gauge("shutong_build_info", "Always 1.", ["service", "version"], registry=None)
        info.labels(service, version).set(1)
        self._registry.register(info)

    def _declare(self, name: MetricName, spec: MetricSpec) -> None:
        if spec.kind == "counter":
            self._counters[name] = Counter(name, spec.meaning, spec.labels, registry=self._registry)
        elif spec.kind == "gauge":
            self._gauges[name] = Gauge(name, spec.meaning, spec.labels, registry=self._registry)
        else:
            self._histograms[name] = Histogram(
                name, spec.meaning, spec.labels, buckets=spec.buckets, registry=self._registry
            )

    def count(self, name: CounterName, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter. The labels must be exactly those declared."""
        counter = self._counters[name]
        (counter.labels(**self._capped(name, labels)) if labels else counter).inc(amount)

    def set(self, name: GaugeName, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges[name]
        (gauge.labels(**self._capped(name, labels)) if labels else gauge).set(value)

    def observe(self, name: HistogramName, value: float, /, **labels: str) -> None:
        """Put one value into a histogram, in the unit of its name."""
        histogram = self._histograms[name]
        (histogram.labels(**self._capped(name, labels)) if labels else histogram).observe(value)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def _capped(self, name: str, labels: Mapping[str, str]) -> dict[str, str]:
        capped = {}
        for label, value in labels.items():
            seen = self._seen.setdefault((name, label), set())
            if value not in seen:
                if len(seen) >= LABEL_VALUES_MAX:
                    capped[label] = OTHER
                    continue
                seen.add(value)
            capped[label] = value
        return capped


def metric_names() -> Iterable[str]:
    """Every declared name, for documentation and tests."""
    for names in (CounterName, GaugeName, HistogramName):
        yield from get_args(names)
