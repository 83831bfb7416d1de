"""The facts are a commutative fold: what is known decides, not how it came in."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks import state_size
from features.events.orders import Order, OrderType
from features.facts import buckets as day_buckets
from features.facts import ledger
from features.facts.buckets import RECORD_BYTES
from features.facts.ledger import IdMemory
from features.facts.state import (
    EMPTY,
    HISTORY_DAYS,
    CustomerState,
    Effect,
    apply,
)
from features.times import MS_PER_DAY, UTC, Calendar
from tests.support import strategies
from tests.support.strategies import START_MS, USER
from tests.support.twins.facts import Facts, identity, twin_facts

_DEFAULT = IdMemory()


def _order(
    order_id: str, day: float, amount: int = 1_000, kind: OrderType = OrderType.ORDER
) -> Order:
    return Order(order_id, USER, START_MS + round(day * MS_PER_DAY), amount, kind)


def _refund(order_id: str, day: float, amount: int = 1_000, refund_id: str = "") -> Order:
    refund = _order(order_id, day, amount, OrderType.REFUND)
    return msgspec.structs.replace(refund, refund_id=refund_id)


def _updated(event: Order, updated_ms: int) -> Order:
    return msgspec.structs.replace(event, updated_ms=updated_ms)


def _beyond(state: CustomerState, order: Order, memory: IdMemory = _DEFAULT) -> int | None:
    """How far back the memory reaches that the order lies beyond; None for one that does not."""
    applied = apply(state, order, memory)
    return applied.reach_ms if applied.effect is Effect.BEYOND_MEMORY else None


def _cancellation(order_id: str, day: float) -> Order:
    return _order(order_id, day, 0, OrderType.CANCELLATION)


def _fold(
    orders: Iterable[Order],
    state: CustomerState = EMPTY,
    memory: IdMemory = _DEFAULT,
    calendar: Calendar = UTC,
) -> CustomerState:
    """The state after all orders, none of which may come in too late."""
    for order in orders:
        applied = apply(state, order, memory, calendar)
        assert applied.effect is not Effect.BEYOND_MEMORY, order
        state = applied.state
    return state


def _days(state: CustomerState) -> list[tuple[int, ...]]:
    return list(np.frombuffer(state.buckets, day_buckets.DTYPE).tolist())


def _days_of(facts: Facts) -> list[tuple[int, ...]]:
    return [(n, day.orders, day.gross, day.refunded) for n, day in facts.days.items()]


@given(strategies.histories(), st.data())
def test_any_arrival_of_the_same_events_gives_the_same_bytes(
    history: list[Order], data: st.DataObject
) -> None:
    arrival = data.draw(strategies.arrivals(history))
    assert _fold(arrival) == _fold(history)


@given(strategies.histories(), st.data())
def test_the_facts_equal_the_twins_at_every_prefix(
    history: list[Order], data: st.DataObject
) -> None:
    arrival = data.draw(strategies.arrivals(history))
    state = EMPTY
    for seen, order in enumerate(arrival, start=1):
        state = _fold([order], state)
        expected = twin_facts(arrival[:seen])
        assert _days(state) == _days_of(expected)
        assert state.newest_ms == expected.newest_ms
        assert state.last_order_ms() == expected.last_order_ms


@given(strategies.histories(), st.data())
def test_how_events_fall_into_batches_leaves_no_trace(
    history: list[Order], data: st.DataObject
) -> None:
    state = EMPTY
    for batch in data.draw(strategies.batches(history)):
        state = _fold(batch, state)
    assert state == _fold(history)


@given(strategies.histories())
def test_a_repeat_returns_the_very_same_state(history: list[Order]) -> None:
    state = _fold(history)
    for order in history:
        applied = apply(state, order)
        assert applied.state is state
        assert applied.effect in (Effect.REPEAT, Effect.CORRECTION, Effect.ID_REUSED)


@given(strategies.long_histories(), st.randoms(use_true_random=False))
def test_years_of_orders_may_come_in_late_but_within_memory(
    history: list[Order], shuffle: random.Random
) -> None:
    late = sorted(history, key=lambda order: order.ts_ms + shuffle.uniform(0, 1_000) * MS_PER_DAY)
    assert _fold(late) == _fold(history)


@given(strategies.long_histories(), st.integers(1, 6), st.integers(1, 1_095), st.data())
def test_a_short_memory_counts_nothing_twice(
    history: list[Order], size: int, days: int, data: st.DataObject
) -> None:
    memory = IdMemory(days, size)
    counted: list[Order] = []
    state = EMPTY
    for order in data.draw(strategies.arrivals(history)):
        applied = apply(state, order, memory)
        state = applied.state
        if applied.effect is Effect.NEW:
            counted.append(order)
    assert len(counted) == len({identity(order) for order in counted})
    in_state = sum(orders for _, orders, _, _ in _days(state)) + state.before.orders
    assert in_state == sum(order.type is OrderType.ORDER for order in counted)


@given(strategies.long_histories())
def test_days_beyond_the_history_are_summarised(history: list[Order]) -> None:
    state = _fold(history)
    facts = twin_facts(history)
    horizon = facts.newest_ms // MS_PER_DAY - HISTORY_DAYS
    old = {n: day for n, day in facts.days.items() if n < horizon}
    assert _days(state) == [row for row in _days_of(facts) if row[0] >= horizon]
    before = state.before
    assert before.orders == sum(day.orders for day in old.values())
    assert before.gross == sum(day.gross for day in old.values())
    assert before.refunded == sum(day.refunded for day in old.values())
    bought = [n for n, day in old.items() if day.orders]
    assert before.purchase_days == len(bought)
    if bought:
        assert (before.first_day, before.last_day) == (bought[0], bought[-1])
        assert before.first_day_gross == old[bought[0]].gross
        assert before.last_day_gross == old[bought[-1]].gross
    assert before.gap_sq_days2 == sum((b - a) ** 2 for a, b in pairwise(bought))


def test_a_refund_counts_on_its_own_day_before_or_after_its_order() -> None:
    order, refund = _order("o-1", 0, 1_000), _refund("o-1", 5, 400)
    state = _fold([order, refund])
    assert state == _fold([refund, order])
    start = START_MS // MS_PER_DAY
    assert _days(state) == [(start, 1, 1_000, 0), (start + 5, 0, 0, 400)]


def test_a_cancellation_takes_its_order_back_before_or_after_it() -> None:
    order, cancellation = _order("o-1", 0), _cancellation("o-1", 1)
    state = _fold([order, cancellation])
    assert state == _fold([cancellation, order])
    assert _days(state) == []
    assert state.last_order_ms() is None
    assert state.newest_ms == cancellation.ts_ms


def test_a_cancelled_orders_refund_counts_for_nothing() -> None:
    events = [_order("o-1", 0), _refund("o-1", 2), _cancellation("o-1", 1)]
    assert _days(_fold(events)) == []


def test_a_refund_without_a_known_order_counts() -> None:
    assert _days(_fold([_refund("r-1", 0, 700)])) == [(START_MS // MS_PER_DAY, 0, 0, 700)]


def test_a_refund_of_nothing_leaves_no_day_behind() -> None:
    other = [_order("o-2", 0), _cancellation("o-2", 1)]
    first = _fold([_refund("o-1", 0, 0), *other])
    assert first == _fold([*other, _refund("o-1", 0, 0)])


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (_order("o-1", 0, 900), _order("o-1", 0, 1_000)),
        (_order("o-1", 0, 1_000), _order("o-1", 3, 900)),
        (_order("o-1", 3, 1_000), _updated(_order("o-1", 0, 900), 1)),
        (_updated(_order("o-1", 0, 1_000), 1), _updated(_order("o-1", 0, 0), 2)),
        (_refund("o-1", 1, 100, "r"), _refund("o-1", 1, 200, "r")),
        (_cancellation("o-1", 1), _cancellation("o-1", 2)),
    ],
    ids=["amount", "time before amount", "updated_at", "down to nothing", "refund", "cancellation"],
)
def test_of_two_versions_of_an_event_the_newer_counts(older: Order, newer: Order) -> None:
    first = _fold([older])
    corrected = apply(first, newer)
    assert corrected.effect is apply(_fold([newer]), older).effect is Effect.CORRECTION
    assert corrected.state == _fold([newer, older])
    assert _days(corrected.state) == _days(_fold([newer]))


def test_refunds_of_one_order_are_told_apart_by_id_or_by_time_and_amount() -> None:
    order = _order("o-1", 0, 10_000)
    refunds = [
        _refund("o-1", 1, 1_500),
        _refund("o-1", 2, 1_500),
        _refund("o-1", 1, 3_500),
        _refund("o-1", 1, 3_500, "r-1"),
        _refund("o-1", 1, 3_500, "r-2"),
    ]
    state = _fold([order, *refunds])
    assert sum(refunded for *_, refunded in _days(state)) == 13_500
    assert all(apply(state, refund).effect is Effect.REPEAT for refund in refunds)
    corrected = apply(state, _refund("o-1", 1, 4_000, "r-1"))
    assert corrected.effect is Effect.CORRECTION
    assert sum(refunded for *_, refunded in _days(corrected.state)) == 14_000
    assert _days(_fold([_cancellation("o-1", 3)], corrected.state)) == []


def test_an_id_that_comes_again_long_after_is_told_from_a_correction() -> None:
    state = _fold([_order("0001", 0, 2_000)])
    later = _order("0001", 31, 2_500)
    assert apply(state, later).effect is Effect.ID_REUSED
    assert apply(state, _order("0001", 14, 2_500)).effect is Effect.CORRECTION
    assert apply(state, _updated(later, 1)).effect is Effect.CORRECTION


def test_a_free_order_is_no_purchase_until_it_is_paid() -> None:
    free = _order("o-1", 0, 0, OrderType.FREE)
    state = _fold([free])
    assert (_days(state), state.last_order_ms(), state.last_purchase_day) == ([], None, None)
    paid = apply(state, _order("o-1", 0, 900))
    assert (paid.effect, paid.known) == (Effect.CORRECTION, False)
    assert paid.state == _fold([_order("o-1", 0, 900), free])
    assert _days(paid.state) == [(START_MS // MS_PER_DAY, 1, 900, 0)]


def test_only_customers_with_refund_ids_or_updates_have_wide_records() -> None:
    plain = _fold([_order("o-1", 0), _refund("o-1", 1)])
    marked = _fold([_order("o-1", 0), _refund("o-1", 1, 1_000, "r-1")])
    assert len(marked.ledger) - len(plain.ledger) == 2 * 14
    assert _fold([_refund("o-1", 1, 1_000, "r-1"), _order("o-1", 0)]) == marked


def test_the_last_order_is_the_last_that_was_not_taken_back() -> None:
    kept, gone = _order("o-1", 0.5), _order("o-2", 8)
    events = [kept, gone, _cancellation("o-2", 9), _refund("o-1", 9.5, 10)]
    state = _fold(events)
    assert state.last_order_ms() == kept.ts_ms
    assert state.last_purchase_day == kept.ts_ms // MS_PER_DAY


def test_the_last_order_is_known_by_its_day_once_its_id_is_forgotten() -> None:
    state = _fold([_order("o-1", 0.5), _refund("r-1", 2_000)])
    assert state.last_purchase_day == START_MS // MS_PER_DAY
    assert state.last_order_ms() == START_MS


def test_an_empty_state_knows_nothing() -> None:
    assert EMPTY.newest_ms == -1
    assert EMPTY.last_order_ms() is None
    assert EMPTY.last_purchase_day is None


def test_an_event_older_than_the_memory_is_set_aside() -> None:
    newest = _order("o-2", _DEFAULT.days)
    state = _fold([newest])
    assert _beyond(state, _order("o-1", 0)) == START_MS
    just_in_time = Order("o-1", USER, START_MS + 1, 1_000)
    assert _beyond(state, just_in_time) is None


def test_an_event_older_than_a_full_ledger_is_set_aside() -> None:
    memory = IdMemory(size=3)
    state = _fold([_order(f"o-{day}", day) for day in range(0, 40, 10)], memory=memory)
    assert _beyond(state, _order("o-0", 0), memory) == START_MS
    assert _beyond(state, _order("new", 0), memory) == START_MS
    assert apply(state, _order("o-10", 10), memory).state is state
    assert _beyond(state, _order("new", 5), memory) is None


def test_a_customer_of_thousands_of_orders_at_one_instant_loses_none() -> None:
    days = [day for day in (0, 30, 60) for _ in range(1_500)]
    events = [_order(f"o-{number}", day) for number, day in enumerate(days)]
    state = _fold(events)
    assert sum(orders for _, orders, _, _ in _days(state)) == 4_500
    assert apply(state, events[-1]).effect is Effect.REPEAT
    # Of a month ago all are forgotten or none, so that none of them counts twice.
    assert _beyond(state, _order("new", 30)) == events[1_500].ts_ms
    assert ledger.size_of(state.ledger) == 1_500


def test_the_memory_of_one_customer_is_bounded_however_busy_it_is() -> None:
    entry = ledger.entry_of(_order("o", 0))
    whole = ledger.of(
        msgspec.structs.replace(entry, ts_ms=START_MS + number)
        for number in range(ledger.MAX_EVENTS + 5)
    )
    kept, forgotten_ms = ledger.bounded(whole, _DEFAULT)
    assert ledger.size_of(kept) == ledger.MAX_EVENTS
    assert forgotten_ms == START_MS + 4


def test_what_was_forgotten_is_not_counted_again_when_the_newest_event_moves_back() -> None:
    state = _fold([_order("o-1", 0), _order("o-2", 1_200), _updated(_order("o-2", 500), 1)])
    assert _beyond(state, _order("o-1", 0)) == START_MS


def test_forgotten_orders_still_count() -> None:
    memory = IdMemory(size=3)
    state = _fold([_order(f"o-{day}", day) for day in range(0, 100, 10)], memory=memory)
    assert len(_days(state)) == 10


@given(strategies.long_histories(), st.integers(1, 8))
def test_the_size_is_bounded(history: list[Order], size: int) -> None:
    memory = IdMemory(size=size)
    state = EMPTY
    for order in history:
        state = apply(state, order, memory).state
    recent = sum(
        state.newest_ms - order.ts_ms < ledger.RECENT_DAYS * MS_PER_DAY for order in history
    )
    assert ledger.size_of(state.ledger) <= max(size, recent)
    assert len(state.buckets) <= RECORD_BYTES * min(len(history), HISTORY_DAYS + 1)


def test_the_largest_state_is_one_of_daily_orders_for_years() -> None:
    state = _fold(_order(f"o-{i}", i / 2) for i in range(2 * (HISTORY_DAYS + 400)))
    assert ledger.size_of(state.ledger) == 1_000
    assert len(state.buckets) == RECORD_BYTES * (HISTORY_DAYS + 1)


@given(strategies.histories(max_days=1_000), strategies.histories(max_days=1_000))
def test_facts_of_different_events_differ(one: list[Order], other: list[Order]) -> None:
    assume(_days_of(twin_facts(one)) != _days_of(twin_facts(other)))
    assert _fold(one) != _fold(other)


def test_the_page_on_state_shows_what_is_measured() -> None:
    page = Path(__file__).parents[3] / "docs" / "state.md"
    assert state_size.table() in page.read_text(encoding="utf-8")
