"""The judge against its twin, and against itself: no cut into batches may change anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderType
from features.facts.ledger import IdMemory
from features.facts.state import Effect
from features.times import calendar_of
from model.decide import codec as customer
from model.decide.codec import UNKNOWN
from model.decide.policy import Policy
from model.decide.rule_state import Trigger
from model.judge import silences
from model.judge.judge import Judge
from model.judge.judged import Event, ScheduledCustomer, Scoring
from tests.support.fakes import HOUR_MS, LinearModel, an_order, at, by_time, every, judge, scorer
from tests.support.logs import LATENESSES_MS, USERS, policies, shop_logs
from tests.support.strategies import batches
from tests.support.twins.judge import TwinCustomer, events_of, twins

END_MS = at(600)


@dataclass
class Run:
    """Batches through a judge, with what each leaves kept for the next; as a partition does it."""

    judge: Judge
    tracks: dict[str, ScheduledCustomer] = field(default_factory=dict)
    scorings: dict[str, list[Scoring]] = field(default_factory=dict)
    effects: dict[int, Effect] = field(default_factory=dict)

    def batch(self, events: Sequence[Event]) -> None:
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.order.user_id, []).append(event)
        tracks = {user: self.tracks.get(user, ScheduledCustomer(UNKNOWN, None)) for user in by_user}
        self._judge(tracks, by_user, None)

    def until(self, until_ms: int) -> None:
        """Lets whoever is due be judged."""
        due = {
            user: track
            for user, track in self.tracks.items()
            if track.due_ms is not None and track.due_ms <= until_ms
        }
        self._judge(due, {}, until_ms)

    def left(self) -> dict[str, tuple[bytes, int | None]]:
        """Every customer as stored, to the byte."""
        return {
            user: (customer.encode(track.customer), track.due_ms)
            for user, track in self.tracks.items()
        }

    def _judge(
        self,
        tracks: dict[str, ScheduledCustomer],
        events: dict[str, list[Event]],
        until_ms: int | None,
    ) -> None:
        judged = self.judge.judge(tracks, events, until_ms)
        for user, track in judged.tracks.items():
            before = self.tracks.get(user)
            if user not in judged.changed and before is not None:
                assert track.customer == before.customer
        self.tracks.update(judged.tracks)
        for scoring in judged.scorings:
            self.scorings.setdefault(scoring.user_id, []).append(scoring)
        self.effects |= judged.effects


def whole(by: Judge, events: Sequence[Event], until_ms: int | None = END_MS) -> Run:
    """The events in a single batch."""
    run = Run(by)
    run.batch(events)
    if until_ms is not None:
        run.until(until_ms)
    return run


def raised(run: Run) -> list[tuple[str, Trigger, int]]:
    return [
        (user, scoring.trigger, scoring.as_of_ms)
        for user, scorings in sorted(run.scorings.items())
        for scoring in scorings
        if scoring.raised
    ]


def drops(run: Run) -> list[tuple[str, Trigger, int]]:
    """Value drops, which are no warnings."""
    assert raised(run) == []
    return [
        (s.user_id, s.value_drop.trigger, s.value_drop.as_of_ms)
        for scorings in run.scorings.values()
        for s in scorings
        if s.value_drop
    ]


def assert_like_the_twins(run: Run, found: dict[str, TwinCustomer]) -> None:
    for user, twin in found.items():
        assert run.tracks[user] == twin.track()
        assert run.scorings.get(user, []) == twin.scorings
    assert run.effects == {at: did for twin in found.values() for at, did in twin.effects.items()}


# --- the twin ------------------------------------------------------------------------------------


@given(orders=shop_logs(), lateness_ms=LATENESSES_MS, policy=policies())
def test_a_batch_is_judged_as_event_by_event_and_day_by_day(
    orders: list[Order], lateness_ms: int, policy: Policy
) -> None:
    by = judge(policy, scorer(sure_days=18))
    events = events_of(orders, lateness_ms)
    assert_like_the_twins(whole(by, events), twins(by, events, END_MS))


@given(orders=shop_logs(max_orders=12, max_days=90), policy=policies())
def test_busy_customers_with_a_short_memory_are_judged_as_one_by_one(
    orders: list[Order], policy: Policy
) -> None:
    by = judge(policy, scorer(sure_days=18), memory=IdMemory(days=20, size=3))
    events = events_of(orders, 0)
    assert_like_the_twins(whole(by, events), twins(by, events, END_MS))


# Days of 23, 24 and 25 hours, a midnight that there is not, and one far from that of UTC.
ZONES = st.sampled_from(["America/Los_Angeles", "America/Santiago", "Pacific/Kiritimati"])


@given(orders=shop_logs(), lateness_ms=LATENESSES_MS, policy=policies(), zone=ZONES)
def test_in_the_shops_own_days_too_a_batch_is_judged_as_one_by_one(
    orders: list[Order], lateness_ms: int, policy: Policy, zone: str
) -> None:
    by = judge(policy, scorer(calendar=calendar_of(zone)))
    events = events_of(orders, lateness_ms)
    assert_like_the_twins(whole(by, events), twins(by, events, END_MS))


# --- batches -------------------------------------------------------------------------------------


@given(
    data=st.data(),
    orders=shop_logs(),
    lateness_ms=LATENESSES_MS,
    policy=policies(),
    ticks=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_how_events_fall_into_batches_changes_nothing(
    data: st.DataObject,
    orders: list[Order],
    lateness_ms: int,
    policy: Policy,
    ticks: list[bool],
) -> None:
    by = judge(policy, scorer(sure_days=18))
    events = events_of(orders, lateness_ms)
    cut = Run(by)
    for batch, tick in zip(data.draw(batches(events)), ticks, strict=False):
        cut.batch(batch)
        if batch and tick:
            cut.until(batch[-1].watermark_ms)
    cut.until(END_MS)
    expected = whole(by, events)
    assert cut.left() == expected.left()
    assert cut.scorings == expected.scorings
    assert cut.effects == expected.effects


@given(orders=shop_logs(max_orders=5), lateness_ms=LATENESSES_MS, policy=policies())
def test_one_event_a_batch_is_as_good_as_all_at_once(
    orders: list[Order], lateness_ms: int, policy: Policy
) -> None:
    by = judge(policy, scorer(sure_days=18))
    events = events_of(orders, lateness_ms)
    single = Run(by)
    for event in events:
        single.batch([event])
        single.until(event.watermark_ms)
    single.until(END_MS)
    expected = whole(by, events)
    assert single.left() == expected.left()
    assert single.scorings == expected.scorings


@given(orders=shop_logs())
def test_customers_do_not_depend_on_their_neighbours(orders: list[Order]) -> None:
    by = judge()
    events = events_of(orders, HOUR_MS)
    together = whole(by, events)
    for user in USERS:
        alone = whole(by, [event for event in events if event.order.user_id == user])
        assert alone.scorings.get(user) == together.scorings.get(user)
        assert alone.left().get(user) == together.left().get(user)


@given(data=st.data(), orders=shop_logs(), swap=st.integers(0, 20), policy=policies())
def test_another_model_takes_over_the_same_whatever_the_batches(
    data: st.DataObject, orders: list[Order], swap: int, policy: Policy
) -> None:
    old = judge(policy, scorer(sure_days=18))
    other = LinearModel({"net_minor_90d": 0.02}, bias=3.0)
    new = judge(policy, scorer(other, "fake-2", sure_days=22))
    events = events_of(orders, HOUR_MS)
    before, after = events[:swap], events[swap:]

    found = twins(old, before, None)
    for twin in found.values():
        twin.judge = new
    for event in after:
        user = event.order.user_id
        found.setdefault(user, TwinCustomer(new, user)).event(event)
    for twin in found.values():
        twin.until(END_MS)

    run = Run(old)
    run.batch(before)
    run.judge = new
    for batch in data.draw(batches(after) | st.just([[event] for event in after])):
        run.batch(batch)
    run.until(END_MS)
    assert_like_the_twins(run, found)


@given(orders=shop_logs(), lateness_ms=LATENESSES_MS)
def test_the_same_events_again_change_nothing(orders: list[Order], lateness_ms: int) -> None:
    events = events_of(orders, lateness_ms)
    run = whole(judge(), events)
    before, told = run.left(), {user: list(all_) for user, all_ in run.scorings.items()}
    run.batch([Event(event.offset, event.order, END_MS) for event in events])
    run.until(END_MS)
    assert run.left() == before
    assert run.scorings == told


# --- silence -------------------------------------------------------------------------------------


def run_of(
    orders: Iterable[Order], until_day: float, by: Judge | None = None, lateness_ms: int = 0
) -> Run:
    return whole(by or judge(), events_of(orders, lateness_ms), at(until_day))


def test_a_weekly_customer_who_stops_is_warned_of_once_with_no_event_of_theirs() -> None:
    # 13 orders of 50.00 in 90 days are worth 650.00 + 250.00; the last is on day 140.
    run = run_of(every("ada", 7, 21), until_day=600)
    assert raised(run) == [("ada", Trigger.SILENCE, at(160))]
    (warning,) = [s for s in run.scorings["ada"] if s.raised]
    # Day 160: 10 orders are left in the window (days 77 to 140), 20 days have gone by.
    assert warning.score.clv_minor == 50_000 + 25_000 - 2_000
    assert warning.raised is not None
    assert warning.raised.reference.clv_minor == 65_000 + 25_000


@pytest.mark.parametrize("until_day", [159.99, 160, 160.01])
def test_the_warning_comes_with_the_midnight_that_decides_it(until_day: float) -> None:
    run = run_of(every("ada", 7, 21), until_day)
    assert bool(raised(run)) is (until_day >= 160)


def test_a_late_watermark_decides_the_same_day() -> None:
    orders = every("ada", 7, 21)
    late = run_of(by_time(orders, [an_order("ben", 900)]), until_day=900)
    assert raised(late) == [("ada", Trigger.SILENCE, at(160))]


def test_after_an_outage_a_customer_is_warned_of_once() -> None:
    run = whole(judge(), events_of(every("ada", 7, 21), 0), None)
    run.until(at(10_000))
    assert [scoring.as_of_ms for scoring in run.scorings["ada"] if scoring.raised] == [at(160)]


def test_who_comes_back_is_armed_again() -> None:
    orders = every("ada", 7, 21) + every("ada", 7, 13, first_day=175.5)
    run = run_of(orders, until_day=900)
    # The second silence begins on day 259: again half of the horizon.
    assert raised(run) == [("ada", Trigger.SILENCE, at(160)), ("ada", Trigger.SILENCE, at(279))]


def test_someone_of_little_value_is_scored_but_not_warned_of() -> None:
    run = run_of(every("ada", 7, 21, amount_minor=300), until_day=600)
    assert raised(run) == []
    silent = [s.as_of_ms for s in run.scorings["ada"] if s.as_of_ms > at(141)]
    assert silent == [at(140 + 3 * n) for n in range(1, 14)]


def test_silences_looked_at_a_few_days_at_a_time_are_judged_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = by_time(every("ada", 7, 21), every("bob", 3, 9), every("cleo", 30, 3))
    at_once = run_of(orders, until_day=900)
    monkeypatch.setattr(silences, "_MOST_BUCKETS", 3)
    in_parts = run_of(orders, until_day=900)
    assert (in_parts.left(), in_parts.scorings) == (at_once.left(), at_once.scorings)


def test_silence_is_judged_at_instants_before_the_order_that_ends_it() -> None:
    orders = [*every("ada", 7, 21), an_order("ada", 200)]
    run = run_of(orders, until_day=200)
    assert raised(run) == [("ada", Trigger.SILENCE, at(160))]


def test_an_instant_that_is_not_closed_yet_is_overtaken_by_the_next_order() -> None:
    orders = [*every("ada", 7, 21), an_order("ada", 160.001)]
    assert raised(run_of(orders, 161, lateness_ms=HOUR_MS)) == []
    assert raised(run_of(orders, 161, lateness_ms=0)) == [("ada", Trigger.SILENCE, at(160))]


# --- events --------------------------------------------------------------------------------------


def test_an_order_that_lowers_the_clv_itself_is_told_at_once() -> None:
    orders = [an_order("ada", 0.5, 10_000), an_order("ada", 1.5, 100)]
    # 100.00 + 500.00, then 101.00 + 252.50: 41 % less.
    assert drops(run_of(orders, 1.6)) == [("ada", Trigger.ORDER, at(1.5))]


def test_a_refund_that_lowers_the_clv_is_told_at_once() -> None:
    orders = every("ada", 7, 13)
    refund = an_order("ada", 84.7, 65_000, OrderType.REFUND)
    run = run_of([*orders, refund], 85)
    assert drops(run) == [("ada", Trigger.REFUND, at(84.7))]


def test_a_cancellation_that_takes_the_only_order_back_is_told_and_ends_it() -> None:
    orders = [
        an_order("ada", 0.5, 10_000, id="x"),
        an_order("ada", 2, 0, OrderType.CANCELLATION, id="x"),
    ]
    run = run_of(orders, 500)
    assert drops(run) == [("ada", Trigger.REFUND, at(2))]
    assert run.tracks["ada"].due_ms is None
    assert run.scorings["ada"][-1].score.clv_minor == 0


def test_a_cancellation_before_its_order_leaves_nothing_to_warn_of() -> None:
    orders = [
        an_order("ada", 2, 0, OrderType.CANCELLATION, id="x"),
        an_order("ada", 0.5, 10_000, id="x"),
    ]
    run = run_of(orders, 500)
    assert raised(run) == []
    assert run.tracks["ada"].due_ms is None


def test_a_late_event_counts_but_fires_nothing_for_the_past() -> None:
    orders = [
        *every("ada", 7, 13),
        an_order("ben", 100),
        an_order("ada", 84.7, 65_000, OrderType.REFUND),
    ]
    run = run_of(orders, 100)
    assert drops(run) == []
    assert run.scorings["ada"][-1].as_of_ms == at(100)
    in_time = run_of(orders, 100, lateness_ms=16 * 24 * HOUR_MS)
    assert drops(in_time) == [("ada", Trigger.REFUND, at(84.7))]


def test_scorings_come_by_instant_and_for_each_customer_as_they_were_made() -> None:
    orders = by_time(every("ada", 7, 5), every("ben", 9, 8))
    events = events_of(orders, 0)
    run = whole(judge(), events, None)
    told = judge().judge(
        {"ada": ScheduledCustomer(UNKNOWN, None), "ben": ScheduledCustomer(UNKNOWN, None)},
        {
            user: [event for event in events if event.order.user_id == user]
            for user in ("ada", "ben")
        },
    )
    instants = [scoring.as_of_ms for scoring in told.scorings]
    assert instants == sorted(instants)
    assert {scoring.offset is None for scoring in told.scorings} == {True, False}
    for user, scorings in run.scorings.items():
        assert [scoring for scoring in told.scorings if scoring.user_id == user] == scorings


def test_a_midnight_is_told_before_the_order_that_closes_it_at_midnight() -> None:
    run = run_of([an_order("ada", 0.5), an_order("ada", 6)], 6)
    places = [(scoring.as_of_ms, scoring.offset) for scoring in run.scorings["ada"]]
    assert places == [(at(0.5), 0), (at(3), None), (at(6), None), (at(6), 1)]


# --- another model, another policy ---------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 0.1, 2.0])
def test_a_model_of_another_scale_warns_of_nobody_by_being_another(factor: float) -> None:
    by = judge(Policy(floor_percentile=0))
    run = whole(by, events_of(every("ada", 7, 13), 0), None)
    run.judge = judge(Policy(floor_percentile=0), scorer(LinearModel(factor=factor), "fake-2"))
    run.batch([Event(99, an_order("ada", 90), at(90))])
    run.until(at(95))
    assert raised(run) == []
    peaks = run.tracks["ada"].customer.rule_state.peaks
    assert peaks[0].clv_minor == round(90_000 * factor)


def test_another_model_finds_the_silence_that_the_old_one_would_have_found() -> None:
    run = whole(judge(), events_of(every("ada", 7, 21), 0), at(150))
    run.judge = judge(by=scorer(LinearModel(factor=0.5), "fake-2"))
    run.until(at(600))
    assert raised(run) == [("ada", Trigger.SILENCE, at(160))]


def test_a_repeat_seen_by_another_model_moves_no_due_time() -> None:
    events = events_of(every("ada", 7, 21), 0)
    run = whole(judge(), events, at(160))
    due_ms = run.tracks["ada"].due_ms
    run.judge = judge(by=scorer(LinearModel(factor=0.5), "fake-2"))
    run.batch([Event(100, events[-1].order, at(160))])
    assert run.tracks["ada"].due_ms == due_ms


def test_a_due_time_of_another_policy_is_settled_once() -> None:
    run = whole(judge(), events_of(every("ada", 7, 21), 0), at(150))
    run.judge = judge(Policy())
    due_ms = run.tracks["ada"].due_ms
    assert due_ms is not None
    run.until(due_ms)
    later = run.tracks["ada"].due_ms
    assert later is None or later > due_ms
