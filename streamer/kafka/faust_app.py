"""Faust as a group member only."""

from __future__ import annotations

import faust
from faust.app.base import BootStrategy
from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from streamer.kafka.clients import kafka_context, kafka_password
from streamer.settings import Settings


class _Boot(BootStrategy):
    """Without Faust's producer: messages go out through our own."""

    enable_kafka_producer = False


class _GroupMember(faust.App):
    """Without the directories that Faust makes for tables: one that is killed would leave them."""

    async def on_first_start(self) -> None: ...


def faust_credentials(settings: Settings) -> CredentialsT | None:
    """`kafka_arguments` for Faust, which makes the consumer's arguments of it; None without
    security."""
    protocol = settings.kafka_security_protocol
    context = kafka_context(settings) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL_"):
        return SASLCredentials(
            username=settings.kafka_username,
            password=kafka_password(settings),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)


def faust_app(settings: Settings) -> faust.App:
    """The app: no agents, tables, leader, acks or commits; and
    nothing of it in files."""
    session_s = settings.session_timeout_ms / 1000
    servers = settings.kafka_bootstrap_servers.split(",")
    app = _GroupMember(
        settings.group,
        broker=[f"kafka://{server.strip()}" for server in servers],
        broker_credentials=faust_credentials(settings),
        autodiscover=False,
        # Round robin, not Faust's own assignor; must never differ between workers of a group.
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=min(3.0, session_s / 4),
        broker_request_timeout=max(30.0, session_s),
        broker_max_poll_interval=300.0,
        consumer_auto_offset_reset="none",
        # Nothing is acknowledged, so there is nothing to wait for.
        stream_wait_empty=False,
        worker_redirect_stdouts=False,
        web_enabled=False,
    )
    app.boot_strategy = _Boot(app)
    return app
