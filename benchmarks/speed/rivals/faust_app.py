"""Faust, event by event: an agent over a topic of records, the state in Redis, sends awaited."""

from __future__ import annotations

import json

import faust
import redis.asyncio
from job import BROKERS, ORDERS, REDIS, SCORES, WARNINGS, new_state, scored


class Order(faust.Record, serializer="json"):
    order_id: str
    user_id: str
    ts: str
    amount: float


class Score(faust.Record, serializer="json"):
    user_id: str
    as_of: str
    clv: float
    segment: str
    warned: bool


app = faust.App(
    "rival-faust",
    broker=f"kafka://{BROKERS}",
    store="memory://",
    topic_partitions=4,
    web_enabled=False,
    autodiscover=False,
    consumer_auto_offset_reset="earliest",
    # The embedded broker assigns partitions after half of it.
    broker_session_timeout=4.0,
    broker_heartbeat_interval=1.0,
)
orders = app.topic(ORDERS, key_type=str, value_type=Order)
scores = app.topic(SCORES, key_type=str, value_type=Score)
warnings = app.topic(WARNINGS, key_type=str, value_type=Score)
store = redis.asyncio.Redis.from_url(REDIS)


@app.agent(orders)
async def score(stream: faust.Stream) -> None:
    async for order in stream:
        key = f"faust:{order.user_id}"
        kept = await store.get(key)
        state = json.loads(kept) if kept else new_state()
        found = scored(state, order.asdict())
        if found is None:
            continue
        await store.set(key, json.dumps(state))
        await scores.send(key=order.user_id, value=Score(**found))
        if found["warned"]:
            await warnings.send(key=order.user_id, value=Score(**found))


if __name__ == "__main__":
    app.main()
