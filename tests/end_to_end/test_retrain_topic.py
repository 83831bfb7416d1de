"""`python -m streamer retrain`: from the orders topic of a broker to a promoted model."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from model.artifact import registry
from model.data.fingerprint import data_of
from model.data.synthetic import write_csv
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from tests.conftest import required
from tests.support import modelling
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment, Servers


@pytest.mark.slow
async def test_the_topic_is_trained_on_and_its_model_promoted(
    kafka: EmbeddedKafka | ApacheKafka, tmp_path: Path
) -> None:
    write_csv(modelling.orders(), tmp_path / "orders.csv")
    root = tmp_path / "models"
    with required(EmbeddedRedis()) as redis:
        servers = Servers(kafka, redis)
        deployment = Deployment("retrain", servers, root, tmp_path)
        produced = await deployment.run("produce", str(tmp_path / "orders.csv"))
        assert produced.code == 0, produced.err
        retrained = await deployment.run("retrain", str(root), "--horizon", "60", "--json")
        assert retrained.code == 0, retrained.err
        outcome = msgspec.json.decode(retrained.out)
        assert outcome["action"] == "promoted"
        assert outcome["data"]["hash"] == data_of(modelling.orders()).hash
        assert registry.current(root) == outcome["candidate"]
        again = await deployment.run("retrain", str(root))
        assert (again.code, again.out.splitlines()[1]) == (0, f"current    {outcome['candidate']}")
        assert "Nothing new" in again.out
