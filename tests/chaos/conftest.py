"""Stages with their servers, and the book that everything is written into."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from features.events.orders import Order
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from tests.conftest import required
from tests.support import modelling
from tests.support.chaos.deployment import FULL, Stage
from tests.support.chaos.results import RESULTS, Book
from tests.support.servers.cluster import ApacheKafka, Kafka
from tests.support.servers.deployment import Servers
from tests.support.servers.jars import ApacheKafkaMissing, jars, java

# Makes a stage: a name, and of what follows what the test needs to say.
SetStage = Callable[..., Stage]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.chaos)


@pytest.fixture(scope="session")
def book() -> Book:
    size = "full" if FULL else "small"
    name = os.environ.get("CHAOS_RESULTS", size)
    return Book(RESULTS / f"{name}.json", size)


def a_broker() -> EmbeddedKafka | ApacheKafka:
    """Apache Kafka where there is a Java to run it, and in CI in any case; else the embedded one,
    whose groups can stand still for ever where members leave while it rebalances.

    CHAOS_BROKER, `apache` or `embedded`, says which.
    """
    match os.environ.get("CHAOS_BROKER"):
        case "apache":
            return ApacheKafka()
        case "embedded":
            return EmbeddedKafka()
    if os.environ.get("CI") != "true":
        try:
            java()
            jars()
        except ApacheKafkaMissing:
            return EmbeddedKafka()
    return ApacheKafka()


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedKafka | ApacheKafka]:
    with required(a_broker()) as found:
        yield found


def named(kafka: Kafka) -> str:
    return "Apache Kafka" if isinstance(kafka, ApacheKafka) else "embedded"


@pytest.fixture
def set_stage(
    broker: EmbeddedKafka | ApacheKafka, model: Path, tmp_path: Path
) -> Iterator[SetStage]:
    """Makes stages, each with a Redis to itself unless one is given."""
    with ExitStack() as stack:

        def make(
            name: str,
            orders: Sequence[Order] | None = None,
            *,
            kafka: EmbeddedKafka | ApacheKafka | None = None,
            redis: EmbeddedRedis | None = None,
            **variables: str,
        ) -> Stage:
            if redis is None:
                redis = stack.enter_context(required(EmbeddedRedis()))
            servers = Servers(kafka or broker, redis)
            fed = modelling.orders() if orders is None else orders
            return stack.enter_context(Stage(name, servers, model, tmp_path, fed, **variables))

        yield make
