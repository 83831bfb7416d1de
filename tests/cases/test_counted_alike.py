"""Whatever a shop sends, in any order: worker, replay, training and the twin count the same."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order
from features.facts.buckets import RECORD_BYTES, read
from features.facts.fold import LogFold
from features.facts.state import CustomerState
from features.times import calendar_of
from model.decide import codec
from model.files.columns import OrderColumns
from streamer.pipeline.event_time import MAX_LEAD_MS
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.pipeline.partitioner import partition_for
from streamer.records import MemoryPublisher, Partition
from streamer.replay.replay import Replay
from streamer.store.memory import MemoryStore
from tests.support.fakes import ORDERS_0, done, judge, log_of, pipeline, records, scorer
from tests.support.logs import USERS, shop_logs
from tests.support.strategies import arrivals, batches
from tests.support.twins.facts import Facts, twin_facts

ZONES = ["UTC", "America/Los_Angeles", "Pacific/Apia", "Australia/Lord_Howe", "America/Sao_Paulo"]


@given(
    events=shop_logs(max_orders=5),
    partitions=st.sampled_from([1, 3, 8]),
    zone=st.sampled_from(ZONES),
    data=st.data(),
)
def test_all_count_the_same(
    events: list[Order], partitions: int, zone: str, data: st.DataObject
) -> None:
    arriving = data.draw(arrivals(events))
    users = sorted({order.user_id for order in events})
    assert set(users) <= set(USERS)
    calendar = calendar_of(zone)
    judged_by = judge(by=scorer(calendar=calendar))
    through = pipeline(judged_by)

    training = LogFold(OrderColumns(arriving), calendar)
    training.until(max((calendar.day_of(order.ts_ms) for order in events), default=0) + 1)
    assert sorted(training.states) == users

    store = MemoryStore()
    for number in range(partitions):
        here = [o for o in arriving if partition_for(o.user_id.encode(), partitions) == number]
        log, at_home = records(here), Partition(ORDERS_0.topic, number)
        bounded = replace(through, max_lead_ms=MAX_LEAD_MS)
        runner = PartitionRunner(at_home, store, MemoryPublisher(), bounded, RunnerOptions())
        done(runner.claim(log_of(log, partitions)))
        for batch in data.draw(batches(log)):
            done(runner.process(batch))

    replay = Replay(through, MemoryPublisher(), partitions=partitions)
    done(replay.start())
    for part in data.draw(batches(arriving)):
        done(replay.feed(part))

    for user in users:
        home = Partition(ORDERS_0.topic, partition_for(user.encode(), partitions))
        expected = training.states[user]
        worker, replayed = (kept(each, home, [user])[user] for each in (store, replay.store))
        assert worker == replayed == expected
        twin = twin_facts((o for o in arriving if o.user_id == user), ZoneInfo(zone))
        assert days(expected) == days_of(twin)
        assert (expected.newest_ms, expected.last_order_ms(calendar)) == (
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
