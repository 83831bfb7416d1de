"""A verifier that finds nothing proves nothing: it has to find what is put before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from model.artifact import artifact
from streamer.assemble import pipeline_of
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from streamer.kafka.publisher import KafkaPublisher
from streamer.orders import order_message
from streamer.pipeline.partition import PartitionRunner
from streamer.records import LogRange, Message
from streamer.store.redis_store import RedisStore
from tests.conftest import required
from tests.support import modelling
from tests.support.servers.deployment import Deployment, Servers
from tests.support.servers.verifier import verify

ORDERS = list(modelling.orders()[:600])
Client = redis.Redis


@pytest.fixture
def model(tmp_path: Path) -> Path:
    artifact.save(tmp_path / "model", modelling.model(), modelling.fields())
    return tmp_path / "model"


@asynccontextmanager
async def publishing(deployment: Deployment) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(deployment.servers.kafka.bootstrap)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()


async def apply_here(deployment: Deployment) -> None:
    """What a worker would do, without one."""
    settings = deployment.settings
    assert settings.model is not None
    pipeline = pipeline_of(settings, artifact.load(settings.model))
    records = await deployment.read(settings.orders_topic)
    store = RedisStore.from_url(
        deployment.servers.redis.url,
        cluster_id=deployment.servers.kafka.cluster_id,
        namespace=settings.state_namespace,
    )
    async with publishing(deployment) as publisher:
        for partition in deployment.partitions:
            mine = [record for record in records if record.partition == partition.number]
            runner = PartitionRunner(partition, store, publisher, pipeline)
            await runner.claim(LogRange(0, len(mine), settings.partitions))
            await runner.process(mine)
    await store.close()


def change_a_state(client: Client, keys: list[bytes]) -> None:
    one, other = [key for key in keys if b":c:" in key][:2]
    client.set(one, client.get(other) or b"")


def damage_a_state(client: Client, keys: list[bytes]) -> None:
    client.append(next(key for key in keys if b":c:" in key), b"!")


def drop_a_state(client: Client, keys: list[bytes]) -> None:
    client.delete(next(key for key in keys if b":c:" in key))


def move_a_due_time(client: Client, keys: list[bytes]) -> None:
    head = next(key for key in keys if key.endswith(b":due"))
    client.zadd(head, {"5": 5})
    client.sadd(head + b":5", "user-00299")


def move_next(client: Client, keys: list[bytes]) -> None:
    client.hincrby(next(key for key in keys if key.endswith(b":meta")), "next", 1)


def leave_something_unsaid(client: Client, keys: list[bytes]) -> None:
    client.rpush(next(key for key in keys if key.endswith(b":meta"))[:-4] + b"outbox", b"x")


def add_a_foreign_key(client: Client, keys: list[bytes]) -> None:
    client.set("somebody:elses", "1")


def add_a_key_of_no_known_kind(client: Client, keys: list[bytes]) -> None:
    client.set(next(key for key in keys if key.endswith(b":meta"))[:-4] + b"more", "1")


TAMPERINGS: dict[Callable[[Client, list[bytes]], None], str] = {
    change_a_state: "must be",
    damage_a_state: "cannot be read",
    drop_a_state: "is missing",
    move_a_due_time: "is due 5",
    move_next: "meta is",
    leave_something_unsaid: "outbox has 1 entries",
    add_a_foreign_key: "not ours: somebody:elses",
    add_a_key_of_no_known_kind: "no known kind",
}


async def test_the_verifier_finds_whatever_is_not_as_it_must_be(
    embedded_kafka: EmbeddedKafka, model: Path, tmp_path: Path
) -> None:
    with (
        required(EmbeddedRedis()) as server,
        Deployment("verified", Servers(embedded_kafka, server), model, tmp_path) as deployment,
        redis.Redis.from_url(server.url) as client,
    ):
        settings = deployment.settings
        await deployment.make_topics()
        messages = [order_message(order, settings.orders_topic, "USD") for order in ORDERS]
        bad = Message(settings.orders_topic, b"x", b"no order")
        await deployment.publish([*messages[:300], bad, *messages[300:]])
        await apply_here(deployment)
        verdict = await verify(deployment, ORDERS)
        assert verdict.faults == []
        assert verdict.warnings > 0
        assert (verdict.records, verdict.dead_letters) == (len(ORDERS) + 1, 1)

        whole = {key: client.dump(key) for key in sorted(client.scan_iter())}
        for tamper, complaint in TAMPERINGS.items():
            tamper(client, list(whole))
            faults = (await verify(deployment, ORDERS)).faults
            assert faults, tamper.__name__
            assert all(complaint in fault for fault in faults), tamper.__name__
            client.flushall()
            for key, dumped in whole.items():
                client.restore(key, 0, dumped)

        assert (await verify(deployment, ORDERS[1:])).faults[0].startswith("partition ")

        # What is said twice in the same words is no fault; in others it is.
        said = (await deployment.read(settings.warnings_topic))[0]
        await deployment.publish([Message(said.topic, said.key, said.value)])
        assert (await verify(deployment, ORDERS)).faults == []
        await deployment.publish([Message(said.topic, b"x", said.value)])
        (fault,) = (await verify(deployment, ORDERS)).faults
        assert fault.startswith("warning ")

        score = (await deployment.read(settings.scores_topic))[0]
        before = (await verify(deployment, ORDERS, digest=True)).faults
        assert not any("score" in fault for fault in before)
        await deployment.publish([Message(score.topic, score.key, score.value)])
        for digest in (False, True):
            found = (await verify(deployment, ORDERS, digest=digest)).faults
            assert "the last score of" in found[-1]

        letter = (await deployment.read(settings.dead_letter_topic))[0]
        headers = tuple(
            (name, b"0" if name == "source_offset" else v) for name, v in letter.headers
        )
        await deployment.publish([Message(letter.topic, letter.key, letter.value, headers)])
        assert "dead letters of" in (await verify(deployment, ORDERS)).faults[-1]
