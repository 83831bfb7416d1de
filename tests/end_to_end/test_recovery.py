"""Workers as processes whose store loses what it had, or has what nobody wrote, or whose topic is
recreated; and what brings them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.asyncio import Redis

from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from streamer.orders import order_message
from streamer.records import Message
from tests.support import modelling
from tests.support.fakes import quarantined
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment, Servers
from tests.support.servers.kafka_kit import delete_topic
from tests.support.servers.redis_kit import clients, cluster, cluster_url, in_step
from tests.support.servers.verifier import verify

Deploy = Callable[..., Deployment]
ORDERS = list(modelling.orders())[:3_000]
HALF = len(ORDERS) // 2

pytestmark = pytest.mark.slow


def messages_of(deployment: Deployment) -> list[Message]:
    return [order_message(o, deployment.settings.orders_topic, "USD") for o in ORDERS]


@asynccontextmanager
async def redis_of(deployment: Deployment) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(deployment.servers.redis.url)
    try:
        yield client
    finally:
        await client.aclose()


async def keys_of(client: Redis, kind: str) -> list[bytes]:
    return sorted([key async for key in client.scan_iter(match=f"*:{kind}", count=1000)])


async def committed(deployment: Deployment) -> None:
    """Returns once the group has been told how far all partitions are."""
    asked = AIOKafkaConsumer(
        bootstrap_servers=deployment.servers.kafka.bootstrap,
        group_id=deployment.settings.group,
        enable_auto_commit=False,
    )
    await asked.start()
    places = [TopicPartition(one.topic, one.number) for one in deployment.partitions]
    asked.assign(places)
    try:
        async with asyncio.timeout(30):
            while sum([await asked.committed(place) or 0 for place in places]) < HALF:
                await asyncio.sleep(0.2)
    finally:
        await asked.stop()


async def test_a_worker_whose_redis_was_emptied_ends_and_the_next_one_rebuilds_all(
    deploy: Deploy,
) -> None:
    deployment = deploy("emptied")
    messages = messages_of(deployment)
    await deployment.make_topics()
    await deployment.publish(messages[:HALF])
    worker = deployment.worker()
    await deployment.applied(HALF)
    await committed(deployment)
    async with redis_of(deployment) as client:
        await client.flushall()
    await deployment.publish(messages[HALF:])
    assert await worker.ended() == 70
    assert "the store has lost writes that it had confirmed" in worker.log[-1]
    worker = deployment.worker()
    await deployment.settled(len(messages))
    assert worker.logged("store.went_back") == deployment.settings.partitions
    verdict = await verify(deployment, ORDERS)
    assert verdict.faults == []
    assert verdict.warnings > 100


async def test_damaged_customers_are_rebuilt_while_the_worker_goes_on(deploy: Deploy) -> None:
    deployment = deploy("damaged", CLV_CACHE_CUSTOMERS="0")
    messages = messages_of(deployment)
    await deployment.make_topics()
    await deployment.publish(messages[:HALF])
    worker = deployment.worker()
    await deployment.settled(HALF)
    early = {order.user_id for order in ORDERS[:HALF]}
    users = sorted(early & {order.user_id for order in ORDERS[HALF:]})[:4]
    async with redis_of(deployment) as client:
        keys = {key.split(b":c:")[1].decode(): key for key in await keys_of(client, "c:*")}
        flipped, torn, foreign, emptied = (keys[user] for user in users)
        state: Any = await client.get(flipped)
        await client.set(flipped, state[:20] + bytes([state[20] ^ 1]) + state[21:])
        await client.set(torn, state[:30])
        await client.delete(foreign)
        await client.rpush(foreign, "somebody else's")
        await client.set(emptied, b"")
        await deployment.publish(messages[HALF:])
        await deployment.settled(len(messages))
        assert worker.alive
        assert worker.logged("customers.rebuilt")
        kept: dict[str, bytes] = {}
        for key in await keys_of(client, "quarantine"):
            found: Any = await client.hgetall(key)
            kept |= {user.decode(): data for user, data in found.items()}
            await client.delete(key)
    assert sorted(kept) == users
    assert all(quarantined(data).complete for data in kept.values())
    assert not any(user in line for line in worker.log for user in users)
    verdict = await verify(deployment, ORDERS)
    assert verdict.faults == []


async def test_a_partition_is_read_again_when_an_operator_says_so(deploy: Deploy) -> None:
    deployment = deploy("told")
    messages = messages_of(deployment)
    await deployment.make_topics()
    await deployment.publish(messages)
    worker = deployment.worker()
    await deployment.settled(len(messages))
    asked = await deployment.run("rebuild", "--partition", "1")
    assert asked.code == 0
    assert "say --yes" in asked.out
    assert await worker.terminate() == 0
    told = await deployment.run("rebuild", "--partition", "1", "--yes")
    assert (told.code, told.err) == (0, "")
    assert "deleted; the log is read from 0" in told.out
    async with redis_of(deployment) as client:
        assert not [key for key in await keys_of(client, "*") if b"orders-1}" in key]
    deployment.worker()
    await deployment.settled(len(messages))
    verdict = await verify(deployment, ORDERS)
    assert verdict.faults == []
    missing = await deployment.run("rebuild", "--partition", "99", "--yes")
    assert missing.code == 1
    assert "no partition 99" in missing.err


async def test_a_topic_made_anew_is_refused_though_it_has_grown_past_what_was_applied(
    deploy: Deploy, kafka: EmbeddedKafka | ApacheKafka
) -> None:
    deployment = deploy("anew")
    messages = messages_of(deployment)
    await deployment.make_topics()
    await deployment.publish(messages[:200])
    worker = deployment.worker()
    await deployment.settled(200)
    assert await worker.terminate() == 0
    await delete_topic(kafka.bootstrap, deployment.settings.orders_topic)
    await deployment.make_topics()
    await deployment.publish(messages[:1000])
    worker = deployment.worker()
    assert await worker.ended() == 70
    assert "was deleted and recreated" in worker.log[-1]
    assert "CLV_STATE_NAMESPACE" in worker.log[-1]
    assert (await deployment.run("show", "nobody")).code == 1


async def test_workers_on_a_cluster_outlive_one_of_its_masters(
    deploy: Deploy,
    kafka: EmbeddedKafka | ApacheKafka,
    tmp_path: Path,
) -> None:
    with cluster(3, 3) as nodes:
        url = cluster_url(nodes)
        servers = Servers(kafka, cast(EmbeddedRedis, SimpleNamespace(url=url)))
        model = deploy("model-only").settings.model
        assert model is not None
        with Deployment("clustered", servers, model, tmp_path) as deployment:
            messages = messages_of(deployment)
            await deployment.make_topics()
            await deployment.publish(messages[:HALF])
            first, second = deployment.worker(), deployment.worker()
            await deployment.applied(HALF)
            async with clients(nodes) as found:
                await in_step(found[4], found[1])
                nodes[1].server.kill()
                await deployment.publish(messages[HALF:])
                async with asyncio.timeout(30):
                    while (await found[4].info("replication"))["role"] != "master":
                        await asyncio.sleep(0.1)
            await deployment.settled(len(messages), within_s=120)
            assert first.alive
            assert second.alive
            verdict = await verify(deployment, ORDERS)
            assert verdict.faults == []
