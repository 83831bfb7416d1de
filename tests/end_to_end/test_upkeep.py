"""What operators do, with workers as processes: limits, redrive, forget, and a topic that grew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import redis
from aiokafka.admin import NewPartitions
from click.testing import CliRunner

from features.columns.vector import FEATURE_NAMES, vectors
from features.events.orders import Order
from features.times import MS_PER_DAY
from model.decide import codec as customer_bytes
from streamer.commands.admin import UNKNOWN_CUSTOMER
from streamer.commands.cli import cli
from streamer.kafka.topics import Topic, ensure_topics
from streamer.orders import order_message
from streamer.pipeline.erasures import digest, keyed
from streamer.records import Message
from tests.support.fakes import ERASURE_KEYS
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment, Ran, WorkerProcess
from tests.support.servers.kafka_kit import administrating

Deploy = Callable[..., Deployment]
CANARY = "canary-7f3a@example.com"
EXIT_CODE = 70


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def orders_of(user: str, count: int = 3, first_ms: int = 1_700_000_000_000) -> list[Order]:
    return [Order(f"{user}-{n}", user, first_ms + n * 9 * MS_PER_DAY, 2_500) for n in range(count)]


def as_messages(deployment: Deployment, orders: list[Order]) -> list[Message]:
    return [order_message(order, deployment.settings.orders_topic, "USD") for order in orders]


def reason_of(worker: WorkerProcess) -> str:
    (line,) = [line for line in worker.log if " worker.stopped" in line]
    return line


async def command(deployment: Deployment, *arguments: str) -> Ran:
    """Runs `python -m streamer ...` in this process, which saves seconds of imports."""
    environ = deployment.environ
    ran = await asyncio.to_thread(CliRunner(env=environ).invoke, cli, arguments)
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


def orders_known(deployment: Deployment, user: str) -> int | None:
    """How many orders of a customer have been counted; None for one who is not known."""
    with redis.Redis.from_url(deployment.servers.redis.url) as client:
        found = [key for key in client.scan_iter() if key.endswith(b"}:c:" + user.encode())]
        states = [client.get(key)[6:] for key in found]
    if not states:
        return None
    facts = customer_bytes.decode(states[0]).facts
    named = dict(zip(FEATURE_NAMES, vectors([(facts, 2 * now_ms())])[0].tolist(), strict=True))
    return int(named["orders_lifetime"])


# --- limits -------------------------------------------------------------------------------------


async def test_a_topic_of_nothing_but_bad_records_stops_the_worker_and_stays_where_it_is(
    deploy: Deploy,
) -> None:
    deployment = deploy("broken", CLV_DEAD_LETTER_MAX_RUN="40", CLV_PARTITIONS="2")
    topic, letters = deployment.settings.orders_topic, deployment.settings.dead_letter_topic
    await deployment.make_topics()
    bad = [Message(topic, b"user-%d" % n, b'{"order": %d}' % n) for n in range(2_000)]
    await deployment.publish(bad)
    for _ in range(2):  # an orchestrator starts it again
        worker = deployment.worker()
        assert await worker.ended(30) == EXIT_CODE
        assert "41st bad record in a row (CLV_DEAD_LETTER_MAX_RUN=40)" in reason_of(worker)
        assert "missing_field" in reason_of(worker)
        found = await deployment.read(letters)
        origins = [dict(letter.headers)["source_partition"] for letter in found]
        assert max(map(origins.count, origins)) <= 40
    deployment.worker(CLV_DEAD_LETTER_MAX_RUN="off", CLV_DEAD_LETTER_MAX_RATIO="off")
    await deployment.settled(2_000)
    assert {letter.value for letter in await deployment.read(letters)} == {m.value for m in bad}


# --- redrive ------------------------------------------------------------------------------------


async def test_dead_letters_come_back_once_and_count_after_the_cause_is_mended(
    deploy: Deploy,
) -> None:
    deployment = deploy("redriven")
    ahead = orders_of("eve", first_ms=now_ms() + 30 * MS_PER_DAY)
    messages = [*as_messages(deployment, [*orders_of("ann"), *ahead])]
    messages.append(Message(deployment.settings.orders_topic, b"bob", b"not an order"))
    await deployment.make_topics()
    await deployment.publish(messages)
    worker = deployment.worker()
    await deployment.settled(len(messages))
    assert orders_known(deployment, "eve") is None
    told = await command(deployment, "redrive", "--dry-run")
    assert (told.code, told.err) == (0, "")
    assert "4 dead letters would be redriven" in told.out
    assert "3  future_ts" in told.out
    assert "eve" not in told.out
    await worker.terminate()

    deployment.worker(CLV_MAX_FUTURE="365d")
    assert (
        "3 dead letters redriven"
        in (await command(deployment, "redrive", "--reason", "future_ts")).out
    )
    assert "1 dead letters redriven" in (await command(deployment, "redrive")).out
    await deployment.settled(len(messages) + 4)
    assert orders_known(deployment, "eve") == 3

    # Bad again: a dead letter again, one round on, and taken by the next run, until it is enough.
    for times in (1, 2, 3):
        letters = await deployment.read(deployment.settings.dead_letter_topic)
        rounds = [dict(letter.headers).get("redriven") for letter in letters]
        assert rounds.count(str(times).encode()) == 1
        expected = "0" if times == 3 else "1"
        assert f"{expected} dead letters redriven" in (await command(deployment, "redrive")).out
        await deployment.settled(len(messages) + 4 + min(times, 2))
    assert "5 dead letters" not in (await command(deployment, "redrive")).out


# --- forget -------------------------------------------------------------------------------------


def keys(deployment: Deployment) -> list[bytes]:
    with redis.Redis.from_url(deployment.servers.redis.url) as client:
        return sorted(client.scan_iter())


def snapshot(deployment: Deployment) -> Mapping[bytes, bytes]:
    with redis.Redis.from_url(deployment.servers.redis.url) as client:
        return {key: client.dump(key) for key in client.scan_iter()}


def restore(deployment: Deployment, dumps: Mapping[bytes, bytes]) -> None:
    with redis.Redis.from_url(deployment.servers.redis.url) as client:
        client.flushall()
        for key, dump in dumps.items():
            client.restore(key, 0, dump)


def trace(deployment: Deployment) -> list[bytes]:
    """Every key and value in Redis that has the customer's id in it, in whatever it is kept."""
    with redis.Redis.from_url(deployment.servers.redis.url) as client:
        id_ = CANARY.encode()
        return [key for key in client.scan_iter() if id_ in key or id_ in client.dump(key)]


