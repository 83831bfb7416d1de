"""One partition, from records to states and messages: whatever fails, and however it is cut."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderType
from features.facts.ledger import IdMemory
from model.decide import codec as customer
from model.decide.policy import Policy
from streamer.clock import ManualClock
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.claim import Fenced, LogTooShort, LostWrites, RetentionGap
from streamer.pipeline.messages import warning_id
from streamer.pipeline.partition import OutOfSequence, PartitionRunner, RunnerOptions
from streamer.records import LogRange, MemoryPublisher, PublishFailed
from streamer.store.base import PartitionCountChanged, Stored, StoreUnavailable
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    HOUR_MS,
    ORDERS_0,
    START_MS,
    TOPICS,
    Crash,
    Faults,
    FaultyPublisher,
    FaultyStore,
    Left,
    LinearModel,
    Rec,
    SwitchedStore,
    an_order,
    at,
    by_time,
    claimed,
    done,
    every,
    judge,
    left,
    log_of,
    pipeline,
    records,
    scorer,
    users_of,
)
from tests.support.logs import policies, shop_logs
from tests.support.strategies import batches
from tests.support.twins.judge import events_of, twins

END_MS = at(700)


def a_log() -> list[Rec]:
    """Two customers who stop, one who comes back, a refund that fires, a repeat, bad records."""
    orders = by_time(
        every("ada", 7, 3, amount_minor=1_200),
        every("ben", 10, 2, amount_minor=1_200),
        [an_order("ben", 100.25, 1_200)],
        every("cleo", 3, 5, amount_minor=9_000),
        [an_order("cleo", 12.75, 40_000, OrderType.REFUND, id="cleo-12.5")],
        [an_order("dora", 150.5, 1_200)],
    )
    orders.insert(9, orders[3])
    values: list[Order | bytes | None] = list(orders)
    values.insert(5, b"{")
    values.insert(11, b'{"order_id": "1", "user_id": "ada", "ts": 1, "amount": 3}')
    values.append(b"[]")
    return records(values, first=3)


@dataclass
class World:
    """What outlives a worker: store, broker and log."""

    log: Sequence[Rec]
    through: Pipeline
    store: MemoryStore
    publisher: MemoryPublisher

    @classmethod
    def of(cls, log: Sequence[Rec], through: Pipeline | None = None) -> World:
        return cls(log, through or pipeline(), MemoryStore(), MemoryPublisher())

    def runner(self, **options: int) -> PartitionRunner:
        return claimed(self.log, self.store, self.publisher, self.through, **options)

    def left(self) -> Left:
        return left(self.store, self.publisher, users_of(self.log))

    def warnings(self) -> list[bytes]:
        return [message.value or b"" for message in self.publisher.of(TOPICS.warnings)]

    def said(self) -> list[tuple[str, str, str]]:
        """User, trigger and instant of every warning, in the order in which they came."""
        found = [msgspec.json.decode(value) for value in self.warnings()]
        return [(w["user_id"], w["trigger"], w["as_of"]) for w in found if w["kind"] == "warning"]

    def recovered(self) -> list[dict[str, object]]:
        """What is said of customers who ordered after a warning."""
        found = [msgspec.json.decode(value) for value in self.warnings()]
        return [record for record in found if record["kind"] == "recovered"]

    def reasons(self) -> list[str]:
        letters = self.publisher.of(TOPICS.dead_letters)
        return [dict(message.headers)["reason"].decode() for message in letters]


def delivered(
    log: Sequence[Rec], through: Pipeline | None = None, until_ms: int | None = END_MS
) -> World:
    """A log delivered in one batch, without any trouble."""
    world = World.of(log, through)
    runner = world.runner()
    done(runner.process(log))
    done(runner.tick(until_ms))
    return world


@cache
def undisturbed() -> Left:
    world = delivered(a_log())
    found = world.left()
    # 5 warnings, one of which is answered, and a value drop.
    assert len(found.messages[TOPICS.warnings]) == 7
    assert len(found.messages[TOPICS.dead_letters]) == 3
    assert (found.next_offset, found.outbox) == (a_log()[-1].offset + 1, 0)
    return found


# --- what is left behind -------------------------------------------------------------------------


@given(orders=shop_logs(), lateness_ms=st.sampled_from([0, HOUR_MS]))
def test_states_and_warnings_are_those_of_the_offline_fold(
    orders: list[Order], lateness_ms: int
) -> None:
    through = pipeline(judge(Policy(floor_percentile=0)), lateness_ms=lateness_ms)
    world = delivered(records(orders), through)
    found = twins(through.judge, events_of(orders, lateness_ms), END_MS)
    assert world.left().states == {
        user: Stored(customer.encode(twin.track().customer), twin.track().due_ms)
        for user, twin in found.items()
    }
    version = through.judge.rules.policy.version
    expected = [
        warning_id(user, scoring.notice, version, "warning" if scoring.raised else "value_drop")
        for user, twin in found.items()
        for scoring in twin.scorings
        if scoring.notice
    ] + [
        warning_id(user, scoring.answered.raised, version, "recovered")
        for user, twin in found.items()
        for scoring in twin.scorings
        if scoring.answered
    ]
    ids = [msgspec.json.decode(value)["warning_id"] for value in world.warnings()]
    assert sorted(ids) == sorted(expected)
    assert len(set(ids)) == len(ids)


@given(
    data=st.data(),
    orders=shop_logs(),
    lateness_ms=st.sampled_from([0, HOUR_MS]),
    cache_customers=st.sampled_from([1, 2, 100]),
    due_batch=st.sampled_from([1, 2, 500]),
)
def test_batches_caches_and_ticks_change_nothing(
    data: st.DataObject,
    orders: list[Order],
    lateness_ms: int,
    cache_customers: int,
    due_batch: int,
) -> None:
    log = records(orders)
    through = pipeline(judge(Policy(floor_percentile=0)), lateness_ms=lateness_ms)
    world = World.of(log, through)
    runner = world.runner(cache_customers=cache_customers, due_batch=due_batch)
    for batch in data.draw(batches(log)):
        done(runner.process(batch))
        done(runner.tick(None))
    done(runner.tick(END_MS))
    assert world.left() == delivered(log, through).left()


@given(orders=shop_logs(), again=st.integers(0, 40), lateness_ms=st.sampled_from([0, HOUR_MS]))
def test_any_suffix_of_the_log_again_changes_nothing(
    orders: list[Order], again: int, lateness_ms: int
) -> None:
    log = records(orders)
    world = World.of(log, pipeline(lateness_ms=lateness_ms))
    runner = world.runner()
    done(runner.process(log))
    done(runner.tick(END_MS))
    before, said = world.left(), list(world.publisher.messages)
    done(runner.process(log[again:]))
    done(runner.tick(END_MS))
    assert world.left() == before
    assert world.publisher.messages == said


def test_the_same_orders_produced_twice_give_no_new_warning() -> None:
    log = a_log()
    shifted = [Rec(r.offset + len(log), r.key, r.value, r.timestamp) for r in log]
    world = World.of([*log, *shifted])
    runner = world.runner()
    for batch in (log, shifted):
        done(runner.process(batch))
    done(runner.tick(END_MS))
    found = world.left()
    assert found.states == undisturbed().states
    assert found.messages[TOPICS.warnings] == undisturbed().messages[TOPICS.warnings]
    assert len(world.warnings()) == len(set(world.warnings()))


def test_records_already_applied_are_skipped() -> None:
    log = a_log()
    world = World.of(log)
    runner = world.runner()
    done(runner.process(log[:8]))
    done(runner.process(log[2:]))
    done(runner.tick(END_MS))
    assert world.left() == undisturbed()
    assert runner.counters.orders == len(log) - 3


def test_an_empty_batch_is_nothing() -> None:
    world = World.of(a_log())
    runner = world.runner()
    done(runner.process([]))
    assert runner.next_offset == 3
    assert world.publisher.messages == []


def test_without_scores_only_warnings_and_dead_letters_go_out() -> None:
    world = delivered(a_log(), pipeline(publish_scores=False))
    assert world.publisher.of(TOPICS.scores) == []
    assert world.left().states == undisturbed().states
    assert world.left().messages[TOPICS.warnings] == undisturbed().messages[TOPICS.warnings]


@given(orders=shop_logs(), policy=policies(), budget=st.sampled_from([None, 1]))
def test_scores_made_for_publishing_alone_decide_nothing(
    orders: list[Order], policy: Policy, budget: int | None
) -> None:
    through = pipeline(judge(replace(policy, budget_per_day=budget)))
    whole = delivered(records(orders), through)
    without = delivered(records(orders), through.without_scores())
    assert without.publisher.of(TOPICS.scores) == []
    assert without.publisher.of(TOPICS.warnings) == whole.publisher.of(TOPICS.warnings)
    assert [stored.state for stored in without.left().states.values()] == [
        stored.state for stored in whole.left().states.values()
    ]


def test_a_customers_scores_go_out_in_the_order_of_their_instants() -> None:
    world = delivered(a_log())
    for user in (b"ada", b"ben", b"cleo"):
        mine = [m.value or b"" for m in world.publisher.of(TOPICS.scores) if m.key == user]
        instants = [msgspec.json.decode(value)["as_of"] for value in mine]
        assert len(instants) > 5
        assert instants == sorted(instants)


# --- bad records ---------------------------------------------------------------------------------


def test_a_bad_record_becomes_a_dead_letter_and_the_stream_goes_on() -> None:
    log = records([an_order("ada", 1), b"\xff\x00", an_order("ada", 2)], first=7)
    bad = log[1] = Rec(8, b"\x00key", b"\xff\x00", START_MS)
    world = delivered(log)
    (letter,) = world.publisher.of(TOPICS.dead_letters)
    assert (letter.key, letter.value) == (bad.key, bad.value)
    headers = dict(letter.headers)
    assert headers.pop("detail")
    assert headers == {
        "reason": b"not_json",
        "source_topic": b"orders",
        "source_partition": b"0",
        "source_offset": b"8",
    }
    assert world.left().next_offset == 10
    assert len(world.publisher.of(TOPICS.scores)) > 2


def test_nothing_but_bad_records_still_moves_on() -> None:
    log = records([b"", b"{", b"[]"])
    world = delivered(log, until_ms=None)
    assert world.reasons() == ["empty", "not_json", "not_an_object"]
    assert (world.left().next_offset, world.left().high_ts_ms) == (3, None)


def test_an_order_beyond_the_id_memory_becomes_a_dead_letter() -> None:
    log = records([an_order("ada", 400), an_order("ada", 1), an_order("ben", 401)])
    world = delivered(log, pipeline(judge(memory=IdMemory(days=30))), until_ms=None)
    (letter,) = world.publisher.of(TOPICS.dead_letters)
    headers = dict(letter.headers)
    assert (headers["reason"], headers["source_offset"]) == (b"beyond_id_memory", b"1")
    assert b"redrive" in headers["detail"]
    assert (letter.key, letter.value) == (log[1].key, log[1].value)
    assert world.left().next_offset == 3


@given(values=st.lists(st.binary(max_size=60) | st.none(), max_size=8))
def test_no_bytes_stop_a_partition(values: list[bytes | None]) -> None:
    log = records([*values, an_order("ada", 1)])
    world = delivered(log, until_ms=None)
    assert world.left().next_offset == len(log)
    assert len(world.reasons()) == len([value for value in values if value is not None])


# --- silence and the clock -----------------------------------------------------------------------


def test_a_weekly_customer_who_stops_is_warned_of_once_by_the_orders_of_others() -> None:
    others = [an_order(f"other-{day}", day, 100) for day in range(0, 400, 5)]
    world = delivered(records(by_time(every("ada", 7, 21), others)), until_ms=None)
    assert world.said() == [("ada", "silence", "2025-06-10T00:00:00Z")]


def test_a_weekly_customer_who_stops_is_warned_of_once_by_an_idle_clock() -> None:
    world = World.of(records(every("ada", 7, 21)))
    runner = world.runner()
    done(runner.process(world.log))
    assert world.said() == []
    for day in range(141, 400):
        done(runner.tick(at(day)))
    assert world.said() == [("ada", "silence", "2025-06-10T00:00:00Z")]


def test_however_long_the_clock_stood_still_the_warning_is_the_same() -> None:
    log = records(every("ada", 7, 21))
    daily = World.of(log)
    runner = daily.runner()
    done(runner.process(log))
    for day in range(141, 400):
        done(runner.tick(at(day)))
    assert daily.warnings() == delivered(log, until_ms=at(400)).warnings()
    assert daily.left() == delivered(log, until_ms=at(400)).left()


def test_a_customer_who_returns_is_warned_of_again_with_another_id() -> None:
    orders = every("ada", 7, 21) + every("ada", 7, 21, first_day=182.5)
    world = delivered(records(orders))
    assert [trigger for _, trigger, _ in world.said()] == ["silence", "silence"]
    (answer,) = world.recovered()
    ids = {str(msgspec.json.decode(value)["warning_id"]) for value in world.warnings()}
    assert len(ids) == 3
    assert answer["closes"] in ids - {answer["warning_id"]}
    # Silent from day 140 on, for longer than 40 days, and back 8 days after the warning.
    assert (answer["outcome"], answer["trigger"], answer["as_of"]) == (
        "recovered",
        "order",
        "2025-07-02T12:00:00Z",
    )


def test_the_clock_tells_how_many_instants_it_judged() -> None:
    world = World.of(records([an_order("ada", 0.5)]))
    runner = world.runner()
    done(runner.process(world.log))
    assert done(runner.tick(at(2.9))) == 0
    assert done(runner.tick(at(3))) == 1
    assert done(runner.tick(at(3))) == 0
    assert done(runner.tick(None)) == 0


def test_before_the_first_order_there_is_nothing_to_judge() -> None:
    world = World.of(records([b"{"]))
    runner = world.runner()
    assert runner.watermark_ms is None
    assert done(runner.tick(None)) == 0
    assert done(runner.tick(END_MS)) == 0


def test_the_watermark_stays_behind_by_the_allowed_lateness() -> None:
    log = records(by_time(every("ada", 7, 2), [an_order("ben", 13.01)]))
    world = World.of(log, pipeline(lateness_ms=HOUR_MS))
    runner = world.runner()
    done(runner.process(log))
    assert runner.watermark_ms == at(13.01) - HOUR_MS
    # The refresh of day 13 is 15 minutes old, and not closed yet.
    instants = [m.value for m in world.publisher.of(TOPICS.scores) if b"T00:00:00Z" in m.value]  # type: ignore[operator]
    assert instants == [m for m in instants if b"2025-01-14" not in m]  # type: ignore[operator]
    done(runner.tick(at(13)))
    assert any(b"2025-01-14T00:00:00Z" in (m.value or b"") for m in world.publisher.messages)


def test_the_watermark_outlives_the_worker() -> None:
    world = World.of(a_log())
    done(world.runner().process(world.log))
    assert world.runner().watermark_ms == at(150.5)


@pytest.mark.parametrize(
    "second",
    [
        Policy(),
        Policy(floor_percentile=100),
        Policy(min_orders=2),
    ],
)
def test_due_times_of_an_older_policy_do_not_hold_the_clock_up(second: Policy) -> None:
    world = World.of(a_log())
    runner = world.runner(due_batch=1)
    done(runner.process(world.log))
    done(runner.tick(at(165)))
    world.through = pipeline(judge(second))
    runner = world.runner(due_batch=1)
    done(runner.tick(at(166)))
    done(runner.tick(END_MS))
    assert done(world.store.due(ORDERS_0, END_MS, 10)) == []


def test_another_model_warns_of_nobody_by_being_another() -> None:
    log = records(by_time(every("ada", 7, 21), every("ben", 7, 21)))
    world = World.of(log)
    done(world.runner().process(log))
    world.through = pipeline(judge(by=scorer(LinearModel(factor=0.5), "fake-2")))
    runner = world.runner()
    done(runner.tick(at(159)))
    assert world.said() == []
    done(runner.tick(at(600)))
    assert [user for user, _, _ in world.said()] == ["ada", "ben"]


def test_a_watermark_that_ran_ahead_is_told_and_reading_the_log_again_loses_no_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    orders = by_time(every("ada", 7, 5), every("ben", 5, 8))
    log = records([*orders[:6], an_order("desk", 9_000), *orders[6:]])
    clock = ManualClock(at(40))
    believing = World.of(log)
    done(believing.runner().process(log))
    runner = believing.runner(clock=clock)
    (told,) = [r for r in caplog.records if r.message == "watermark.ahead"]
    assert "rebuild --partition 0" in told.fields["remedy"]  # type: ignore[attr-defined]
    assert runner.counters.ran_ahead == 1
    # What `rebuild` does: nothing is left in the store, and the log is read from its start.
    again = World.of(log)
    done(again.runner(clock=clock).process(log))
    right = World.of([record for record in log if record.key != b"desk"])
    done(right.runner(clock=clock).process([r for r in log if r.key != b"desk"]))
    for world in (again, right):
        assert world.left().high_ts_ms == max(order.ts_ms for order in orders)
    users = ["ada", "ben"]
    assert done(again.store.load(ORDERS_0, users)) == done(right.store.load(ORDERS_0, users))
    assert again.reasons() == ["future_ts"]


# --- sequence, fences, logs that do not fit ------------------------------------------------------


def test_records_that_leave_some_out_are_refused_once() -> None:
    log = a_log()
    world = World.of(log)
    runner = world.runner()
    done(runner.process(log[:4]))
    with pytest.raises(OutOfSequence) as refusal:
        done(runner.process(log[6:]))
    assert refusal.value.expected == log[4].offset
    assert world.left().next_offset == log[4].offset
    done(runner.process(log[4:]))
    done(runner.tick(END_MS))
    assert world.left() == undisturbed()


def test_a_hole_that_is_still_there_after_a_seek_is_a_hole() -> None:
    log = [record for record in a_log() if record.offset not in (6, 7)]
    world = World.of(log)
    runner = world.runner()
    done(runner.process(log[:3]))
    with pytest.raises(OutOfSequence):
        done(runner.process(log[3:5]))
    done(runner.process(log[3:5]))
    assert runner.next_offset == log[4].offset + 1
    done(runner.process(log[5:]))
    assert runner.next_offset == log[-1].offset + 1


def test_each_hole_is_asked_about_anew() -> None:
    log = [record for record in a_log() if record.offset not in (6, 10)]
    world = World.of(log)
    runner = world.runner()
    done(runner.process(log[:3]))
    for batch in (log[3:6], log[6:]):
        with pytest.raises(OutOfSequence):
            done(runner.process(batch))
        done(runner.process(batch))
    assert runner.next_offset == log[-1].offset + 1


def test_a_hole_right_where_a_worker_begins_is_a_hole() -> None:
    log = a_log()
    world = World.of(log)
    runner = world.runner()
    done(runner.process(log[2:]))
    assert runner.next_offset == log[-1].offset + 1


@pytest.mark.parametrize(
    "act",
    [
        lambda runner, log: runner.process(log[4:]),
        lambda runner, log: runner.tick(END_MS),
    ],
    ids=["orders", "clock"],
)
def test_a_zombie_is_fenced_and_changes_nothing(
    act: Callable[[PartitionRunner, Sequence[Rec]], object],
) -> None:
    world = World.of(a_log())
    zombie = world.runner()
    done(zombie.process(world.log[:4]))
    owner = world.runner()
    before = left(world.store, MemoryPublisher(), users_of(world.log))
    with pytest.raises(Fenced, match="orders-0"):
        done(act(zombie, world.log))  # type: ignore[arg-type]
    assert left(world.store, MemoryPublisher(), users_of(world.log)) == before
    assert world.warnings() == []
    done(owner.process(world.log[4:]))
    done(owner.tick(END_MS))
    assert world.left().states == undisturbed().states
    assert set(world.warnings()) == {m.value for m in undisturbed().messages[TOPICS.warnings]}


def test_a_zombie_is_fenced_also_after_the_owner_went_on() -> None:
    world = World.of(a_log())
    zombie = world.runner()
    done(zombie.process(world.log[:4]))
    owner = world.runner()
    done(owner.process(world.log[4:]))
    with pytest.raises(Fenced):
        done(zombie.process(world.log[4:]))
    done(owner.tick(END_MS))
    assert world.left().states == undisturbed().states
    assert set(world.warnings()) == {m.value for m in undisturbed().messages[TOPICS.warnings]}


def test_a_zombie_that_stood_still_says_nothing_out_of_date() -> None:
    log = a_log()
    world = World.of(log)
    clock = ManualClock()
    zombie = PartitionRunner(
        ORDERS_0,
        world.store,
        world.publisher,
        world.through,
        RunnerOptions(clock=clock),
    )
    done(zombie.claim(log_of(log)))
    done(zombie.process(log[:6]))
    owner = world.runner()
    done(owner.process(log))
    said = len(world.publisher.messages)
    clock.advance(10_000)
    with pytest.raises(Fenced):
        done(zombie.process(log[6:]))
    assert len(world.publisher.messages) == said
    done(owner.tick(END_MS))
    assert world.left() == undisturbed()


def test_a_store_that_lost_writes_stops_the_worker() -> None:
    log = a_log()
    world = World.of(log)
    store = SwitchedStore(world.store)
    runner = claimed(log, store, world.publisher)
    done(runner.process(log[:4]))
    older = MemoryStore()  # of before: the same epoch, fewer writes
    claimed(log, older, MemoryPublisher())
    store.now = older
    with pytest.raises(LostWrites, match="lost writes"):
        done(runner.process(log[4:]))
    assert done(older.load(ORDERS_0, ["ada"])) == [Stored(None, None)]


def test_a_store_that_lost_writes_is_noticed_also_where_nothing_is_written() -> None:
    world = World.of(a_log())
    runner = world.runner()
    done(runner.process(world.log))
    done(runner.check())
    before = world.left()
    kept = copy.deepcopy(world.store)
    store = SwitchedStore(world.store)
    newer = claimed(world.log, store, world.publisher)
    with pytest.raises(Fenced):
        done(runner.check())
    done(newer.check())
    assert world.left() == before
    store.now = kept
    with pytest.raises(LostWrites):
        done(newer.check())


def test_a_store_that_lost_the_partition_stops_the_worker() -> None:
    log = a_log()
    store = SwitchedStore(MemoryStore())
    runner = claimed(log, store, MemoryPublisher())
    done(runner.process(log[:4]))
    store.now = MemoryStore()
    with pytest.raises(LostWrites):
        done(runner.process(log[4:]))


def test_orders_deleted_before_they_were_applied_are_not_passed_over() -> None:
    log = a_log()
    world = World.of(log)
    done(world.runner().process(log[:4]))
    again = PartitionRunner(ORDERS_0, world.store, world.publisher, world.through)
    with pytest.raises(RetentionGap, match="2 orders are missing"):
        done(again.claim(LogRange(log[6].offset, log[-1].offset + 1, 1)))
    stood = done(world.store.peek(ORDERS_0))
    assert stood is not None
    assert stood.epoch == 1  # a refused claim fences nobody


def test_a_log_that_ends_before_what_was_applied_is_another_log() -> None:
    log = a_log()
    world = World.of(log)
    done(world.runner().process(log[:4]))
    again = PartitionRunner(ORDERS_0, world.store, world.publisher, world.through)
    with pytest.raises(LogTooShort, match="CLV_STATE_NAMESPACE"):
        done(again.claim(LogRange(0, log[3].offset, 1)))
    assert done(again.claim(LogRange(0, log[3].offset + 1, 1))) == log[4].offset


def test_a_refused_claim_fences_nobody() -> None:
    log = a_log()
    world = World.of(log)
    owner = world.runner()
    done(owner.process(log[:4]))
    again = PartitionRunner(ORDERS_0, world.store, world.publisher, world.through)
    with pytest.raises(LogTooShort):
        done(again.claim(LogRange(0, 0, 1)))
    with pytest.raises(PartitionCountChanged):
        done(again.claim(log_of(log, partitions=2)))
    done(owner.process(log[4:]))
    done(owner.tick(END_MS))
    assert world.left() == undisturbed()


def test_a_new_worker_begins_where_the_log_begins() -> None:
    world = World.of(a_log())
    runner = PartitionRunner(ORDERS_0, world.store, world.publisher, world.through)
    assert done(runner.claim(log_of(world.log))) == 3


def test_a_warning_left_in_the_outbox_is_said_by_the_next_owner() -> None:
    world = World.of(a_log())
    runner = world.runner()
    done(runner.process(world.log))
    runner._publisher = Deaf(TOPICS.warnings)
    with pytest.raises(PublishFailed):
        done(runner.tick(END_MS))
    assert world.left().outbox > 0
    said = len(world.warnings())
    world.runner()
    assert world.left().outbox == 0
    assert len(world.warnings()) > said


class Deaf(MemoryPublisher):
    """Acknowledges every topic but one."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self.topic = topic

    async def publish(self, messages: Sequence[object]) -> None:
        if any(getattr(message, "topic", None) == self.topic for message in messages):
            raise PublishFailed(f"nobody takes {self.topic}")


