"""The webhook of a worker, where one is set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from streamer.clock import SystemClock
from streamer.kafka import clients as servers
from streamer.metrics import WEBHOOK_POSTS, Metrics
from streamer.records import Message
from streamer.settings import Settings
from streamer.standard_webhooks import key_of
from streamer.webhook.deliver import Deliverer, HttpReceiver
from streamer.webhook.follow import Follower


def webhook_of(
    settings: Settings, erased: Callable[[Message], bool], metrics: Metrics
) -> Follower | None:
    """What delivers the warnings topic to CLV_WEBHOOK_URL; None without one."""
    url, secret = settings.webhook_url, settings.webhook_secret
    if url is None or secret is None:
        return None
    consumer = partial(
        servers.group_consumer,
        settings,
        f"{settings.group}-webhook",
        # Where nothing is committed yet: all that the topic has.
        auto_offset_reset="earliest",
    )
    deliverer = Deliverer(
        HttpReceiver(url.get_secret_value()),
        key_of(secret.get_secret_value()),
        SystemClock(),
        lambda outcome: metrics.count(WEBHOOK_POSTS, status=outcome),
    )
    return Follower(consumer, settings.warnings_topic, deliverer, erased)
