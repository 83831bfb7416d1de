"""`python -m model retrain --topic`: from the orders topic of a broker to a promoted model."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

from model.artifact import registry
from model.data.fingerprint import data_of
from model.data.synthetic import write_csv
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from tests.conftest import required
from tests.kafka.cluster import ApacheKafka
from tests.support import modelling
from tests.support.deployment import ROOT, Deployment, Servers


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
        command = ("retrain", str(root), "--topic", "retrain-orders", "--horizon", "60", "--json")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "model", *command,
            cwd=ROOT, env=deployment.environ,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        outcome = msgspec.json.decode(out)
        assert outcome["action"] == "promoted"
        assert outcome["data"]["hash"] == data_of(modelling.orders()).hash
        assert registry.current(root) == outcome["candidate"]
        again = await deployment.run("retrain", str(root))
        assert (again.code, again.out.splitlines()[1]) == (0, f"current    {outcome['candidate']}")
        assert "Nothing new" in again.out