async def said_of_canary(deployment: Deployment) -> list[bytes | None]:
    settings = deployment.settings
    return [
        record.value
        for topic in (settings.scores_topic, settings.warnings_topic)
        for record in await deployment.read(topic)
        if record.key == CANARY.encode()
    ]


async def test_who_is_forgotten_stays_forgotten_through_rollback_loss_and_repetition(
    deploy: Deploy,
) -> None:
    deployment = deploy("forgotten")
    canary, others = orders_of(CANARY, 6), [o for n in range(30) for o in orders_of(f"u{n}")]
    first = as_messages(deployment, sorted(canary + others, key=lambda order: order.ts_ms))
    await deployment.make_topics()
    await deployment.publish(first)
    worker = deployment.worker()
    await deployment.settled(len(first))
    assert orders_known(deployment, CANARY) is not None
    before = snapshot(deployment)
    spoken = len(await said_of_canary(deployment))
    assert spoken > 0

    ran = await command(deployment, "forget", CANARY)
    assert (ran.code, ran.err) == (0, "")
    assert CANARY not in ran.out
    assert orders_known(deployment, CANARY) is None
    assert trace(deployment) == []
    said = await said_of_canary(deployment)
    assert said[: spoken + 1].count(None) >= 1
    markers = await deployment.read(deployment.settings.erasures_topic)
    names = {keyed(digest(CANARY), secret) for secret in ERASURE_KEYS.secrets.values()}
    assert {(record.key or b"").decode() for record in markers} == names
    assert CANARY.encode() not in b"".join(record.value for record in markers)
    said_at_all = set(said)

    # The shop sends everything again; Redis goes back to before; Redis is lost.
    records = len(first) + deployment.settings.partitions
    await deployment.publish(first)
    records += len(first)
    await deployment.settled(records)
    assert trace(deployment) == []
    for dumps in (before, {}):
        worker.kill()
        restore(deployment, dumps)
        worker = deployment.worker()
        await deployment.settled(records)
        assert trace(deployment) == []
        assert orders_known(deployment, CANARY) is None
        assert orders_known(deployment, "u1") is not None
    assert set(await said_of_canary(deployment)) == said_at_all
    assert await deployment.read(deployment.settings.dead_letter_topic) == []
    for one in deployment.workers:
        assert CANARY not in "\n".join(one.log)

    # Who orders again is a new customer.
    anew = orders_of(CANARY, 1, first_ms=now_ms() + 60_000)
    await deployment.publish(as_messages(deployment, anew))
    await deployment.settled(records + 1)
    assert orders_known(deployment, CANARY) == 1


