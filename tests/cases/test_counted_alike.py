"""Whatever a shop sends, in any order: worker, replay, training and the twin count the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from features.events.orders import Order
from features.facts.buckets import RECORD_BYTES, read
from features.facts.fold import LogFold
from features.facts.state import CustomerState, encode
from features.times import day_of
from model.data.columns import OrderColumns
from model.decide import codec
from streamer.records import MemoryPublisher, Partition
from streamer.replay.replay import Replay
from streamer.store.memory import MemoryStore
from tests.support.fakes import ORDERS_0, claimed, done, pipeline, records
from tests.support.logs import USERS, shop_logs
from tests.support.strategies import arrivals, batches
from tests.support.twins.facts import Facts, twin_facts


@given(events=shop_logs(max_orders=5), data=st.data())
@settings(max_examples=30, deadline=None)
def test_all_count_the_same(events: list[Order], data: st.DataObject) -> None:
    arriving = data.draw(arrivals(events))
    users = sorted({order.user_id for order in events})
    assert set(users) <= set(USERS)

    training = LogFold(OrderColumns(arriving))
    training.until(max((day_of(order.ts_ms) for order in events), default=0) + 1)
    assert sorted(training.states) == users

    log, store = records(arriving), MemoryStore()
    runner = claimed(log, store, MemoryPublisher(), pipeline())
    for batch in data.draw(batches(log)):
        done(runner.process(batch))
    worker = kept(store, ORDERS_0, users)

    replay = Replay(pipeline(), MemoryPublisher(), partitions=1)
    done(replay.start())
    for part in data.draw(batches(arriving)):
        done(replay.feed(part))
    replayed = kept(replay.store, ORDERS_0, users)

    for user in users:
        expected = training.states[user]
        assert encode(worker[user]) == encode(replayed[user]) == encode(expected)
        twin = twin_facts(order for order in arriving if order.user_id == user)
        assert days(expected) == days_of(twin)
        assert (expected.newest_ms, expected.last_order_ms()) == (
            twin.newest_ms,
            twin.last_order_ms,
        )


def kept(store: MemoryStore, partition: Partition, users: list[str]) -> dict[str, CustomerState]:
    """The facts in a store, by customer."""
    found = done(store.load(partition, users))
    return {
        user: codec.decode(stored.state or b"").facts
        for user, stored in zip(users, found, strict=True)
    }


def days(state: CustomerState) -> list[tuple[int, int, int, int]]:
    """Day, orders, gross and refunded, of every day on which something counts."""
    rows = (read(state.buckets, at) for at in range(0, len(state.buckets), RECORD_BYTES))
    return [(row.day, row.orders, row.gross, row.refunded) for row in rows]


def days_of(facts: Facts) -> list[tuple[int, int, int, int]]:
    return [(n, day.orders, day.gross, day.refunded) for n, day in facts.days.items()]
