"""The settings of a worker's own work: models, topics, orders, its pages and its patience."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from features.ledger import MAX_MEMORY_DAYS, IdMemory
from features.orders import OrderRules
from model.artifact.signature import Trust
from model.monitor.result import OLD_AFTER_DAYS
from streamer.pipeline.dead_letters import Limits
from streamer.settings.fields import (
    CountOrOff,
    Currency,
    DaysOrOff,
    DurationMs,
    DurationMsOrOff,
    KeysFile,
    LogLevel,
    Section,
    SessionTimeoutMs,
    ShareOrOff,
    Switch,
    Token,
    Topic,
)
from streamer.store.base import StartAt


class WorkerSettings(Section):
    """What a worker reads, writes and shows, and how long it waits."""

    model: Path | None = Field(
        default=None,
        validation_alias="CLV_MODEL",
        description="Directory of the model artifact, as `python -m model train` writes it, or of"
        " a registry, whose current version is used.",
    )
    attributes: Path | None = Field(
        default=None,
        validation_alias="CLV_ATTRIBUTES",
        description="CSV of customer attributes, keyed by `user_id`, read when a model is loaded;"
        " needed for one that was trained with such.",
    )
    model_check_ms: DurationMsOrOff = Field(
        default="5s",
        validation_alias="CLV_MODEL_CHECK",
        validate_default=True,
        description="How often a registry is asked whether another version is current; `off`: at"
        " the start alone.",
    )
    model_keys: KeysFile = Field(
        default=None,
        validation_alias="CLV_MODEL_KEYS",
        description="File of public keys, one a line: only models that one of them has signed.",
    )
    require_signature: Switch | None = Field(
        default=None,
        validation_alias="CLV_REQUIRE_SIGNATURE",
        description="`on` refuses models without a signature; `off`, with keys, takes them too.",
        json_schema_extra={"default_text": "on with CLV_MODEL_KEYS"},
    )
    shadow_model: Path | None = Field(
        default=None,
        validation_alias="CLV_SHADOW_MODEL",
        description="Another artifact or registry, whose model is compared with the live one and"
        " changes nothing; unset: none.",
    )
    shadow_share: float = Field(
        default=0.1,
        validation_alias="CLV_SHADOW_SHARE",
        gt=0,
        le=1,
        description="Share of the customers that are followed under the shadow model.",
    )
    monitor: Switch = Field(
        default=True,
        validation_alias="CLV_MONITOR",
        description="`on`: once a day of event time, some customers are read from the Redis to see"
        " whether the model still fits them.",
    )
    model_old_after_days: DaysOrOff = Field(
        default=OLD_AFTER_DAYS,
        validation_alias="CLV_MODEL_OLD_AFTER_DAYS",
        description="Days of event time after which a model is called old, in the log and the"
        " metrics, or `off`. One horizon is granted on top, for `retrain` trains up to that long"
        " ago.",
    )
    group: Topic = Field(
        default="clv-streamer", validation_alias="CLV_GROUP", description="Kafka consumer group."
    )
    orders_topic: Topic = Field(
        default="orders", validation_alias="CLV_ORDERS_TOPIC", description="Orders come from here."
    )
    warnings_topic: Topic = Field(
        default="churn-warnings",
        validation_alias="CLV_WARNINGS_TOPIC",
        description="Warnings and recoveries go here.",
    )
    scores_topic: Topic = Field(
        default="clv-scores",
        validation_alias="CLV_SCORES_TOPIC",
        description="Scores go here; a compacted topic.",
    )
    dead_letter_topic: Topic = Field(
        default="orders-dead-letter",
        validation_alias="CLV_DEAD_LETTER_TOPIC",
        description="Records that break a rule go here, with the reason.",
    )
    erasures_topic: Topic = Field(
        default="clv-erasures",
        validation_alias="CLV_ERASURES_TOPIC",
        description="Who was forgotten, as hashes; a compacted topic.",
    )
    dead_letter_max_run: CountOrOff = Field(
        default=500,
        validation_alias="CLV_DEAD_LETTER_MAX_RUN",
        description="Bad records in a row of one partition above which a worker stops, or `off`.",
    )
    dead_letter_max_ratio: ShareOrOff = Field(
        default=0.2,
        validation_alias="CLV_DEAD_LETTER_MAX_RATIO",
        description="Share of bad records in the window above which a worker stops, or `off`.",
    )
    dead_letter_window: int = Field(
        default=5_000,
        validation_alias="CLV_DEAD_LETTER_WINDOW",
        ge=1,
        le=100_000,
        description="Last records of a partition over which that share is taken.",
    )
    scores: Switch = Field(
        default=True,
        validation_alias="CLV_SCORES",
        description="`on`: every scoring is published; `off`: none.",
    )
    partitions: int = Field(
        default=4,
        validation_alias="CLV_PARTITIONS",
        ge=1,
        le=10_000,
        description="Partitions of the topics that we make ourselves.",
    )
    currency: Currency = Field(
        default="USD",
        validation_alias="CLV_CURRENCY",
        description="Currency of all orders, ISO 4217.",
    )
    max_future_ms: DurationMs = Field(
        default="24h",
        validation_alias="CLV_MAX_FUTURE",
        validate_default=True,
        description="How far an order's time may lie ahead of the broker's record timestamp.",
    )
    allowed_lateness_ms: DurationMs = Field(
        default="1h",
        validation_alias="CLV_ALLOWED_LATENESS",
        validate_default=True,
        description="How long late orders are waited for before an instant is scored.",
    )
    idle_after_ms: DurationMsOrOff = Field(
        default="60s",
        validation_alias="CLV_IDLE_AFTER",
        validate_default=True,
        description="A partition without orders for this long follows the clock; `off`: never.",
    )
    batch: int = Field(
        default=1000,
        validation_alias="CLV_BATCH",
        ge=1,
        le=100_000,
        description="Most records in one batch.",
    )
    cache_customers: int = Field(
        default=100_000,
        validation_alias="CLV_CACHE_CUSTOMERS",
        ge=0,
        description="Customers kept decoded in memory by a worker; about 2 KB each.",
    )
    id_memory_days: int = Field(
        default=MAX_MEMORY_DAYS,
        validation_alias="CLV_ID_MEMORY_DAYS",
        ge=1,
        le=MAX_MEMORY_DAYS,
        description="Days for which a customer's order ids are remembered, to know repeats.",
    )
    id_memory_size: int = Field(
        default=1000,
        validation_alias="CLV_ID_MEMORY_SIZE",
        ge=1,
        description="Most order ids remembered for one customer.",
    )
    start_at: StartAt = Field(
        default=StartAt.AUTO,
        validation_alias="CLV_START_AT",
        description="Where to begin a partition of which the Redis knows nothing and whose log has"
        " lost its first orders: `log-start`; `auto`: there too, unless the group has committed"
        " offsets, so that the Redis has lost what it had; `refuse`: nowhere.",
        json_schema_extra={"default_text": "auto"},
    )
    rebuild_partly: Switch = Field(
        default=False,
        validation_alias="CLV_REBUILD_PARTLY",
        description="A customer whose bytes in the Redis are damaged is rebuilt from the log;"
        " `on`: also where the log has lost orders. `off`: the worker stops then.",
    )
    state_namespace: Topic = Field(
        default="clv",
        validation_alias="CLV_STATE_NAMESPACE",
        description="First part of every key in Redis.",
    )
    cluster_id: Topic | None = Field(
        default=None,
        validation_alias="CLV_CLUSTER_ID",
        description="Name of the Kafka cluster in the keys; unset: what the brokers report.",
    )
    web_bind: str = Field(
        default="127.0.0.1",
        validation_alias="CLV_WEB_BIND",
        min_length=1,
        description="Address of the worker's pages and its API; not loopback: with a token.",
    )
    web_port: int = Field(
        default=6066,
        validation_alias="CLV_WEB_PORT",
        ge=0,
        le=65535,
        description="Their port; 0 switches them off.",
    )
    web_token: Token | None = Field(
        default=None,
        validation_alias="CLV_WEB_TOKEN",
        description="Bearer token that all pages but `/healthz` ask for; a secret.",
    )
    api: Switch = Field(
        default=True,
        validation_alias="CLV_API",
        description="`off`: without the pages of the prediction API, which name customers.",
    )
    log_level: LogLevel = Field(
        default="INFO",
        validation_alias="CLV_LOG_LEVEL",
        description="`DEBUG`, `INFO`, `WARNING` or `ERROR`.",
    )
    session_timeout_ms: SessionTimeoutMs = Field(
        default="10s",
        validation_alias="CLV_SESSION_TIMEOUT",
        validate_default=True,
        description="A worker without a heartbeat for this long loses its partitions; up to 30s.",
    )
    fetch_max_wait_ms: DurationMs = Field(
        default="200ms",
        validation_alias="CLV_FETCH_MAX_WAIT",
        validate_default=True,
        description="How long a broker may hold a fetch that finds nothing.",
    )
    watchdog_ms: DurationMs = Field(
        default="120s",
        validation_alias="CLV_WATCHDOG",
        validate_default=True,
        description="Without progress for this long, a worker exits with code 70 and says why.",
    )

    @property
    def order_rules(self) -> OrderRules:
        return OrderRules(currency=self.currency, max_future_ms=self.max_future_ms)

    @property
    def trust(self) -> Trust:
        """Who may have made a model."""
        return Trust.of(self.model_keys, self.require_signature)

    @property
    def dead_letter_limits(self) -> Limits:
        """The most that may be set aside of a partition."""
        return Limits(self.dead_letter_max_run, self.dead_letter_max_ratio, self.dead_letter_window)

    @property
    def id_memory(self) -> IdMemory:
        return IdMemory(days=self.id_memory_days, size=self.id_memory_size)
