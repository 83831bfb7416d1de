"""Workers on an Apache Kafka that a test may break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from model.artifact.artifact import save
from streamer.demo.embedded import EmbeddedRedis
from tests.conftest import required
from tests.support import modelling
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment, Servers

# Makes a deployment: a name for it, its Kafka, and further settings.
Deploy = Callable[..., Deployment]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "shop"
    save(directory, modelling.model(), modelling.fields())
    return directory


@pytest.fixture
def deploy(model: Path, tmp_path: Path) -> Iterator[Deploy]:
    """Makes deployments, each with a Redis to itself."""
    with ExitStack() as stack:

        def make(name: str, kafka: ApacheKafka, **variables: str) -> Deployment:
            servers = Servers(kafka, stack.enter_context(required(EmbeddedRedis())))
            return stack.enter_context(Deployment(name, servers, model, tmp_path, **variables))

        yield make
