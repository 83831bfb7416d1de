"""Quix Streams: a StreamingDataFrame; the state in its own store, or (`redis`) in Redis."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import redis
from job import BROKERS, ORDERS, REDIS, SCORES, WARNINGS, new_state, scored
from quixstreams import Application, State

app = Application(
    broker_address=BROKERS,
    consumer_group="rival-quix",
    auto_offset_reset="earliest",
    state_dir=tempfile.mkdtemp(),
    loglevel="ERROR",
)
store = redis.Redis.from_url(REDIS)


def in_state(order: dict[str, Any], state: State) -> dict[str, Any] | None:
    kept = state.get("customer") or new_state()
    found = scored(kept, order)
    state.set("customer", kept)
    return found


def in_redis(order: dict[str, Any]) -> dict[str, Any] | None:
    key = f"quix:{order['user_id']}"
    kept = store.get(key)
    state = json.loads(kept) if kept else new_state()
    found = scored(state, order)
    store.set(key, json.dumps(state))
    return found


sdf = app.dataframe(app.topic(ORDERS, value_deserializer="json"))
sdf = sdf.apply(in_redis) if sys.argv[1:] == ["redis"] else sdf.apply(in_state, stateful=True)
sdf = sdf.filter(lambda found: found is not None)
sdf = sdf.to_topic(app.topic(SCORES, value_serializer="json"))
sdf[sdf["warned"]].to_topic(app.topic(WARNINGS, value_serializer="json"))

if __name__ == "__main__":
    app.run()
