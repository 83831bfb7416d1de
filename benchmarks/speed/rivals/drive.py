"""Fills the orders topic, counts what comes out, and times it: cheap, so that it hardly disturbs.

python -m benchmarks.speed.rivals.drive fill BOOTSTRAP PARTITIONS < workload
python -m benchmarks.speed.rivals.drive count BOOTSTRAP PARTITIONS
python -m benchmarks.speed.rivals.drive latency BOOTSTRAP PARTITIONS RATE SECONDS
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.speed.workloads import DAY_MS, START_MS, Row, Workload

ORDERS, SCORES, WARNINGS = "orders", "clv-scores", "churn-warnings"
CUSTOMERS = 20_000
# One order in so many is refunded half a second later, and somebody is warned of.
REFUNDED = 20
REFUNDED_AFTER_S = 0.5
WARM_S = 3.0


def producer(bootstrap: str, linger_ms: int) -> Producer:
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": linger_ms,
            "queue.buffering.max.messages": 100_000,
        }
    )


def consumer(bootstrap: str, partitions: int, topics: Sequence[str]) -> Consumer:
    made = Consumer({"bootstrap.servers": bootstrap, "group.id": "driver", "fetch.wait.max.ms": 10})
    made.assign([TopicPartition(topic, n, 0) for topic in topics for n in range(partitions)])
    return made


def fill(bootstrap: str, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Returns when all are acknowledged."""
    to = producer(bootstrap, 20)
    for key, value in records:
        while True:
            try:
                to.produce(ORDERS, value, key)
                break
            except BufferError:
                to.poll(0.05)
    if left := to.flush(120):
        sys.exit(f"{left} orders were not acknowledged")


def count(bootstrap: str, partitions: int) -> None:
    """Prints how many scores there are, each time that there are more; until it is killed."""
    scores, seen = consumer(bootstrap, partitions, [SCORES]), 0
    while True:
        if found := scores.consume(10_000, 0.02):
            seen += sum(message.error() is None for message in found)
            print(seen, flush=True)


def live_orders(rate: float) -> Iterator[tuple[str, bytes, bytes]]:
    """Customer and instant of each order, and its record; some are refunded soon after."""
    draws, waiting, later = random.Random(3), [], max(1, round(rate * REFUNDED_AFTER_S))
    number = 0
    while True:
        ts = stamp(START_MS + DAY_MS + number * DAY_MS // 2 // 1_000_000)
        if waiting and waiting[0][0] <= number:
            _, row = waiting.pop(0)
            key, value = row._replace(ts=ts).record
            yield f"{row.user_id} {ts}", key, value.replace(b'"order"', b'"refund"')
        else:
            user = f"u{draws.randrange(CUSTOMERS)}"
            amount = f"{draws.lognormvariate(3, 0.7):.2f}"
            if number % REFUNDED == 0:
                user, amount = f"w{number}", "400.00"
            row = Row(f"o{number}", user, ts, amount)
            if number % REFUNDED == 0:
                waiting.append((number + later, row))
            yield f"{user} {ts}", *row.record
        number += 1


def stamp(ms: int) -> str:
    """RFC 3339, as the product writes it."""
    seconds, rest = divmod(ms, 1_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{rest:03d}Z" if rest else f"{text}Z"


def latency(bootstrap: str, partitions: int, rate: float, seconds: float) -> dict[str, object]:
    """Milliseconds from handing an order to the client until a consumer has its score, or the
    warning that its refund caused."""
    sent: dict[str, float] = {}
    took: dict[str, list[float]] = {SCORES: [], WARNINGS: []}
    done = threading.Event()

    def listen() -> None:
        out = consumer(bootstrap, partitions, list(took))
        while not done.is_set():
            for message in out.consume(1_000, 0.01):
                now = time.perf_counter()
                if message.error() is None:
                    said = json.loads(message.value())
                    began = sent.get(f"{said['user_id']} {said['as_of']}")
                    if began is not None:
                        took[message.topic()].append(1_000 * (now - began))
        out.close()

    listener = threading.Thread(target=listen)
    listener.start()
    to, orders, number = producer(bootstrap, 0), live_orders(rate), 0
    total, began = int(rate * (WARM_S + seconds)), time.perf_counter()
    try:
        while number < total:
            now = time.perf_counter() - began
            for _ in range(min(total, int(now * rate)) - number):
                name, key, value = next(orders)
                if now > WARM_S:
                    sent[name] = time.perf_counter()
                to.produce(ORDERS, value, key)
                number += 1
            to.poll(0)
            time.sleep(0.001)
        to.flush(30)
        wait_for(lambda: len(took[SCORES]) >= len(sent), 30.0)
    finally:
        done.set()
        listener.join()
    return {"orders": len(sent), "scores": took[SCORES], "warnings": took[WARNINGS]}


def wait_for(condition: object, within_s: float) -> None:
    until = time.perf_counter() + within_s
    while not condition() and time.perf_counter() < until:
        time.sleep(0.05)


def main() -> None:
    what, bootstrap, partitions, *rest = sys.argv[1:]
    try:
        match what:
            case "fill":
                rows = Workload.of(sys.stdin.read()).rows()
                fill(bootstrap, (row.record for row in rows))
            case "count":
                count(bootstrap, int(partitions))
            case "latency":
                print(json.dumps(latency(bootstrap, int(partitions), *map(float, rest))))
    except KafkaException as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
