"""What a worker counts, in Prometheus' text form.

Every metric is declared once: name, type, unit, labels and meaning; `reference metrics` prints
them. Labels are partitions, reasons and the like, never customers.

Counters begin at 0 with the process and count what this worker did; a write whose answer was lost
is found to be applied later, and not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from features.events.orders import Reason
from model.decide.rule_state import Trigger
from model.monitor.result import SCORE, Age, MonitoredWeek
from model.shadow.protocol import QUANTILES, Agreement
from streamer.pipeline.batch import Counters

_Kind = TypeVar("_Kind", Counter, Gauge)

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
SERVERS: Final = ("store", "publisher", "log", "registry")
# Seconds. A batch takes some tens of milliseconds; what takes longer waits for somebody.
_BATCH_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's declaration. Counters are exposed with `_total` behind their name."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    unit: str
    meaning: str
    # Their values, where those are known beforehand.
    labels: Mapping[str, tuple[str, ...] | None] = field(hash=False)

    @property
    def exposed(self) -> str:
        return f"{self.name}_total" if self.type == "counter" else self.name


DECLARED: Final[list[Metric]] = []
"""All metrics; each adds itself where it is declared below."""


def _metric(
    name: str,
    type: Literal["counter", "gauge", "histogram"],
    unit: str,
    meaning: str,
    **labels: Iterable[str] | None,
) -> Metric:
    known = {label: None if of is None else tuple(of) for label, of in labels.items()}
    metric = Metric(f"clv_{name}", type, unit, meaning, known)
    DECLARED.append(metric)
    return metric


def _counter(name: str, unit: str, meaning: str, **labels: Iterable[str] | None) -> Metric:
    return _metric(name, "counter", unit, meaning, **labels)


def _gauge(name: str, unit: str, meaning: str, **labels: Iterable[str] | None) -> Metric:
    return _metric(name, "gauge", unit, meaning, **labels)


ORDERS: Final = _counter(
    "orders_applied", "orders", "Orders applied to customers' states, repeats included."
)
REPEATS: Final = _counter(
    "orders_repeated", "orders", "Orders whose id was known: they change nothing."
)
ODD: Final = _counter(
    "orders_odd",
    "orders",
    "Orders not counted as they came: `correction` of one known by its id, `id_reused` long after,"
    " `rounded` amounts; or not when they came: `late` by more than CLV_ALLOWED_LATENESS, more than"
    " a day `ahead` of everybody else's; and `tombstone`s, which are passed over.",
    kind=("correction", "id_reused", "rounded", "late", "ahead", "tombstone"),
)
RAN_AHEAD: Final = _counter(
    "watermark_ahead",
    "partitions",
    "Partitions whose event time was ahead of the clock when they were claimed.",
)
DEAD_LETTERS: Final = _counter(
    "dead_letters", "records", "Records set aside, by reason.", reason=Reason
)
SCORES: Final = _counter("scores", "scores", "Scores published.")
WARNINGS: Final = _counter(
    "warnings", "warnings", "Warnings fired, by what made them fire.", trigger=Trigger
)
RECOVERED: Final = _counter("warnings_answered", "warnings", "Warnings that an order came after.")
WITHHELD: Final = _counter(
    "warnings_withheld",
    "episodes",
    "Episodes whose warning the day's budget had no place for at first.",
)
INSTANTS: Final = _counter(
    "instants", "instants", "Instants at which a silent customer was judged."
)
PUT_OFF: Final = _counter(
    "customers_put_off",
    "customers",
    "Silent customers whom the model could not score when they were due: tried again the next day.",
)
REBUILT: Final = _counter(
    "customers_rebuilt", "customers", "Damaged customers rebuilt from the log."
)
WENT_BACK: Final = _counter(
    "store_went_back",
    "partitions",
    "Partitions that the store had lost writes of when they were claimed: read again.",
)
FENCED: Final = _counter(
    "fenced", "times", "Writes refused because another worker had claimed the partition."
)
RESEEKS: Final = _counter(
    "reseeks", "times", "Records that did not continue what was applied: read again."
)
OUTAGES: Final = _counter(
    "outages", "outages", "Waits for a server that was down, by server.", server=SERVERS
)
OUTAGE_TRIES: Final = _counter(
    "outage_retries", "tries", "Tries during outages, by server.", server=SERVERS
)
BATCH: Final = _metric(
    "batch_seconds",
    "histogram",
    "seconds",
    "Time to process a batch until its writes and messages are acknowledged.",
)
ERASURES: Final = _counter(
    "erasures", "erasures", "Erasures applied; one customer's is applied in every partition."
)
ORDERS_FORGOTTEN: Final = _counter(
    "orders_forgotten",
    "orders",
    "Orders left out since they are from before their customer was erased.",
)
FORGOTTEN: Final = _gauge(
    "customers_forgotten",
    "customers",
    "Customers of whom this worker knows that they were erased, ever.",
)
API_REQUESTS: Final = _counter(
    "api_requests",
    "requests",
    "Requests to the prediction API, by page and status.",
    page=None,
    status=None,
)
WEBHOOK_POSTS: Final = _counter(
    "webhook_posts", "posts", "POSTs to the webhook, by outcome.", status=("taken", "refused")
)
WEBHOOK_LAG: Final = _gauge(
    "webhook_lag", "records", "Records that the webhook has not taken yet.", partition=None
)
PARTITIONS: Final = _gauge("partitions_owned", "partitions", "Partitions claimed.")
LAG: Final = _gauge(
    "lag_records",
    "records",
    "Records in the log, as last heard, that are not applied.",
    partition=None,
)
WATERMARK_AGE: Final = _gauge(
    "watermark_age_seconds",
    "seconds",
    "How far the partition's event time stands behind the clock.",
    partition=None,
)
OUTBOX: Final = _gauge(
    "outbox_messages", "warnings", "Warnings written and not acknowledged.", partition=None
)
MODEL: Final = _gauge("model_info", "1", "1 for the version of the model in use.", version=None)
MODEL_REFUSED: Final = _gauge(
    "model_refused",
    "1",
    "1 while the registry's current version is refused and the one before goes on.",
    version=None,
)
MODEL_SWAPS: Final = _counter(
    "model_swaps", "swaps", "Models that took over from another between two batches."
)
MODEL_REFUSALS: Final = _counter(
    "model_refusals", "versions", "Current versions that were refused when first tried."
)
SHADOW_CUSTOMERS: Final = _gauge(
    "shadow_customers", "customers", "Customers followed under a shadow model.", version=None
)
SHADOW_SPEARMAN: Final = _gauge(
    "shadow_spearman", "1", "Rank correlation of its CLVs with the live ones.", version=None
)
SHADOW_MEAN_RATIO: Final = _gauge(
    "shadow_mean_ratio", "1", "Its mean CLV over the live one.", version=None
)
SHADOW_RATIO: Final = _gauge(
    "shadow_ratio",
    "1",
    "Its CLV over the live one, at quantiles of the customers.",
    version=None,
    quantile=None,
)
SHADOW_WARNINGS: Final = _gauge(
    "shadow_warnings",
    "episodes",
    "Episodes that both warned of, that it would have added, and that it would have removed.",
    version=None,
    by=None,
)
SHADOW_DROPPED: Final = _counter(
    "shadow_dropped", "orders", "Orders not shown to it, because it was behind."
)
FEATURE_PSI: Final = _gauge(
    "feature_psi", "1", "Drift of a feature since training: see monitoring.", feature=None
)
SCORE_PSI: Final = _gauge(
    "score_psi", "1", "Drift of the model's CLVs since training.", version=None
)
LEVEL_BIAS: Final = _gauge(
    "level_bias",
    "1",
    "What customers were expected to bring within some days over what they brought.",
    days=None,
)
LEVEL_TYPICAL: Final = _gauge(
    "level_typical",
    "1",
    "The same ratio with outliers capped; this one triggers the alarm.",
    days=None,
)
DRIFT_ALARM: Final = _gauge(
    "drift_alarm",
    "1",
    "1 for what is further off than chance explains: a feature, `clv`, `level_14`, ...",
    what=None,
)
MONITORED: Final = _gauge(
    "monitored_customers", "customers", "Customers behind the last look at drift."
)
MODEL_AGE: Final = _gauge(
    "model_age_days",
    "days",
    "From what the model knew in training to the newest orders.",
    version=None,
)
MODEL_OLD: Final = _gauge(
    "model_old",
    "1",
    "1 while that is more than CLV_MODEL_OLD_AFTER_DAYS and a horizon: train a new one.",
    version=None,
)

_SHADOW: Final = (
    SHADOW_CUSTOMERS,
    SHADOW_SPEARMAN,
    SHADOW_MEAN_RATIO,
    SHADOW_RATIO,
    SHADOW_WARNINGS,
)


@dataclass(frozen=True, slots=True)
class PartitionGauges:
    """How a partition of ours stands at a look; None where it cannot be said yet."""

    lag: int | None
    watermark_age_s: float | None
    outbox: int


class Metrics:
    """The counts of one worker. Safe for any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._counters, self._gauges = instruments(DECLARED, self._registry)
        self._batch = Histogram(
            BATCH.name, BATCH.meaning, buckets=_BATCH_BUCKETS, registry=self._registry
        )

    def count(self, metric: Metric, by: float = 1, **labels: str) -> None:
        counter = self._counters[metric]
        (counter.labels(**labels) if labels else counter).inc(by)

    def api_answered(self, page: str, status: int, times: int = 1) -> None:
        self.count(API_REQUESTS, times, page=page, status=str(status))

    def webhook_stands(self, lag: Mapping[int, int]) -> None:
        self._gauges[WEBHOOK_LAG].clear()
        for number, records in lag.items():
            self._gauges[WEBHOOK_LAG].labels(partition=str(number)).set(records)

    def forgotten(self, customers: int) -> None:
        self._gauges[FORGOTTEN].set(customers)

    def batch_took(self, seconds: float) -> None:
        self._batch.observe(seconds)

    def model(self, version: str) -> None:
        """Says which model is in use."""
        self._only(MODEL, version)

    def model_swapped(self) -> None:
        self.count(MODEL_SWAPS)

    def model_refused(self, version: str | None, *, again: bool) -> None:
        """Says which version should be in use and is refused, for the first time or `again`;
        None: there is none such."""
        self._only(MODEL_REFUSED, version)
        if version is not None and not again:
            self.count(MODEL_REFUSALS)

    def shadow(self, agreement: Agreement | None) -> None:
        """Says how far the shadow model agrees; None: there is nothing to compare yet."""
        for metric in _SHADOW:
            self._gauges[metric].clear()
        if agreement is None:
            return
        version = agreement.shadow
        plain = {
            SHADOW_CUSTOMERS: agreement.customers,
            SHADOW_SPEARMAN: agreement.spearman,
            SHADOW_MEAN_RATIO: agreement.mean_ratio,
        }
        for metric, value in plain.items():
            if value is not None:
                self._gauges[metric].labels(version=version).set(value)
        for percent, ratio in zip(QUANTILES, agreement.ratio_quantiles or (), strict=False):
            quantile = f"{percent / 100:g}"
            self._gauges[SHADOW_RATIO].labels(version=version, quantile=quantile).set(ratio)
        for by in ("both", "added", "removed"):
            gauge = self._gauges[SHADOW_WARNINGS].labels(version=version, by=by)
            gauge.set(getattr(agreement, by))

    def monitored(self, version: str, week: MonitoredWeek | None) -> None:
        """Says how the model fits; None: there is nothing to say."""
        for metric in (FEATURE_PSI, SCORE_PSI, LEVEL_BIAS, LEVEL_TYPICAL, DRIFT_ALARM):
            self._gauges[metric].clear()
        self._gauges[MONITORED].set(0 if week is None else week.customers)
        if week is None:
            return
        for drift in week.drifts:
            metric, labels = FEATURE_PSI, {"feature": drift.name}
            if drift.name == SCORE:
                metric, labels = SCORE_PSI, {"version": version}
            self._gauges[metric].labels(**labels).set(drift.psi)
            if drift.alarm:
                self._gauges[DRIFT_ALARM].labels(what=drift.name).set(1)
        for bias in week.biases:
            self._gauges[LEVEL_BIAS].labels(days=str(bias.days)).set(bias.bias)
            self._gauges[LEVEL_TYPICAL].labels(days=str(bias.days)).set(bias.typical)
            if bias.alarm:
                self._gauges[DRIFT_ALARM].labels(what=f"level_{bias.days}").set(1)

    def model_age(self, version: str, age: Age) -> None:
        for metric, value in ((MODEL_AGE, age.days), (MODEL_OLD, int(age.old))):
            self._gauges[metric].clear()
            self._gauges[metric].labels(version=version).set(value)

    def shadow_dropped(self, orders: int) -> None:
        self.count(SHADOW_DROPPED, orders)

    def _only(self, metric: Metric, version: str | None) -> None:
        self._gauges[metric].clear()
        if version is not None:
            self._gauges[metric].labels(version=version).set(1)

    def add(self, done: Counters) -> None:
        """Counts what a partition has done since it was last asked."""
        self.count(ORDERS, done.orders)
        self.count(REPEATS, done.duplicates)
        self.count(RAN_AHEAD, done.ran_ahead)
        self.count(SCORES, done.scores)
        self.count(RECOVERED, done.recovered)
        self.count(WITHHELD, done.deferred)
        self.count(INSTANTS, done.instants)
        self.count(PUT_OFF, done.rescheduled)
        self.count(REBUILT, done.rebuilt)
        self.count(WENT_BACK, done.lost_writes)
        self.count(ERASURES, done.erasures)
        self.count(ORDERS_FORGOTTEN, done.erased_orders)
        for kind, count in done.odd.items():
            self.count(ODD, count, kind=kind)
        for reason, count in done.reasons.items():
            self.count(DEAD_LETTERS, count, reason=reason)
        for trigger, count in done.triggers.items():
            self.count(WARNINGS, count, trigger=trigger)

    def exposition(self, partitions: Mapping[int, PartitionGauges]) -> bytes:
        """All metrics as a Prometheus reads them; the gauges as the partitions stand now."""
        self._gauges[PARTITIONS].set(len(partitions))
        for metric in (LAG, WATERMARK_AGE, OUTBOX):
            # Those that were ours and are not any more.
            self._gauges[metric].clear()
        for number, standing in partitions.items():
            values = (standing.lag, standing.watermark_age_s, standing.outbox)
            for metric, value in zip((LAG, WATERMARK_AGE, OUTBOX), values, strict=True):
                if value is not None:
                    self._gauges[metric].labels(partition=str(number)).set(value)
        return generate_latest(self._registry)


