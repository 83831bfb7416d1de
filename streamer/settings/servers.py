"""The settings of whoever runs Kafka and Redis: where they are, and how one gets in."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from streamer.settings.fields import (
    File,
    Mechanism,
    Protocol,
    RedisUrl,
    RegistryUrl,
    Section,
    Servers,
    Switch,
)


class ServerSettings(Section):
    """How Kafka and Redis are reached."""

    heading: ClassVar = "Whoever runs Kafka and Redis"

    kafka_bootstrap_servers: Servers = Field("", validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    """Kafka brokers to start from: `host:port`, comma-separated."""
    kafka_security_protocol: Protocol = "PLAINTEXT"
    """`PLAINTEXT`, `SSL`, `SASL_SSL` or `SASL_PLAINTEXT`, as the brokers' listener."""
    kafka_sasl_mechanism: Mechanism | None = None
    """`SCRAM-SHA-512`, `SCRAM-SHA-256` or `PLAIN`; for the `SASL_` protocols."""
    kafka_username: str | None = None
    """User for SASL."""
    kafka_password: SecretStr | None = None
    """Password for SASL; a secret."""
    kafka_ca_file: File = None
    """PEM file of the authorities that sign the brokers; unset: the system's."""
    kafka_cert_file: File = None
    """PEM file of our own certificate, where brokers ask for one."""
    kafka_key_file: File = None
    """PEM file of that certificate's key, not encrypted."""
    kafka_allow_plaintext_sasl: Switch = False
    """`on`: send the login to Kafka without TLS, for everybody on the way to read."""
    schema_registry_url: RegistryUrl | None = None
    """Registry of the schemas of what `ingest` reads, with Confluent's API:
    `https://user:password@host:8081`; a secret."""
    redis_url: RedisUrl = Field(SecretStr(""), validation_alias="REDIS_URL")
    """Redis or Valkey: `redis://`, `rediss://` or `unix://`; a cluster:
    `redis+cluster://host:port,host:port` or `rediss+cluster://`."""
    redis_ca_file: File = None
    """PEM file of the authorities that sign the Redis; unset: the system's."""
    redis_cert_file: File = None
    """PEM file of our own certificate, where the Redis asks for one."""
    redis_key_file: File = None
    """PEM file of that certificate's key, not encrypted."""