# --- a failure at every step ---------------------------------------------------------------------


def deliver_with(faults: Faults, *, batch: int, crash: bool) -> tuple[Left, MemoryPublisher]:
    """The log delivered although effects fail: tried again by the same runner, or by the next."""
    log = a_log()
    store, publisher = FaultyStore(faults), FaultyPublisher(faults)
    runner: PartitionRunner | None = None
    ticked = False
    while not ticked:
        try:
            if runner is None:
                fresh = PartitionRunner(
                    ORDERS_0, store, publisher, pipeline(), RunnerOptions(due_batch=2)
                )
                done(fresh.claim(log_of(log)))
                runner = fresh
            while runner.next_offset <= log[-1].offset:
                at_ = runner.next_offset - log[0].offset
                done(runner.process(log[at_ : at_ + batch]))
            done(runner.tick(END_MS))
            ticked = True
        except (StoreUnavailable, PublishFailed, Crash):
            if crash:
                runner = None
    faults.at.clear()
    return left(store.kept, publisher, users_of(log)), publisher


def counted(batch: int) -> Faults:
    faults = Faults()
    deliver_with(faults, batch=batch, crash=False)
    return faults


@pytest.mark.parametrize("crash", [False, True], ids=["retried", "crashed"])
@pytest.mark.parametrize("batch", [4, 100])
def test_a_failure_at_any_step_changes_nothing(batch: int, crash: bool) -> None:
    steps = counted(batch)
    assert {name.split()[1] for name in steps.names} >= {
        *("claim", "load", "publish", "write", "outbox", "trim", "due", "peek")
    }
    for step in range(steps.count):
        faults = Faults(at={step}, raises=Crash if crash else None)
        found, _ = deliver_with(faults, batch=batch, crash=crash)
        assert found == undisturbed(), f"{steps.names[step]} ({step})"


