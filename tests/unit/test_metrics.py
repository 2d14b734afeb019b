"""Metrics are declared once; label values cannot grow without bound."""

from __future__ import annotations

import pytest

from shutong_core.runtime.metrics import LABEL_VALUES_MAX, METRICS, Metrics, metric_names


def test_every_name_is_declared_exactly_once_with_a_meaning() -> None:
    names = list(metric_names())
    assert sorted(names) == sorted(METRICS)
    assert len(set(names)) == len(names)
    for name, spec in METRICS.items():
        assert spec.meaning.endswith(".")
        assert name.startswith("shutong_")
        assert (spec.kind == "counter") == name.endswith("_total")
        assert (spec.kind == "histogram") == bool(spec.buckets)


def test_no_label_names_a_person_or_a_record() -> None:
    allowed = {
        "action", "answer", "dataset", "error_type", "grant", "lane", "mode", "outcome", "reason",
        "status", "tree", "verdict",
    }  # fmt: skip
    assert {label for spec in METRICS.values() for label in spec.labels} <= allowed


def test_values_appear_in_the_exposition() -> None:
    metrics = Metrics("broker")
    metrics.count("shutong_placed_total", 3, grant="g")
    metrics.set("shutong_list_number", 7)
    metrics.observe("shutong_transaction_seconds", 0.02, lane="0")
    text = metrics.exposition().decode()
    assert 'shutong_placed_total{grant="g"} 3.0' in text
    assert "shutong_list_number 7.0" in text
    assert 'shutong_transaction_seconds_bucket{lane="0",le="0.025"} 1.0' in text
    assert 'shutong_build_info{service="broker"' in text


def test_a_label_takes_a_bounded_number_of_values() -> None:
    metrics = Metrics("broker")
    for number in range(LABEL_VALUES_MAX + 500):
        metrics.count("shutong_placed_total", grant=f"g{number}")
    text = metrics.exposition().decode()
    series = [line for line in text.splitlines() if line.startswith("shutong_placed_total{")]
    assert len(series) == LABEL_VALUES_MAX + 1
    assert 'shutong_placed_total{grant="other"} 500.0' in text


def test_labels_that_were_not_declared_are_an_error() -> None:
    with pytest.raises(ValueError, match="label"):
        Metrics("broker").count("shutong_placed_total", person="x")
