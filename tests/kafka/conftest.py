"""Workers on an Apache Kafka that a test may break."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment

# Makes a deployment: a name for it, its Kafka, and further settings.
Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(deploy_on: Deploy) -> Deploy:
    def make(name: str, kafka: ApacheKafka, **variables: str) -> Deployment:
        return deploy_on(kafka, name, **variables)

    return make
