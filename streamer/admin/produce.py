"""An order log into the orders topic, keyed by customer, in event time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from features.events.orders import Order
from streamer.orders import order_message
from streamer.records import Publisher
from streamer.replay.replay import AT_ONCE, Pace

# Awaited as a whole: with 4 partitions a few hundred records a batch, which brokers like.
_CHUNK: Final = 2_000
# Event time that may pass between two chunks when a speed is set, in seconds of the clock.
_PACED_S: Final = 0.25

Progress = Callable[[int], None]


async def produce(
    orders: Iterable[Order],
    publisher: Publisher,
    topic: str,
    currency: str,
    *,
    pace: Pace = AT_ONCE,
    progress: Progress = lambda orders: None,
) -> int:
    """Publishes the orders; returns how many, when all are acknowledged.

    Without a speed of `pace`, as fast as the broker takes it.
    """
    chunk: list[Order] = []
    sent = 0
    for order in orders:
        if chunk and (len(chunk) >= _CHUNK or _waited_s(chunk[0], order, pace.speed) >= _PACED_S):
            await _publish(chunk, publisher, topic, currency)
            await pace.sleep(_waited_s(chunk[0], order, pace.speed))
            sent += len(chunk)
            progress(len(chunk))
            chunk = []
        chunk.append(order)
    await _publish(chunk, publisher, topic, currency)
    progress(len(chunk))
    return sent + len(chunk)


async def _publish(orders: list[Order], publisher: Publisher, topic: str, currency: str) -> None:
    await publisher.publish([order_message(order, topic, currency) for order in orders])


def _waited_s(first: Order, later: Order, speed: float | None) -> float:
    """Seconds of the clock between two orders at a speed."""
    return 0.0 if speed is None else max(later.ts_ms - first.ts_ms, 0) / 1000 / speed