async def test_without_a_worker_an_erasure_waits_and_says_so(deploy: Deploy) -> None:
    deployment = deploy("waiting", CLV_PARTITIONS="2")
    await deployment.make_topics()
    ran = await command(deployment, "forget", CANARY, "--wait", "0.5")
    assert ran.code == 1
    assert "partition 0 (offset 1), 1 (offset 1)" in ran.err
    assert CANARY not in ran.err
    assert len(ran.err.splitlines()) == 1
    deployment.worker()
    assert (await command(deployment, "forget", CANARY)).code == UNKNOWN_CUSTOMER


# --- partitions ---------------------------------------------------------------------------------


@pytest.mark.kafka  # the embedded broker adds no partitions to a topic
async def test_a_topic_that_grew_is_refused_until_customers_have_moved(
    deploy_on: Deploy, apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    deployment = deploy_on(apache_kafka, "grown", CLV_PARTITIONS="4")
    users = [f"u{n}" for n in range(200)]
    rounds = [[orders_of(user)[n] for user in users] for n in range(3)]
    await deployment.make_topics()
    await deployment.publish(as_messages(deployment, rounds[0]))
    worker = deployment.worker()
    await deployment.settled(len(users))
    await worker.terminate()
    await deployment.publish(as_messages(deployment, rounds[1]))  # waits in old partitions
    topic = deployment.settings.orders_topic
    async with administrating(deployment.servers.kafka.bootstrap) as admin:
        await admin.create_partitions({topic: NewPartitions(total_count=8)})
    await ensure_topics(deployment.servers.kafka.bootstrap, [Topic(topic, 8, exact=True)])
    await deployment.publish(as_messages(deployment, rounds[2]))

    refused = deployment.worker()
    assert await refused.ended(30) == EXIT_CODE
    assert "repartition" in reason_of(refused)
    waiting = await deployment.run("repartition", without=["CLV_MODEL"])
    assert waiting.code == 1
    assert "CLV_MODEL" in waiting.err
    moved = await command(deployment, "repartition")
    assert (moved.code, moved.err) == (0, "")
    assert f"of {len(users)} customers moved" in moved.out
    assert "waiting orders applied before" in moved.out
    assert "nothing to move" in (await command(deployment, "repartition")).out

    grown = Deployment(
        "grown",
        deployment.servers,
        Path(deployment.environ["CLV_MODEL"]),
        tmp_path,
        CLV_PARTITIONS="8",
    )
    with grown:
        grown.workers += deployment.workers
        grown.worker()
        await grown.settled(3 * len(users))
        for user in users[::20]:
            assert orders_known(grown, user) == 3
    with redis.Redis.from_url(deployment.servers.redis.url) as client:
        states = [key for key in client.scan_iter() if b"}:c:" in key]
    assert len(states) == len(users)
