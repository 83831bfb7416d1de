"""An ingester on real servers: a topic of a shop's own, and the orders that must come of it,
reckoned from its events by nothing that an ingester is made of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

from features.events.orders import Order, OrderRules, Rejected, parse
from features.facts.state import EMPTY, CustomerState, apply
from streamer.kafka.topics import Topic, ensure_topics
from streamer.pipeline.partitioner import partition_for
from streamer.records import Message
from tests.support.servers.deployment import Deployment, WorkerProcess

START_MS: Final = 1_735_689_600_000
RULES: Final = OrderRules(currency="USD")


def shop_event(number: int) -> dict[str, Any]:
    """An order of a shop's own making, by its number, or a refund of an earlier one: every tenth,
    without an id."""
    event = {
        "number": number,
        "who": f"user-{number % 17}",
        "at": START_MS + number * 60_000,
        "cents": 100 + number,
        "kind": "sale",
    }
    if number % 10 == 9:
        event |= {"kind": "return", "number": number - 1, "who": f"user-{(number - 1) % 17}"}
    return event


MAPPING: Final = """
order_id = "number"
user_id = "who"
ts = { path = "at", format = "epoch-ms" }
amount = { path = "cents", unit = "minor" }
currency = "'USD'"
type = { path = "kind", order = ["sale"], refund = ["return"] }
"""


def raw_topic(deployment: Deployment) -> str:
    return f"{deployment.settings.group}-raw"


async def make_raw_topic(deployment: Deployment, partitions: int = 3) -> None:
    await deployment.make_topics()
    await ensure_topics(
        deployment.servers.kafka.bootstrap, [Topic(raw_topic(deployment), partitions)]
    )


def raw_messages(deployment: Deployment, numbers: Sequence[int]) -> list[Message]:
    """Events keyed by order, so that those of a customer lie in every partition."""
    return [
        Message(raw_topic(deployment), b"%d" % n, json.dumps(shop_event(n)).encode())
        for n in numbers
    ]


def ingester(deployment: Deployment, *options: str, **variables: str) -> WorkerProcess:
    return deployment.worker("streamer", "ingest", raw_topic(deployment), *options, **variables)


async def ingested(deployment: Deployment, orders: int, within_s: float = 60.0) -> list[Any]:
    """The records of the orders topic, once they have so many different orders in them."""
    async with asyncio.timeout(within_s):
        while True:
            records = await deployment.read(deployment.settings.orders_topic)
            if len({order_of(record) for record in records}) >= orders:
                return records
            await asyncio.sleep(0.2)


def order_of(record: Any) -> Order:
    """The order in a record, which must stand where the worker looks for it."""
    found = parse(record.value, record.key, None, RULES)
    assert not isinstance(found, Rejected), found
    return found


def folded(orders: Sequence[Order]) -> dict[str, CustomerState]:
    """The customers that orders make."""
    states: dict[str, CustomerState] = {}
    for order in orders:
        states[order.user_id] = apply(states.get(order.user_id, EMPTY), order).state
    return states


def expected(numbers: Sequence[int]) -> dict[str, tuple[int, int, set[int]]]:
    """By customer: how many orders and how many refunds, and their amounts, reckoned from the
    events themselves."""
    found: dict[str, tuple[int, int, set[int]]] = {}
    for event in map(shop_event, numbers):
        orders, refunds, cents = found.get(event["who"], (0, 0, set()))
        back = event["kind"] == "return"
        found[event["who"]] = (orders + (not back), refunds + back, cents | {event["cents"]})
    return found


def assert_exact(deployment: Deployment, records: Sequence[Any], numbers: Sequence[int]) -> int:
    """Every event came through under one identity, keyed and placed by its customer; returns how
    many records were repeats."""
    count = deployment.settings.partitions
    orders = [order_of(record) for record in records]
    for record, order in zip(records, orders, strict=True):
        assert record.partition == partition_for(order.user_id.encode(), count)
    found: dict[str, tuple[int, int, set[int]]] = {}
    for order in set(orders):
        had, refunds, cents = found.get(order.user_id, (0, 0, set()))
        back = not order.type.of_order
        found[order.user_id] = (had + (not back), refunds + back, cents | {order.amount_minor})
    assert found == expected(numbers)
    # Whatever was repeated changes no customer.
    once = sorted(set(orders), key=lambda order: (order.ts_ms, order.order_id))
    assert folded(orders) == folded(once)
    return len(orders) - len(once)
