"""The floor: the job written by hand on confluent-kafka, a batch at a time, without guarantees.

Nothing is fenced, nothing rebalances, what fails is lost, and an end between two effects doubles or
loses some. States are bytes in Redis: one MGET, one prediction over all rows, one pipelined write.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from job import (
    BROKERS,
    DAY_MS,
    DROP,
    MODEL,
    ORDERS,
    REDIS,
    REFERENCE_DAYS,
    REMEMBERED,
    SCORES,
    WARNINGS,
    WINDOWS,
    segment,
)

BATCH = 1_000
PARTITIONS = 4
# first, last, orders, total, the best CLV and its day, bytes of buckets; then buckets, then ids.
HEAD = struct.Struct("<qqqqdiI")
BUCKET = struct.Struct("<iIq")
BUCKETS = np.dtype([("day", "<i4"), ("count", "<u4"), ("revenue", "<i8")])
EPOCH, MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
ID_BYTES = 8


class Order(msgspec.Struct, gc=False):
    order_id: str
    user_id: str
    ts: datetime
    amount: float


class Score(msgspec.Struct, gc=False):
    user_id: str
    as_of: datetime
    clv: float
    segment: str
    warned: bool


decode = msgspec.json.Decoder(Order).decode
encode = msgspec.json.Encoder().encode


def features(buckets: Sequence[bytes], heads: np.ndarray, days: np.ndarray) -> np.ndarray:
    """`job.features` of many at once."""
    rows = len(buckets)
    lengths = np.fromiter(map(len, buckets), np.int64, rows) // BUCKET.size
    row = np.repeat(np.arange(rows), lengths)
    kept = np.frombuffer(b"".join(buckets), BUCKETS)
    age, X = days[row] - kept["day"], np.empty((rows, 24))
    for number, window in enumerate(WINDOWS):
        within = age < window
        X[:, number] = np.bincount(row, kept["count"] * within, rows)
        X[:, 4 + number] = np.bincount(row, kept["revenue"] * within, rows)
    X[:, 8:12] = X[:, 4:8] / np.maximum(X[:, :4], 1)
    first, last, orders, total = heads.T
    recency, lived = (last - first) / DAY_MS, days - first // DAY_MS
    silent, repeats = days - last // DAY_MS, lengths - 1
    gap = np.where(repeats > 0, recency / np.maximum(repeats, 1), 0.0)
    latest = kept["revenue"][np.cumsum(lengths) - 1]
    life = (orders, total, total / orders, repeats, recency, lived, silent, gap)
    rates = (silent / np.where(gap > 0, gap, 1), orders / (lived + 1), total / (lived + 1), latest)
    for number, column in enumerate((*life, *rates), 12):
        X[:, number] = column
    return X


def load(store: redis.Redis, keys: Sequence[str]) -> list[list]:
    """The customers' states, taken apart; new ones where nothing is kept."""
    found = []
    for kept in store.mget(keys):
        if kept:
            *head, length = HEAD.unpack_from(kept)
            end = HEAD.size + length
            found.append([*head, kept[HEAD.size : end], kept[end:]])
        else:
            found.append([0, 0, 0, 0, 0.0, 0, b"", b""])
    return found


def folded(buckets: bytes, day: int, cents: int) -> bytes:
    """The buckets with another order, which is of the last day or later."""
    if buckets:
        last, count, revenue = BUCKET.unpack_from(buckets, len(buckets) - BUCKET.size)
        if last == day:
            return buckets[: -BUCKET.size] + BUCKET.pack(day, count + 1, revenue + cents)
    return buckets + BUCKET.pack(day, 1, cents)


def apply(store: redis.Redis, producer: Producer, values: Sequence[bytes]) -> None:
    """One batch: orders in, scores and warnings out, states written."""
    orders = list(map(decode, values))
    users = list(dict.fromkeys(order.user_id for order in orders))
    keys = [f"floor:{user}" for user in users]
    states = dict(zip(users, load(store, keys), strict=True))
    new, buckets, heads, days = [], [], [], []
    for order in orders:
        state = states[order.user_id]
        known = hash(order.order_id).to_bytes(ID_BYTES, "little", signed=True)
        if known in state[7]:
            continue
        ts_ms, cents = (order.ts - EPOCH) // MS, round(order.amount * 100)
        day = ts_ms // DAY_MS
        state[6] = folded(state[6], day, cents)
        state[7] = (state[7] + known)[-REMEMBERED * ID_BYTES :]
        state[:4] = (state[0] or ts_ms, max(state[1], ts_ms), state[2] + 1, state[3] + cents)
        new.append((order, state, day))
        buckets.append(state[6])
        heads.append(state[:4])
        days.append(day)
    if new:
        X = features(buckets, np.array(heads, np.int64), np.array(days, np.int64))
        for (order, state, day), clv in zip(new, MODEL.predict(X).tolist(), strict=True):
            held = day - state[5] < REFERENCE_DAYS
            warned = bool(state[4] and held and clv < DROP * state[4])
            if clv >= state[4] or not held:
                state[4], state[5] = clv, day
            said = encode(Score(order.user_id, order.ts, clv, segment(clv), warned))
            producer.produce(SCORES, said, order.user_id)
            if warned:
                producer.produce(WARNINGS, said, order.user_id)
    pipeline = store.pipeline(transaction=False)
    packed = (
        HEAD.pack(*state[:6], len(state[6])) + state[6] + state[7] for state in states.values()
    )
    pipeline.mset(dict(zip(keys, packed, strict=True)))
    pipeline.zadd("floor:due", {user: state[1] + 7 * DAY_MS for user, state in states.items()})
    pipeline.execute()
    producer.poll(0)


def main() -> None:
    """Runs until it is killed."""
    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": "floor",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
            "queued.min.messages": 20_000,
        }
    )
    consumer.assign([TopicPartition(ORDERS, number, 0) for number in range(PARTITIONS)])
    producer = Producer(
        {
            "bootstrap.servers": BROKERS,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    store = redis.Redis.from_url(REDIS)
    while True:
        if messages := consumer.consume(BATCH, 0.2):
            apply(store, producer, [message.value() for message in messages])


if __name__ == "__main__":
    main()
