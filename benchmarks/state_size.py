"""Bytes that are kept for a customer: the tables of docs/state.md.

    python -m benchmarks.state_size

Method of the first: a customer's orders, evenly spread over a span that ends on the last day, are
folded one by one with the default id memory; the size is that of the record, with one peak. A tenth
of the orders is refunded on the day after. No sampling and no timing: the same numbers everywhere.

Method of the second: 20,000 customers with 10 orders each, at random instants of the span and of
log-normal amounts, who were scored at each and never warned of, are written through `RedisStore`,
each due on one of 30 days. Bytes are what `used_memory` of an embedded Valkey has grown by, divided
by the customers: keys, due times and all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import redis

from features.events.orders import Order, OrderType
from features.facts.state import EMPTY, CustomerState, Effect, apply
from features.times import MS_PER_DAY
from model.decide import codec
from model.decide.codec import CustomerRecord
from model.decide.rule_state import Peak, RuleState
from streamer.demo.embedded import EmbeddedRedis
from streamer.records import Partition
from streamer.store.base import Outcome, Write
from streamer.store.redis_store import RedisStore

ORDERS = (1, 10, 100, 1_000, 10_000)
SPANS_DAYS = (30, 365, 3 * 365, 10 * 365)
CUSTOMERS = 20_000
_LAST_MS = 20_500 * MS_PER_DAY
_BATCH = 2_000


def events(orders: int, span_days: int) -> Iterator[Order]:
    """The customer's events in the order of their time."""
    refunds: list[Order] = []
    for number in range(orders):
        ts_ms = _LAST_MS - span_days * MS_PER_DAY * (orders - 1 - number) // orders
        while refunds and refunds[0].ts_ms <= ts_ms:
            yield refunds.pop(0)
        order = Order(f"order-{number}", "customer", ts_ms, 4_999)
        yield order
        if number % 10 == 9:
            next_day_ms = ts_ms + MS_PER_DAY
            refunds.append(Order(order.order_id, "customer", next_day_ms, 4_999, OrderType.REFUND))
    yield from refunds


def state_of(orders: int, span_days: int) -> CustomerState:
    """The state after all of the customer's events."""
    state = EMPTY
    for event in events(orders, span_days):
        applied = apply(state, event)
        if applied.effect is not Effect.NEW:
            raise RuntimeError(f"{event} is not new: events() must go forward in time")
        state = applied.state
    return state


def table() -> str:
    """Bytes by number of orders and span, in Markdown."""
    spans = " | ".join(f"over {days:,} days" for days in SPANS_DAYS)
    lines = [f"| orders | {spans} |", "| ---: |" + " ---: |" * len(SPANS_DAYS)]
    for orders in ORDERS:
        sizes = " | ".join(
            f"{6 + len(codec.encode(scored(state_of(orders, days)))):,}" for days in SPANS_DAYS
        )
        lines.append(f"| {orders:,} | {sizes} |")
    return "\n".join(lines)


def customer(chance: random.Random, span_ms: int) -> CustomerRecord:
    """Someone with ten orders."""
    state = EMPTY
    for ts_ms in sorted(_LAST_MS - chance.randrange(span_ms) for _ in range(10)):
        amount = int(chance.lognormvariate(3, 0.7) * 100)
        state = apply(state, Order(f"{chance.random()}", "customer", ts_ms, amount)).state
    return scored(state)


def scored(state: CustomerState) -> CustomerRecord:
    """Someone with these facts who was scored last at the newest event."""
    newest_ms, day = state.newest_ms, state.newest_ms // MS_PER_DAY
    peaks = (Peak(day, 31_415),)
    rule_state = RuleState(
        "0123456789ab", newest_ms, peaks, True, newest_ms, state.newest_id, floor_minor=500
    )
    return CustomerRecord(state, rule_state)


async def redis_bytes(span_ms: int) -> float:
    """Of one customer, all included."""
    chance = random.Random(1)
    partition = Partition("orders", 0)
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        store = RedisStore.from_url(server.url, cluster_id="0123456789abcdef" * 2)
        claim = await store.claim(partition, 1)
        before = client.info("memory")["used_memory"]
        for number, start in enumerate(range(0, CUSTOMERS, _BATCH)):
            users = [f"user-{at:06d}" for at in range(start, start + _BATCH)]
            states = [codec.encode(customer(chance, span_ms)) for _ in users]
            due = {user: _LAST_MS + at % 30 * MS_PER_DAY for at, user in enumerate(users)}
            write = Write(dict(zip(users, states, strict=True)), due, [], None, None)
            if await store.write(partition, claim.epoch, number, write) is not Outcome.APPLIED:
                raise RuntimeError("the write was not applied")
        await store.close()
        return float(client.info("memory")["used_memory"] - before) / CUSTOMERS


def redis_table() -> str:
    """Bytes in Redis by span, in Markdown."""
    lines = ["| 10 orders within | bytes a customer |", "| --- | ---: |"]
    for name, span_ms in (("half a day", MS_PER_DAY // 2), ("a year", 365 * MS_PER_DAY)):
        lines.append(f"| {name} | {asyncio.run(redis_bytes(span_ms)):,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
    print(redis_table())
