"""Servers that several test files share. Absent, they fail in CI and are skipped elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis, EmbeddedUnavailable
from tests.support.schemas.apicurio import Apicurio
from tests.support.servers.cluster import ApacheKafka

pytest_plugins = ["streamer.testing"]

Server = TypeVar("Server", EmbeddedKafka, EmbeddedRedis, ApacheKafka, Apicurio)


@contextmanager
def required(server: Server) -> Iterator[Server]:
    try:
        server.start()
    except EmbeddedUnavailable as reason:
        server.close()
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def embedded_redis() -> Iterator[EmbeddedRedis]:
    """One for all tests: each takes a cluster id or namespace of its own."""
    with required(EmbeddedRedis()) as redis:
        yield redis


@pytest.fixture(scope="session")
def embedded_kafka() -> Iterator[EmbeddedKafka]:
    """One for all tests: each takes topics and groups of its own."""
    with required(EmbeddedKafka()) as kafka:
        yield kafka


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[ApacheKafka]:
    """One broker for all tests: each takes topics and groups of its own."""
    with required(ApacheKafka()) as kafka:
        yield kafka


@pytest.fixture(
    scope="session",
    params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)],
)
def kafka(request: pytest.FixtureRequest) -> EmbeddedKafka | ApacheKafka:
    """Either broker: what holds on the one has to hold on the other."""
    found = request.getfixturevalue(f"{request.param}_kafka")
    assert isinstance(found, EmbeddedKafka | ApacheKafka)
    return found
