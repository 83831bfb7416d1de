"""Warnings heard over HTTP while workers and the receiver are killed: by the stream and by the
webhook, nothing is missing, and nothing comes twice to who goes by its id."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, web
from aiokafka import ConsumerRecord

from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis, free_port
from streamer.orders import order_message
from tests.support import modelling
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment, Servers
from tests.support.servers.verifier import verify

ORDERS = list(modelling.orders())[:3_000]
THIRD = len(ORDERS) // 3
KEY = b"k" * 32
SECRET = "whsec_" + base64.b64encode(KEY).decode()

pytestmark = pytest.mark.slow


@dataclass
class Hook:
    """A receiver that can be killed and started again, and refuses now and then."""

    port: int = field(default_factory=free_port)
    taken: list[tuple[str, str]] = field(default_factory=list)
    asked: int = 0
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def kill(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked += 1
        if self.asked % 50 == 7:
            return web.Response(status=500)
        name, when = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        content = f"{name}.{when}.".encode() + body
        digest = base64.b64encode(hmac.digest(KEY, content, "sha256")).decode()
        assert request.headers["webhook-signature"] == f"v1,{digest}"
        record = json.loads(body)
        assert record["warning_id"] == name
        self.taken.append((record["user_id"], name))
        return web.Response(status=204)


@asynccontextmanager
async def listening(ports: Sequence[int]) -> AsyncIterator[list[str]]:
    """The ids that one client hears that comes back, to whichever worker answers."""
    heard: list[str] = []

    async def listen() -> None:
        last: dict[str, str] = {}
        turn = 0
        async with ClientSession(timeout=ClientTimeout(sock_read=5)) as session:
            while True:
                turn += 1
                url = f"http://127.0.0.1:{ports[turn % len(ports)]}/warnings/stream?from=start"
                with suppress(ClientError, TimeoutError, OSError):
                    async with session.get(url, headers=last) as answer:
                        answer.raise_for_status()
                        await follow(answer, last)
                await asyncio.sleep(0.1)

    async def follow(answer: ClientResponse, last: dict[str, str]) -> None:
        event: dict[str, str] = {}
        async for line in answer.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                event[name] = value
                continue
            assert event.get("event") != "gap"
            if event.get("data"):
                heard.append(json.loads(event["data"])["warning_id"])
            if "id" in event:
                last["Last-Event-ID"] = event["id"]
            event = {}

    listener = asyncio.create_task(listen())
    try:
        yield heard
        assert not listener.done()
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


@pytest.fixture
def deployment(
    model: Path,
    kafka: EmbeddedKafka | ApacheKafka,
    embedded_redis: EmbeddedRedis,
    tmp_path: Path,
) -> Iterator[Deployment]:
    with Deployment("heard", Servers(kafka, embedded_redis), model, tmp_path) as found:
        yield found


def first_of_each(records: Sequence[ConsumerRecord]) -> dict[str, list[str]]:
    """The ids that were said of each customer, in their order, each once."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for record in records:
        told = json.loads(record.value)
        if told["warning_id"] not in found[told["user_id"]]:
            found[told["user_id"]].append(told["warning_id"])
    return dict(found)


async def test_nothing_is_missing_and_nothing_comes_twice_whoever_is_killed(
    deployment: Deployment,
) -> None:
    hook, ports = Hook(), [free_port(), free_port()]
    await hook.start()
    options = {
        "CLV_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/hook",
        "CLV_WEBHOOK_SECRET": SECRET,
        "CLV_SESSION_TIMEOUT": "6s",
    }
    messages = [order_message(o, deployment.settings.orders_topic, "USD") for o in ORDERS]
    await deployment.make_topics()
    async with listening(ports) as heard:
        worker = deployment.worker(CLV_WEB_PORT=str(ports[0]), **options)
        await deployment.publish(messages[:THIRD])
        await deployment.applied(THIRD)
        await deployment.publish(messages[THIRD : 2 * THIRD])
        worker.kill()
        await hook.kill()
        deployment.worker(CLV_WEB_PORT=str(ports[1]), **options)
        await deployment.applied(THIRD + THIRD // 2)
        await hook.start()
        await deployment.publish(messages[2 * THIRD :])
        await deployment.settled(len(messages))
        said = first_of_each(await deployment.read(deployment.settings.warnings_topic))
        total = {name for names in said.values() for name in names}
        with suppress(TimeoutError):
            async with asyncio.timeout(180):
                while set(heard) != total or {name for _, name in hook.taken} != total:
                    await asyncio.sleep(0.2)
    await hook.kill()
    assert len(total) > 100
    assert sorted(heard) == sorted(total)
    assert {name for _, name in hook.taken} == total
    by_user: defaultdict[str, list[str]] = defaultdict(list)
    for user, name in hook.taken:
        if name not in by_user[user]:
            by_user[user].append(name)
    assert by_user == said
    verdict = await verify(deployment, ORDERS)
    assert verdict.faults == []