@given(
    at_=st.sets(st.integers(0, 250), max_size=30),
    batch=st.integers(1, 30),
    crash=st.booleans(),
)
def test_any_failures_change_nothing(at_: set[int], batch: int, crash: bool) -> None:
    found, publisher = deliver_with(Faults(at=at_), batch=batch, crash=crash)
    assert found == undisturbed()
    assert len(publisher.of(TOPICS.warnings)) >= len(found.messages[TOPICS.warnings])


def test_a_write_whose_answer_was_lost_is_not_made_twice() -> None:
    faults = Faults()
    store = FaultyStore(faults)
    publisher = MemoryPublisher()
    log = a_log()
    runner = claimed(log, store, publisher)
    probe = Faults()
    done(claimed(log, FaultyStore(probe), MemoryPublisher()).process(log))
    faults.at = {probe.names.index("after write")}
    with pytest.raises(StoreUnavailable):
        done(runner.process(log))
    before = done(store.kept.peek(ORDERS_0))
    scores = len(publisher.of(TOPICS.scores))
    done(runner.process(log))
    assert done(store.kept.peek(ORDERS_0)) == before
    assert len(publisher.of(TOPICS.scores)) == scores
    assert runner.next_offset == log[-1].offset + 1


def test_a_write_that_never_got_in_is_made_again() -> None:
    faults = Faults()
    store = FaultyStore(faults)
    log = a_log()
    runner = claimed(log, store, MemoryPublisher())
    probe = Faults()
    done(claimed(log, FaultyStore(probe), MemoryPublisher()).process(log))
    faults.at = {probe.names.index("before write")}
    with pytest.raises(StoreUnavailable):
        done(runner.process(log))
    assert runner.next_offset == log[0].offset
    done(runner.process(log))
    assert runner.next_offset == log[-1].offset + 1


def test_an_interrupted_write_of_a_fenced_worker_is_not_taken_for_its_own() -> None:
    log = a_log()
    probe = Faults()
    done(claimed(log, FaultyStore(probe), MemoryPublisher()).process(log))
    faults = Faults(at={probe.names.index("before write")})
    store = FaultyStore(faults)
    zombie = claimed(log, store, MemoryPublisher())
    with pytest.raises(StoreUnavailable, match="before write"):
        done(zombie.process(log))
    owner = claimed(log, store, MemoryPublisher())
    done(owner.process(log))
    with pytest.raises(Fenced):
        done(zombie.process(log))
    assert zombie.next_offset == log[0].offset
