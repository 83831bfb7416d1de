"""What an ingester counts: declared as the worker's metrics are (`streamer.metrics`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from features.events.orders import Reason
from streamer.ingest.plan import TOMBSTONE, IngestPlan
from streamer.metrics import OUTAGE_TRIES, OUTAGES, Metric, instruments

RECORDS: Final = Metric("clv_ingest_records", "counter", "records", "Records read.", {})
ORDERS: Final = Metric(
    "clv_ingest_orders", "counter", "orders", "Orders, refunds and cancellations written.", {}
)
SKIPPED: Final = Metric(
    "clv_ingest_skipped",
    "counter",
    "records",
    "Records that are no orders, by the mapping's reason; `tombstone`: without a value.",
    {"reason": (TOMBSTONE,)},
)
DEAD: Final = Metric(
    "clv_ingest_dead_letters",
    "counter",
    "records",
    "Records set aside, by reason.",
    {"reason": tuple(Reason)},
)
ROUNDED: Final = Metric(
    "clv_ingest_rounded", "counter", "orders", "Amounts with more decimals than the currency.", {}
)
LOST: Final = Metric(
    "clv_ingest_records_lost",
    "counter",
    "records",
    "Offsets that the topic had deleted before they were read.",
    {},
)
UNCOMMITTED: Final = Metric(
    "clv_ingest_commits_failed",
    "counter",
    "commits",
    "Commits that failed, mostly over a rebalance: their records are read again.",
    {},
)
INGEST_LAG: Final = Metric(
    "clv_ingest_lag_records",
    "gauge",
    "records",
    "Records in the log, as last heard, that are not read.",
    {"partition": None},
)
INGEST_DECLARED: Final = (
    *(RECORDS, ORDERS, SKIPPED, DEAD, ROUNDED, LOST, UNCOMMITTED, INGEST_LAG),
    *(OUTAGES, OUTAGE_TRIES),
)

# A mapping has some reasons; what it quotes of records must not become labels without end.
MAX_REASONS: Final = 30
_OTHER: Final = "other"


class IngestMetrics:
    """The counts of one ingester."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._counters, self._gauges = instruments(INGEST_DECLARED, self._registry)
        self._reasons = {TOMBSTONE, _OTHER}

    def count(self, metric: Metric, by: float = 1, **labels: str) -> None:
        counter = self._counters[metric]
        (counter.labels(**labels) if labels else counter).inc(by)

    def brought(self, records: int, plan: IngestPlan) -> Sequence[str]:
        """So many records were read, and what the plan has of them is acknowledged; which reasons
        to skip records are new."""
        new = []
        self.count(RECORDS, records)
        self.count(ORDERS, len(plan.orders))
        self.count(ROUNDED, plan.rounded)
        for reason, count in plan.reasons.items():
            self.count(DEAD, count, reason=reason)
        for reason, count in plan.skipped.items():
            if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
                reason = _OTHER
            if reason not in self._reasons:
                new.append(reason)
                self._reasons.add(reason)
            self.count(SKIPPED, count, reason=reason)
        return new

    def exposition(self, lags: Mapping[int, int]) -> bytes:
        """All metrics as a Prometheus reads them; `lags` of the partitions that are ours now."""
        gauge = self._gauges[INGEST_LAG]
        gauge.clear()
        for number, lag in lags.items():
            gauge.labels(partition=str(number)).set(lag)
        return generate_latest(self._registry)
