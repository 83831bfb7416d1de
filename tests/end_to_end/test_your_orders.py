"""The walks of docs/your-orders.md, by the very commands that stand there: a topic keyed by order
id to warnings, and a webhook to a warning."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientSession

from features.events.orders import Order
from streamer.demo.embedded import EmbeddedKafka, free_port
from streamer.kafka.topics import Topic, ensure_topics
from streamer.records import Message
from tests.support import modelling
from tests.support.servers.deployment import ROOT, WITHIN_S, Deployment
from tests.support.servers.verifier import verify
from tests.support.webhooks import SECRET, shopify_headers, shopify_order

TOKEN = "a-token-of-the-web-pages"
Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(deploy_on: Deploy, embedded_kafka: EmbeddedKafka) -> Deploy:
    return partial(deploy_on, embedded_kafka)


def command(begins: str) -> str:
    """The command of the page that has these words."""
    page = (ROOT / "docs/your-orders.md").read_text()
    (found,) = [line.strip() for line in re.findall(r"^    (.+)$", page, re.M) if begins in line]
    return found


def rfc3339(order: Order) -> str:
    return datetime.fromtimestamp(order.ts_ms / 1000, UTC).isoformat()


def segments(orders: Sequence[Order]) -> list[dict[str, Any]]:
    return [
        {
            "type": "track",
            "event": "Order Completed" if order.type.of_order else "Order Refunded",
            "messageId": f"m-{number}",
            "userId": order.user_id,
            "timestamp": rfc3339(order),
            "properties": {
                "order_id": order.order_id,
                "total": order.amount_minor / 100,
                "currency": "USD",
            },
        }
        for number, order in enumerate(orders)
    ]


async def test_a_topic_keyed_by_order_id_becomes_warnings(deploy: Deploy) -> None:
    deployment = deploy("walk-topic")
    *given, python, dash_m, module, name, topic, preset, known = shlex.split(
        command("ingest shop-")
    )
    assert given == ["KAFKA_BOOTSTRAP_SERVERS=localhost:9092"]
    assert (python, dash_m, module, name) == ("python", "-m", "streamer", "ingest")
    await deployment.make_topics()
    await ensure_topics(deployment.servers.kafka.bootstrap, [Topic(topic, 3)])
    orders = modelling.orders()
    records = [
        Message(topic, event["properties"]["order_id"].encode(), json.dumps(event).encode())
        for event in segments(orders)
    ]
    deployment.worker(module, name, topic, preset, known)
    deployment.worker()
    await deployment.publish(records)
    async with asyncio.timeout(120):
        while len(await deployment.read(deployment.settings.orders_topic)) < len(orders):
            await asyncio.sleep(0.5)
    await deployment.settled(within_s=120)
    verdict = await verify(deployment)
    assert verdict.faults == []
    assert verdict.warnings > 0
    assert await deployment.read(deployment.settings.dead_letter_topic) == []


async def posted(session: ClientSession, body: bytes) -> tuple[int, Any, Any]:
    """Status, document and headers of the answer to a webhook."""
    async with session.post("/orders", data=body, headers=shopify_headers(body)) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers


async def test_a_webhook_becomes_a_warning(deploy: Deploy) -> None:
    port = free_port()
    deployment = deploy(
        "walk-webhook",
        CLV_WEB_PORT=str(port),
        CLV_WEB_TOKEN=TOKEN,
        CLV_SHOPIFY_SECRET=SECRET,
    )
    worker = deployment.worker()
    await deployment.logged(worker, "worker.ready")
    orders = [o for o in modelling.orders() if o.type.of_order and o.user_id[-1] == "0"]
    orders.sort(key=lambda order: order.ts_ms)
    # Yesterday's come after today's now and then, and each of them twice.
    shuffled = [order for pair in zip(orders[1::2], orders[::2], strict=False) for order in pair]
    async with ClientSession(f"http://127.0.0.1:{port}") as session:
        for number, order in enumerate(shuffled):
            times = dict.fromkeys(("created_at", "processed_at", "updated_at"), rfc3339(order))
            total = f"{order.amount_minor / 100:.2f}"
            customer = {"id": order.user_id}
            sent = shopify_order(2_000 + number, customer=customer, total_price=total, **times)
            body = json.dumps(sent).encode()
            for _ in range(2):
                async with asyncio.timeout(WITHIN_S):
                    # As a shop's platform does: until it is taken.
                    while (answered := await posted(session, body))[0] == 503:
                        await asyncio.sleep(float(answered[2]["Retry-After"]))
                assert answered[0] == 200
                assert answered[1]["accepted"] == 1
    # The page's own command, of one order, a year later.
    process = await asyncio.create_subprocess_shell(
        command("/orders -H").replace(":6066", f":{port}"),
        env={**deployment.environ, "CLV_WEB_TOKEN": TOKEN},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode == 127:
        pytest.skip("curl is not installed")
    assert json.loads(out) == {"accepted": 1, "skipped": 0, "set_aside": 0}
    await deployment.settled(2 * len(shuffled) + 1, within_s=120)
    verdict = await verify(deployment)
    assert verdict.faults == []
    warned = {record.key for record in await deployment.read(deployment.settings.warnings_topic)}
    assert warned & {order.user_id.encode() for order in orders}
