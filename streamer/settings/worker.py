"""The settings of whoever runs the workers: topics, limits, pages and patience."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from streamer.pipeline.dead_letters import Limits
from streamer.settings.fields import (
    CountOrOff,
    DurationMs,
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

    heading: ClassVar = "Whoever runs the workers"

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
    watchdog_ms: DurationMs = Field(
        default="120s",
        validation_alias="CLV_WATCHDOG",
        validate_default=True,
        description="Without progress for this long, a worker exits with code 70 and says why.",
    )

    @property
    def dead_letter_limits(self) -> Limits:
        """The most that may be set aside of a partition."""
        return Limits(self.dead_letter_max_run, self.dead_letter_max_ratio)
