"""Servers that several test files share. Absent, they fail in CI and are skipped elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from model.artifact.artifact import save
from streamer.demo.embedded import (
    EmbeddedKafka,
    EmbeddedRedis,
    EmbeddedUnavailable,
    LocalServer,
)
from tests.support import modelling
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment, Servers

pytest_plugins = ["streamer.testing"]

Deploy = Callable[..., Deployment]
Server = TypeVar("Server", bound=LocalServer)


def pytest_xdist_auto_num_workers() -> int:
    """Much of what tests do is to wait for servers; beyond eight, processes import for little."""
    return min(2 * (os.cpu_count() or 1), 8)


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


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model, for all tests to read; who damages one takes a copy."""
    directory = tmp_path_factory.mktemp("models") / "shop"
    save(directory, modelling.model(), modelling.fields())
    return directory


@pytest.fixture
def deploy_on(model: Path, tmp_path: Path) -> Iterator[Deploy]:
    """Makes deployments on a broker, each with a Redis to itself."""
    with ExitStack() as stack:

        def make(kafka: EmbeddedKafka | ApacheKafka, name: str, **variables: str) -> Deployment:
            servers = Servers(kafka, stack.enter_context(required(EmbeddedRedis())))
            return stack.enter_context(Deployment(name, servers, model, tmp_path, **variables))

        yield make


@pytest.fixture
def deploy(deploy_on: Deploy, kafka: EmbeddedKafka | ApacheKafka) -> Deploy:
    return partial(deploy_on, kafka)
