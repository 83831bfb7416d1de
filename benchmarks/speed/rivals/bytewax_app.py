"""Bytewax: `stateful_map`, the state in its worker; or (RIVAL=batch) `flat_map_batch`, the state
in Redis with one MGET, one prediction and one pipeline for a batch."""

from __future__ import annotations

import json
import os
from typing import Any

import bytewax.operators as op
import redis
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from confluent_kafka import OFFSET_BEGINNING
from job import (
    BROKERS,
    DAY_MS,
    MODEL,
    ORDERS,
    REDIS,
    SCORES,
    WARNINGS,
    State,
    features,
    fold,
    milliseconds,
    new_state,
    score,
    scored,
    warns,
)

store = redis.Redis.from_url(REDIS)
Found = dict[str, Any]


def keyed(message: KafkaSourceMessage) -> tuple[str, Found]:
    order = json.loads(message.value)
    return order["user_id"], order


def one(state: State | None, order: Found) -> tuple[State, Found | None]:
    state = state or new_state()
    return state, scored(state, order)


def batch(messages: list[KafkaSourceMessage]) -> list[Found]:
    if not messages:
        return []
    orders = [json.loads(message.value) for message in messages]
    users = list(dict.fromkeys(order["user_id"] for order in orders))
    kept = store.mget([f"bytewax:{user}" for user in users])
    states = {
        user: json.loads(value) if value else new_state()
        for user, value in zip(users, kept, strict=True)
    }
    new, rows = [], []
    for order in orders:
        state, ts_ms = states[order["user_id"]], milliseconds(order["ts"])
        if fold(state, order["order_id"], ts_ms, order["amount"]):
            day = ts_ms // DAY_MS
            rows.append(features(state, day))
            new.append((order, state, day))
    found = [
        score(order["user_id"], order["ts"], clv, warns(state, clv, day))
        for (order, state, day), clv in zip(
            new, MODEL.predict(rows).tolist() if rows else (), strict=True
        )
    ]
    pipeline = store.pipeline(transaction=False)
    for user, state in states.items():
        pipeline.set(f"bytewax:{user}", json.dumps(state))
    pipeline.execute()
    return found


def message(found: Found) -> KafkaSinkMessage:
    return KafkaSinkMessage(found["user_id"].encode(), json.dumps(found).encode())


flow = Dataflow("rival")
source = KafkaSource([BROKERS], [ORDERS], starting_offset=OFFSET_BEGINNING, batch_size=1_000)
stream = op.input("orders", flow, source)
if os.environ.get("RIVAL") == "batch":
    found = op.flat_map_batch("score", stream, batch)
else:
    states = op.stateful_map("score", op.map("key", stream, keyed), one)
    found = op.filter("new", op.map("value", states, lambda pair: pair[1]), bool)
op.output("scores", op.map("said", found, message), KafkaSink([BROKERS], SCORES))
warned = op.filter("warned", found, lambda one: one["warned"])
op.output("warnings", op.map("told", warned, message), KafkaSink([BROKERS], WARNINGS))
