"""What shops met on Kafka and Redis: a worker as a process, on servers that run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

from msgspec.structs import replace

from features.events.orders import Order
from features.facts import ledger
from features.times import MS_PER_DAY
from model.decide import codec
from streamer.commands.admin import UNKNOWN_CUSTOMER
from streamer.orders import order_message
from streamer.pipeline.partitioner import partition_for
from streamer.records import Message, Partition
from tests.support.servers.deployment import Deployment
from tests.support.servers.redis_kit import cluster, cluster_url

Deploy = Callable[..., Deployment]
FIRST_MS = 1_700_000_000_000


def orders_of(user: str, count: int) -> list[Order]:
    return [Order(f"{user}-{n}", user, FIRST_MS + n * 7 * MS_PER_DAY, 5_000) for n in range(count)]


def as_messages(deployment: Deployment, orders: list[Order]) -> list[Message]:
    return [order_message(order, deployment.settings.orders_topic, "USD") for order in orders]


async def reasons(deployment: Deployment) -> Counter[str]:
    letters = await deployment.read(deployment.settings.dead_letter_topic)
    return Counter(dict(letter.headers)["reason"].decode() for letter in letters)


async def orders_counted(deployment: Deployment, user: str) -> int:
    """How many orders of a customer the state at its home has."""
    topic, count = deployment.settings.orders_topic, deployment.settings.partitions
    store = deployment.store()
    try:
        home = Partition(topic, partition_for(user.encode(), count))
        (stored,) = await store.load(home, [user])
    finally:
        await store.close()
    if stored.state is None:
        return 0
    facts = codec.decode(stored.state).facts
    return ledger.size_of(facts.ledger)


async def test_records_without_a_key_are_set_aside_and_no_customer_is_split(
    deploy: Deploy,
) -> None:
    deployment = deploy("no-keys")
    await deployment.make_topics()
    keyed, bare = orders_of("kim", 3), orders_of("lee", 8)
    messages = as_messages(deployment, keyed)
    messages += [replace(m, key=None) for m in as_messages(deployment, bare)]
    await deployment.publish(messages)
    worker = deployment.worker()
    await deployment.settled(len(messages))
    assert await reasons(deployment) == {"no_key": 8}
    assert await orders_counted(deployment, "kim") == 3
    scores = await deployment.read(deployment.settings.scores_topic)
    assert {json.loads(score.value)["user_id"] for score in scores} == {"kim"}
    assert await worker.terminate() == 0


async def test_more_tombstones_than_bad_records_are_allowed_stop_nobody(deploy: Deploy) -> None:
    deployment = deploy("tombstones", CLV_DEAD_LETTER_MAX_RUN="50")
    await deployment.make_topics()
    topic = deployment.settings.orders_topic
    gone = [Message(topic, f"gone-{n}".encode(), None) for n in range(505)]
    messages = gone + as_messages(deployment, orders_of("kim", 2))
    await deployment.publish(messages)
    worker = deployment.worker()
    await deployment.settled(len(messages))
    assert await reasons(deployment) == {}
    assert await orders_counted(deployment, "kim") == 2
    assert await worker.terminate() == 0


async def test_to_forget_somebody_under_another_spelling_says_that_nobody_was_found(
    deploy: Deploy,
) -> None:
    deployment = deploy("forget-nobody")
    await deployment.make_topics()
    await deployment.publish(as_messages(deployment, orders_of("kim@shop.test", 2)))
    deployment.worker()
    await deployment.settled(2)
    other = await deployment.run("forget", "Kim@Shop.test")
    assert other.code == UNKNOWN_CUSTOMER
    assert "no state of this customer was found" in other.out
    assert await orders_counted(deployment, "kim@shop.test") == 2
    merged = await deployment.run("forget", "Kim@Shop.test", CLV_MERGE_IDS="on")
    assert (merged.code, "forgotten in" in merged.out) == (0, True)
    assert await orders_counted(deployment, "kim@shop.test") == 0


async def test_merged_ids_are_one_customer_of_a_worker(deploy: Deploy) -> None:
    deployment = deploy("merged", CLV_MERGE_IDS="on")
    await deployment.make_topics()
    messages = as_messages(deployment, orders_of("kim@shop.test", 2))
    spelt = as_messages(deployment, orders_of("Kim@Shop.test ", 4))[2:]
    messages += [replace(m, key=b"kim@shop.test") for m in spelt]
    await deployment.publish(messages)
    deployment.worker()
    await deployment.settled(4)
    assert await reasons(deployment) == {}
    assert await orders_counted(deployment, "kim@shop.test") == 4


async def test_a_cluster_of_one_shard_serves_a_worker(deploy: Deploy) -> None:
    with cluster(1) as nodes:
        deployment = deploy("one-shard", REDIS_URL=cluster_url(nodes))
        await deployment.make_topics()
        orders = [order for user in ("ada", "ben", "cid", "dan") for order in orders_of(user, 2)]
        await deployment.publish(as_messages(deployment, orders))
        worker = deployment.worker()
        await deployment.settled(len(orders))
        scores = await deployment.read(deployment.settings.scores_topic)
        assert {json.loads(score.value)["user_id"] for score in scores} == {
            "ada",
            "ben",
            "cid",
            "dan",
        }
        shown = await deployment.run("show", "ada")
        assert (shown.code, "orders" in shown.out) == (0, True)
        assert await worker.terminate() == 0
