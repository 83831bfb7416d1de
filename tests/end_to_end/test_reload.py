"""F19 on real servers: the model is swapped under a worker that has orders to apply."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model.artifact import artifact
from model.artifact.artifact import save
from model.artifact.registry import promote, publish, rollback
from streamer.assemble import pipeline_of
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis, free_port
from streamer.orders import order_message
from tests.conftest import required
from tests.support import modelling
from tests.support.servers.deployment import Deployment, Servers
from tests.support.servers.verifier import Verdict, truth_of, verify


class Shop:
    """A registry with a model, the same halved, and one that cannot be read; and a deployment."""

    def __init__(self, servers: Servers, directory: Path, shadow: bool) -> None:
        self.shadow = shadow
        self.root = directory / "models"
        self.first, self.halved = (self._publish(directory, factor) for factor in (1.0, 0.5))
        self.broken = "broken"
        shutil.copytree(self.root / self.halved, self.root / self.broken)
        file = self.root / self.broken / "model.json"
        file.write_bytes(file.read_bytes()[:-100])
        promote(self.root, self.first)
        self.port = free_port()
        beside = {"CLV_SHADOW_MODEL": str(self.root / self.halved), "CLV_SHADOW_SHARE": "1"}
        self.deployment = Deployment(
            "reload-beside-a-shadow" if shadow else "reload",
            servers,
            self.root,
            directory,
            CLV_MODEL_CHECK="50ms",
            CLV_WEB_PORT=str(self.port),
            **(beside if shadow else {}),
        )
        topic = self.deployment.settings.orders_topic
        self.orders = list(modelling.orders())
        self.messages = [order_message(order, topic, "USD") for order in self.orders]
        self.sent = 0

    def _publish(self, directory: Path, factor: float) -> str:
        model, made = modelling.scaled_model(factor), directory / f"times-{factor}"
        save(made, model, modelling.fields(model))
        return publish(self.root, made)

    async def send(self, share: float) -> None:
        """Sends the next of all orders, up to this share of them."""
        start, self.sent = self.sent, round(share * len(self.messages))
        await self.deployment.publish(self.messages[start : self.sent])

    async def verified(self) -> Verdict:
        await self.send(1.0)
        await self.deployment.settled(len(self.orders))
        models = [self.root / version for version in (self.first, self.halved)]
        return await verify(self.deployment, self.orders, models)

    async def warned(self) -> set[str]:
        """The ids of all warnings."""
        records = await self.deployment.read(self.deployment.settings.warnings_topic)
        return {msgspec.json.decode(record.value)["warning_id"] for record in records}

    async def warned_without_swaps(self) -> set[str]:
        """The ids of the warnings that the first model alone would have given."""
        settings = self.deployment.settings
        pipeline = pipeline_of(settings, artifact.load(self.root / self.first))
        records = await self.deployment.read(settings.orders_topic)
        return set((await truth_of(records, pipeline, settings.partitions)).warnings)

    async def model_page(self) -> dict[str, Any]:
        """What /model answers."""

        def get() -> bytes:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", "/model")
            return connection.getresponse().read()

        page: dict[str, Any] = msgspec.json.decode(await asyncio.to_thread(get))
        return page

    async def agreement(self) -> dict[str, Any]:
        """What the process says that compares the shadow model, once it has seen orders."""
        async with asyncio.timeout(60):
            while not (
                (found := (await self.model_page())["shadow"]["agreement"]) and found["scorings"]
            ):
                await asyncio.sleep(0.1)
        return dict(found)

    async def scores_by_model(self) -> Counter[str]:
        records = await self.deployment.read(self.deployment.settings.scores_topic)
        return Counter(msgspec.json.decode(r.value)["model_version"] for r in records)


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["alone", "beside a shadow"],
)
def shop(
    request: pytest.FixtureRequest,
    embedded_kafka: EmbeddedKafka,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    with required(EmbeddedRedis()) as redis:
        directory = tmp_path_factory.mktemp("reload")
        shop = Shop(Servers(embedded_kafka, redis), directory, request.param)
        with shop.deployment:
            yield shop


async def test_models_are_swapped_refused_and_rolled_back_while_orders_are_applied(
    shop: Shop,
) -> None:
    deployment = shop.deployment
    await deployment.make_topics()
    worker = deployment.worker()
    await shop.send(0.3)
    await deployment.applied(shop.sent // 2)
    promote(shop.root, shop.halved)
    await deployment.logged(worker, "model.swapped")
    await shop.send(0.6)
    promote(shop.root, shop.broken)
    await deployment.logged(worker, "model.refused")
    page = await shop.model_page()
    assert (page["version"], page["refused"]["version"]) == (shop.halved, shop.broken)
    await shop.send(0.8)
    await deployment.applied(shop.sent)
    rollback(shop.root)  # to the halved one, which never went
    rollback(shop.root)
    await deployment.logged(worker, "model.swapped", 2)
    # Compared anew with the model that is back: the same shop, half the money.
    if shop.shadow:
        await deployment.logged(worker, "shadow.started", 3)
    verdict = await shop.verified()
    if shop.shadow:
        found = await shop.agreement()
        assert (found["live"], found["shadow"]) == (shop.first, shop.halved)
        assert found["spearman"] > 0.999
        assert abs(found["mean_ratio"] - 0.5) < 0.01
    assert (await shop.model_page())["refused"] is None
    # States, due times, warnings and scores are what a replay gives with the swaps where they were.
    assert verdict.faults == []
    assert verdict.customers == modelling.SHOP.customers
    assert verdict.warnings > 300
    assert (verdict.warning_copies, verdict.score_copies) == (verdict.warnings, verdict.scores)
    # The halved model warns of whom the first would have warned.
    unswapped = await shop.warned_without_swaps()
    warned = await shop.warned()
    assert len(warned ^ unswapped) <= 0.01 * len(unswapped), warned ^ unswapped
    counts = await shop.scores_by_model()
    assert set(counts) == {shop.first, shop.halved}
    assert min(counts.values()) > verdict.scores / 10
    assert worker.logged("model.refused") == 1
    assert worker.alive
