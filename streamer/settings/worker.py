"""The settings of whoever runs the workers: topics, limits, pages and patience."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from streamer.pipeline.dead_letters import Limits
from streamer.pipeline.erasures import NO_KEYS, ErasureKeys
from streamer.settings.fields import (
    CountOrOff,
    DurationMs,
    ErasureKey,
    LogLevel,
    Secret,
    Section,
    SessionTimeoutMs,
    ShareOrOff,
    Switch,
    Topic,
    WebhookSecret,
    WebhookUrl,
)
from streamer.store.base import StartAt


class WorkerSettings(Section):
    """What a worker reads, writes and shows, and how long it waits."""

    heading: ClassVar = "Whoever runs the workers"

    group: Topic = "clv-streamer"
    """Kafka consumer group."""
    orders_topic: Topic = "orders"
    """Orders come from here."""
    warnings_topic: Topic = "churn-warnings"
    """Warnings and recoveries go here."""
    scores_topic: Topic = "clv-scores"
    """Scores go here; a compacted topic."""
    dead_letter_topic: Topic = "orders-dead-letter"
    """Records that break a rule go here, with the reason."""
    erasures_topic: Topic = "clv-erasures"
    """Who was forgotten, as hashes; a compacted topic."""
    erasure_key: ErasureKey | None = None
    """Key of those hashes, a secret: 32 characters or more, the same for all workers and commands.
    `forget` needs it. Earlier keys follow it, comma-separated."""
    dead_letter_max_run: CountOrOff = 500
    """Bad records in a row of one partition above which a worker stops, or `off`."""
    dead_letter_max_ratio: ShareOrOff = 0.2
    """Share of bad records in the window above which a worker stops, or `off`."""
    scores: Switch = True
    """`on`: every scoring is published; `off`: none."""
    partitions: int = Field(4, ge=1, le=10_000)
    """Partitions of the topics that we make ourselves."""
    batch: int = Field(1000, ge=1, le=100_000)
    """Most records in one batch."""
    cache_customers: int = Field(100_000, ge=0)
    """Customers kept decoded in memory by a worker; about 1 KB each."""
    start_at: StartAt = Field(StartAt.AUTO, json_schema_extra={"default_text": "auto"})
    """Where to begin a partition of which the Redis knows nothing and whose log has lost its first
    orders: `log-start`; `auto`: there too, unless the group has committed offsets, so that the
    Redis has lost what it had; `refuse`: nowhere."""
    rebuild_partly: Switch = False
    """A customer whose bytes in the Redis are damaged is rebuilt from the log; `on`: also where the
    log has lost orders. `off`: the worker stops then."""
    state_namespace: Topic = "clv"
    """First part of every key in Redis."""
    cluster_id: Topic | None = None
    """Name of the Kafka cluster in the keys; unset: what the brokers report."""
    web_bind: str = Field("127.0.0.1", min_length=1)
    """Address of the worker's pages and its API; not loopback: with a token."""
    web_port: int = Field(6066, ge=0, le=65535)
    """Their port; 0 switches them off."""
    web_token: Secret | None = None
    """Bearer token that all pages but `/healthz` ask for; a secret."""
    shopify_secret: Secret | None = None
    """Key by which Shopify signs its webhooks to `POST /orders`; a secret."""
    stripe_secret: Secret | None = None
    """Signing secret of Stripe's webhooks to `POST /orders` (`whsec_...`); a secret."""
    api: Switch = True
    """`off`: without the pages of the prediction API, which name customers."""
    webhook_url: WebhookUrl | None = None
    """Receiver of every record of the warnings topic, as a signed POST; a secret."""
    webhook_secret: WebhookSecret | None = None
    """Key of the signatures: `whsec_` and 24 to 64 bytes in base64; a secret."""
    log_level: LogLevel = "INFO"
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""
    session_timeout_ms: SessionTimeoutMs = Field("10s", validate_default=True)
    """A worker without a heartbeat for this long loses its partitions; up to 30s."""
    watchdog_ms: DurationMs = Field("120s", validate_default=True)
    """Without progress for this long, a worker exits with code 70 and says why."""

    @property
    def webhook_secrets(self) -> dict[str, str]:
        """The secrets that webhooks are signed with, by who signs."""
        given = {"shopify": self.shopify_secret, "stripe": self.stripe_secret}
        return {name: key.get_secret_value() for name, key in given.items() if key is not None}

    @property
    def dead_letter_limits(self) -> Limits:
        """The most that may be set aside of a partition."""
        return Limits(self.dead_letter_max_run, self.dead_letter_max_ratio)

    @property
    def erasure_keys(self) -> ErasureKeys:
        """The keys of erased ids' hashes; none where none is set."""
        given = self.erasure_key
        return ErasureKeys.parse(given.get_secret_value()) if given is not None else NO_KEYS
