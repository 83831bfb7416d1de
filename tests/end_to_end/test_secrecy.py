"""A worker at DEBUG, through everything that makes it talk: no id and no secret in what it says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from redis.asyncio import Redis

from features.events.orders import Order
from features.times import MS_PER_DAY
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis, free_port
from streamer.orders import order_message
from streamer.records import Message
from tests.conftest import required
from tests.support import modelling
from tests.support.servers.deployment import Deployment, Servers
from tests.support.servers.kafka_kit import topics_of
from tests.support.servers.limited_user import limited
from tests.support.servers.verifier import verify

# In every customer's id, in bad records and in headers; in no name of a topic, group or key.
CANARY = "canary"
TOKEN = "0123456789-web-token-hidden"
REPLY_TO = "replies-of-agents"
NAME = "secrecy"


@pytest.fixture(scope="module")
def redis() -> Iterator[EmbeddedRedis]:
    with required(EmbeddedRedis()) as server:
        yield server


def some_orders(first: int, count: int) -> list[Order]:
    """Orders of as many customers, three each; some of them fall silent."""
    start_ms = modelling.orders()[0].ts_ms
    found = [
        Order(f"{CANARY}-{user}-{n}", f"{CANARY}-{user}", start_ms + n * 9 * MS_PER_DAY, 2_500)
        for user in range(first, first + count)
        for n in range(3)
    ]
    return sorted(found, key=lambda order: order.ts_ms)


def bad_values() -> list[tuple[bytes | None, bytes | None]]:
    """Records of every kind of badness that could quote an id."""
    good = {"order_id": CANARY, "user_id": CANARY, "ts": "2023-05-01T10:00:00Z", "amount": 12.5}

    def bad(**changes: object) -> bytes:
        return json.dumps({**good, **changes}).encode()

    key = CANARY.encode()
    values: list[bytes | None] = [
        None,
        b"",
        key,
        b'{"user_id": "' + key,
        b'{"user_id": "' + key + b'\xff"}',
        b'["' + key + b'"]',
        b'{"user_id": "' + key + b'"}',
        bad(user_id=CANARY * 100),
        bad(user_id=[CANARY]),
        bad(order_id={"x": CANARY}),
        bad(ts="soon"),
        bad(ts="2023-05-01T10:00:00"),
        bad(ts="2999-01-01T00:00:00Z"),
        bad(amount="much"),
        bad(amount=-1),
        bad(type="gift\r\n2026-01-01T00:00:00.000Z ERROR forged"),
        bad(currency="EUR"),
        bad(user_id=f"{CANARY}\r\n2026-01-01T00:00:00.000Z ERROR forged x={CANARY}"),
    ]
    return [(key, value) for value in values] + [(b"other-" + key, bad())]


def fetch(port: int, path: str, token: str | None = TOKEN) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        asked = Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        with urlopen(asked, timeout=60) as page:
            return page.status, page.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


# Without a value it is a tombstone, which is set aside by nobody.
UNUSABLE = [value for _, value in bad_values() if value is not None]


async def counted(port: int, orders: int, dead_letters: int) -> str:
    """The metrics, once they have counted so much: a batch is counted when it is written."""
    async with asyncio.timeout(60):
        while True:
            status, metrics = await asyncio.to_thread(fetch, port, "/metrics")
            assert status == 200
            told = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[0] != "#")
            bad = sum(float(v) for name, v in told.items() if name.startswith("clv_dead_letters"))
            if (float(told["clv_orders_applied_total"]), bad) == (orders, dead_letters):
                return metrics
            await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_no_id_and_no_secret_is_told_whatever_happens(
    model: Path, redis: EmbeddedRedis, embedded_kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    async with Redis.from_url(redis.url) as admin:
        name, password = await limited([admin], NAME)
    port = free_port()
    deployment = Deployment(
        NAME,
        Servers(embedded_kafka, redis),
        model,
        tmp_path,
        REDIS_URL=redis.url.replace("unix://", f"unix://{name}:{password}@"),
        CLV_WEB_PORT=str(port),
        CLV_WEB_TOKEN=TOKEN,
        CLV_LOG_LEVEL="DEBUG",
        CLV_DEAD_LETTER_MAX_RATIO="off",
        CLV_DEAD_LETTER_MAX_RUN="off",
    )
    topic = deployment.settings.orders_topic
    headers = (("Faust-Ag-ReplyTo", REPLY_TO.encode()), ("Faust-Ag-CorrelationId", b"1"))

    async def send(orders: list[Order]) -> None:
        messages = [order_message(order, topic, "USD") for order in orders]
        await deployment.publish([Message(m.topic, m.key, m.value, headers) for m in messages])

    with deployment:
        await deployment.make_topics()
        first = deployment.worker()
        await send(some_orders(0, 100))
        await deployment.publish([Message(topic, k, v, headers) for k, v in bad_values()])
        await deployment.settled()

        # The pages, with the token and without.
        assert (await asyncio.to_thread(fetch, port, "/healthz", None))[0] == 200
        refused = await asyncio.to_thread(fetch, port, "/metrics", None)
        assert refused[0] == 401
        metrics = await counted(port, 300, len(UNUSABLE))

        for path, expected in (("0", 200), ("nobody", 404), ("0?as_of=x", 422)):
            got = (503, "")
            while got[0] == 503:  # the model is being read
                got = await asyncio.to_thread(fetch, port, f"/customers/{CANARY}-{path}")
            assert (got[0], "Traceback" in got[1]) == (expected, False)

        # An outage of the store.
        redis.kill()
        await send(some_orders(100, 20))
        await deployment.logged(first, "outage.waiting")
        # Alive, as another process would wait too; not ready.
        assert (await asyncio.to_thread(fetch, port, "/healthz", None))[0] == 200
        unready = await asyncio.to_thread(fetch, port, "/readyz")
        assert (unready[0], "store: " in unready[1]) == (503, True)
        away = await asyncio.to_thread(fetch, port, f"/customers/{CANARY}-0")
        assert (away[0], CANARY in away[1]) == (503, False)
        redis.start()
        # The server forgot its users with the crash, and refuses ours: that ends the worker.
        assert await first.ended() == 70
        async with Redis.from_url(redis.url) as admin:
            # A foreign claim fences whoever holds the partition; foreign bytes damage a customer.
            await admin.execute_command("ACL", "SETUSER", name, "on", f">{password}", "~*", "+@all")
            second = deployment.worker()
            await deployment.settled()
            metas = [key async for key in admin.scan_iter(match=f"{NAME}:*:meta")]
            for key in metas:
                await admin.hincrby(key, "epoch", 1)
            await send(some_orders(120, 20))
            await deployment.logged(second, "partition.fenced")
            await deployment.settled()
            assert await second.terminate() == 0
            states = [key async for key in admin.scan_iter(match=f"{NAME}:*:c:*")]
            await admin.set(states[0], b"no state of ours")
            third = deployment.worker()
            await deployment.logged(third, "partition.opened")
            await send(some_orders(0, 140)[:5])
            for user in range(140):
                await send([Order(f"{CANARY}-{user}-9", f"{CANARY}-{user}", 1_700_000_000_000, 99)])
            await deployment.settled()
            assert await third.terminate() == 0
        assert third.logged("customers.rebuilt")
        wrong = deployment.worker(REDIS_URL=redis.url.replace("unix://", f"unix://x:{password}@"))
        assert await wrong.ended() == 70

        logs = [line for worker in deployment.workers for line in worker.log]
        said = "\n".join([*logs, metrics, refused[1], unready[1]])
        assert len(logs) > 50
        assert " DEBUG " in said
        assert not re.search(CANARY, said, re.IGNORECASE)
        assert password not in said
        assert TOKEN not in said
        assert not any(line.split(" ")[1:3] == ["ERROR", "forged"] for line in logs)

        letters = await deployment.read(deployment.settings.dead_letter_topic)
        assert len(letters) == len(UNUSABLE)
        of_headers = repr([letter.headers for letter in letters])
        assert CANARY not in of_headers

        # S7: a header that Faust's agents would obey.
        assert REPLY_TO not in await topics_of(embedded_kafka.bootstrap)
        async with Redis.from_url(redis.url) as admin:
            kept = [key async for key in admin.scan_iter(match=f"{NAME}:*:quarantine")]
            assert await admin.delete(*kept) == 1  # which no replay has
        assert (await verify(deployment)).faults == []
