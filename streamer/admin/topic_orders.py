"""The orders topic as a training log: every order from its start, without those of who was erased.

`model.training.retrain` does the rest; it knows nothing of Kafka.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from features.events.orders import Order, OrderRules, Reason, Rejected, parse
from streamer.admin import forget
from streamer.clock import SystemClock
from streamer.kafka import clients as servers
from streamer.kafka.reader import TopicReader
from streamer.pipeline.erasures import Erasures, erasure_in
from streamer.pipeline.rebuild import History
from streamer.records import Partition
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.records import Record

Progress = Callable[[int], object]


@dataclass(slots=True)
class TopicLog:
    """What was read: orders in event time; records that are none, by reason; and the partitions
    whose first records are gone, with the offset at which they begin."""

    orders: list[Order] = field(default_factory=list)
    rejected: Counter[Reason] = field(default_factory=Counter)
    cut: dict[int, int] = field(default_factory=dict)


async def read_topic(
    history: History,
    topic: str,
    ends: Mapping[int, int],
    rules: OrderRules,
    forgotten: Erasures,
    progress: Progress = lambda count: None,
    now_ms: int | None = None,
) -> TopicLog:
    """The orders of a topic up to these ends of its partitions. Raises LogUnavailable.

    An erasure in the log takes what came before it in its partition, as it did in the state; what
    `forgotten` covers is left out wherever it stands.
    """
    found = TopicLog()
    for number, end in sorted(ends.items()):
        partition = Partition(topic, number)
        start = await history.start(partition)
        if start > 0:
            found.cut[number] = start
        by_user: defaultdict[str, list[Order]] = defaultdict(list)
        if start < end:
            async for records in history.read(partition, end):
                _take(records, rules, by_user, found.rejected, now_ms)
                progress(len(records))
        found.orders += (
            order for orders in by_user.values() for order in orders if not forgotten.covers(order)
        )
    found.orders.sort(key=lambda order: order.ts_ms)
    return found


def _take(
    records: Sequence[Record],
    rules: OrderRules,
    by_user: dict[str, list[Order]],
    rejected: Counter[Reason],
    now_ms: int | None,
) -> None:
    for record in records:
        if not record.value and (erasure := erasure_in(record.key, record.headers)):
            by_user.pop(erasure.user_id, None)
            continue
        if not record.value:
            continue  # a tombstone of the shop's own, which the worker passes over as well
        order = parse(record.value, record.key, record.timestamp, rules, now_ms)
        if isinstance(order, Rejected):
            rejected[order.reason] += 1
        else:
            by_user[order.user_id].append(order)


async def read_orders_topic(settings: Settings, currency: str, progress: Progress) -> TopicLog:
    """The orders topic that the settings name, up to its present end. Raises LogUnavailable and
    TopicsError."""
    counts = await servers.ensure_topics(settings)
    topic = settings.orders_topic
    reader = TopicReader(partial(servers.kafka_consumer, settings))
    forgotten = Erasures(settings.erasure_keys)
    await forget.KafkaErasures(reader, settings.erasures_topic).read_into(forgotten)
    ends = {n: log.end for n, log in (await reader.ranges(topic, counts[topic])).items()}
    rules = replace(settings.order_rules, currency=currency)
    now_ms = SystemClock().now_ms()
    return await read_topic(reader, topic, ends, rules, forgotten, progress, now_ms)