def instruments(
    declared: Iterable[Metric], registry: CollectorRegistry
) -> tuple[dict[Metric, Counter], dict[Metric, Gauge]]:
    """The counters and gauges among the metrics, in a registry."""
    # Twice as many lines, to say when each counter was made.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    kinds: dict[str, list[Metric]] = {"counter": [], "gauge": [], "histogram": []}
    for metric in declared:
        kinds[metric.type].append(metric)
    return (
        {metric: _made(Counter, metric, registry) for metric in kinds["counter"]},
        {metric: _made(Gauge, metric, registry) for metric in kinds["gauge"]},
    )


def _made(kind: type[_Kind], metric: Metric, registry: CollectorRegistry) -> _Kind:
    made = kind(metric.name, metric.meaning, list(metric.labels), registry=registry)
    for label, values in metric.labels.items():
        for value in values or ():
            made.labels(**{label: value})  # there from the start, at 0
    return made


def metrics_table(declared: Iterable[Metric] = DECLARED) -> str:
    """Every metric as it is exposed, as a Markdown table."""
    rows = ["| metric | type | unit | labels | meaning |", "| --- | --- | --- | --- | --- |"]
    rows += [
        f"| `{m.exposed}` | {m.type} | {m.unit} | {', '.join(m.labels) or '–'} | {m.meaning} |"
        for m in declared
    ]
    return "\n".join(rows) + "\n"
