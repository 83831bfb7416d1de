from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from features.events.orders import Reason
from streamer.metrics import (
    DECLARED,
    FENCED,
    OUTAGES,
    Metrics,
    PartitionGauges,
)
from streamer.pipeline.batch import Counters

ROOT = Path(__file__).resolve().parents[2]
# None of them has a value for each customer.
_LABELS = frozenset(
    [
        "partition",
        "reason",
        "kind",
        "trigger",
        "server",
        "version",
        "quantile",
        "by",
        "page",
        "status",
        "feature",
        "days",
        "what",
    ]
)


def samples(exposition: bytes) -> dict[str, float]:
    lines = [line for line in exposition.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_everything_declared_is_exposed_once_with_type_and_meaning() -> None:
    metrics = Metrics()
    text = metrics.exposition({0: PartitionGauges(1, 2.0, 3)}).decode()
    assert len({metric.name for metric in DECLARED}) == len(DECLARED)
    for metric in DECLARED:
        assert text.count(f"# HELP {metric.exposed} {metric.meaning}\n") == 1
        assert text.count(f"# TYPE {metric.exposed} {metric.type}\n") == 1
    assert "_created" not in text
    assert "process_resident_memory_bytes" in text


def test_what_is_known_beforehand_is_there_at_0() -> None:
    found = samples(Metrics().exposition({}))
    for reason in Reason:
        assert found[f'clv_dead_letters_total{{reason="{reason.value}"}}'] == 0
    assert found["clv_fenced_total"] == 0
    assert found["clv_partitions_owned"] == 0
    assert found["clv_batch_seconds_count"] == 0


def test_counts_add_up() -> None:
    metrics = Metrics()
    done = Counters(orders=5, duplicates=1, scores=7, warnings=2, instants=3, dead_letters=2)
    done.erasures, done.erased_orders = 1, 4
    done.odd = Counter(correction=1, rounded=2)
    done.reasons = Counter({"not_json": 2})
    done.triggers = Counter({"silence": 1, "refund": 1})
    metrics.add(done)
    metrics.add(done)
    metrics.forgotten(3)
    metrics.count(FENCED)
    metrics.count(OUTAGES, server="store")
    metrics.batch_took(0.02)
    found = samples(metrics.exposition({}))
    assert found["clv_orders_applied_total"] == 10
    assert found["clv_orders_repeated_total"] == 2
    assert found["clv_scores_total"] == 14
    assert found["clv_instants_total"] == 6
    assert found["clv_erasures_total"] == 2
    assert found["clv_orders_forgotten_total"] == 8
    assert found["clv_customers_forgotten"] == 3
    assert found['clv_orders_odd_total{kind="rounded"}'] == 4
    assert found['clv_dead_letters_total{reason="not_json"}'] == 4
    assert found['clv_warnings_total{trigger="silence"}'] == 2
    assert found['clv_outages_total{server="store"}'] == 1
    assert found['clv_batch_seconds_bucket{le="0.025"}'] == 1


def test_gauges_are_of_the_partitions_that_are_ours_now() -> None:
    metrics = Metrics()
    metrics.exposition({0: PartitionGauges(10, 1.5, 2), 1: PartitionGauges(None, None, 0)})
    found = samples(metrics.exposition({1: PartitionGauges(None, None, 4)}))
    gauges = {name: value for name, value in found.items() if "partition=" in name}
    assert gauges == {'clv_outbox_messages{partition="1"}': 4}
    assert found["clv_partitions_owned"] == 1


@pytest.mark.parametrize("metric", DECLARED, ids=lambda metric: metric.name)
def test_names_units_and_labels_are_as_prometheus_wants_them(metric: Any) -> None:
    assert re.fullmatch(r"clv_[a-z_]+", metric.name)
    assert not metric.name.endswith("_total")
    assert set(metric.labels) <= _LABELS
    if metric.unit == "seconds":
        assert metric.name.endswith("_seconds")
    assert metric.meaning.endswith(".")
