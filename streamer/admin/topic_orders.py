"""The orders topic as a training log: every order from its start, without those of who was erased.

`model.training.retrain` does the rest; it knows nothing of Kafka.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from features.events.orders import Order, OrderRules, Reason, Rejected
from streamer.admin import forget
from streamer.clock import SystemClock
from streamer.kafka import clients as servers
from streamer.kafka.reader import TopicReader
from streamer.pipeline.erasures import Erasure, Erasures
from streamer.pipeline.read import outcomes_of
from streamer.pipeline.rebuild import History
from streamer.records import Partition
from streamer.settings import Settings

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
                outcomes = outcomes_of(records, rules, now_ms, number, len(ends))
                _take(outcomes, by_user, found.rejected)
                progress(len(records))
        found.orders += (
            order for orders in by_user.values() for order in orders if not forgotten.covers(order)
        )
    found.orders.sort(key=lambda order: order.ts_ms)
    return found


def _take(
    outcomes: Iterable[Order | Rejected | Erasure | None],
    by_user: dict[str, list[Order]],
    rejected: Counter[Reason],
) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Order):
            by_user[outcome.user_id].append(outcome)
        elif isinstance(outcome, Rejected):
            rejected[outcome.reason] += 1
        elif outcome is not None:
            by_user.pop(outcome.user_id, None)


async def read_orders_topic(settings: Settings, rules: OrderRules, progress: Progress) -> TopicLog:
    """The orders topic that the settings name, up to its present end; currency and free orders are
    those of `rules`, the rest the settings'. Raises LogUnavailable and
    TopicsError."""
    counts = await servers.ensure_topics(settings)
    topic = settings.orders_topic
    reader = TopicReader(partial(servers.kafka_consumer, settings))
    forgotten = Erasures(settings.erasure_keys)
    await forget.KafkaErasures(reader, settings.erasures_topic).read_into(forgotten)
    ends = {n: log.end for n, log in (await reader.ranges(topic, counts[topic])).items()}
    wanted = replace(settings.order_rules, currency=rules.currency, free_orders=rules.free_orders)
    now_ms = SystemClock().now_ms()
    return await read_topic(reader, topic, ends, wanted, forgotten, progress, now_ms)
