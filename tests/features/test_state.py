"""The facts are a commutative fold: what is known decides, not how it came in."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks import state_size
from features import buckets as day_buckets
from features.ledger import IdMemory
from features.orders import Order, OrderType
from features.state import (
    EMPTY,
    HISTORY_DAYS,
    STATE_VERSION,
    BeyondMemory,
    CustomerState,
    StateError,
    apply,
    decode,
    encode,
)
from features.times import MS_PER_DAY
from tests.support import strategies
from tests.support.strategies import START_MS, USER
from tests.support.twin import Facts, twin_facts

_DEFAULT = IdMemory()


def _order(
    order_id: str, day: float, amount: int = 1_000, kind: OrderType = OrderType.ORDER
) -> Order:
    return Order(order_id, USER, START_MS + round(day * MS_PER_DAY), amount, kind)


def _refund(order_id: str, day: float, amount: int = 1_000) -> Order:
    return _order(order_id, day, amount, OrderType.REFUND)


def _cancellation(order_id: str, day: float) -> Order:
    return _order(order_id, day, 0, OrderType.CANCELLATION)


def _fold(
    orders: Iterable[Order], state: CustomerState = EMPTY, memory: IdMemory = _DEFAULT
) -> CustomerState:
    """The state after all orders, none of which may come in too late."""
    for order in orders:
        after = apply(state, order, memory)
        assert isinstance(after, CustomerState), (order, after)
        state = after
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
    assert encode(_fold(arrival)) == encode(_fold(history))


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
        assert state.last_order_ms == expected.last_order_ms


@given(strategies.histories(), st.data())
def test_how_events_fall_into_batches_leaves_no_trace(
    history: list[Order], data: st.DataObject
) -> None:
    stored = encode(EMPTY)
    for batch in data.draw(strategies.batches(history)):
        stored = encode(_fold(batch, decode(stored)))
    assert stored == encode(_fold(history))


@given(strategies.histories())
def test_a_repeat_returns_the_very_same_state(history: list[Order]) -> None:
    state = _fold(history)
    for order in history:
        assert apply(state, order) is state


@given(strategies.long_histories(), st.randoms(use_true_random=False))
def test_years_of_orders_may_come_in_late_but_within_memory(
    history: list[Order], shuffle: random.Random
) -> None:
    late = sorted(history, key=lambda order: order.ts_ms + shuffle.uniform(0, 1_000) * MS_PER_DAY)
    assert encode(_fold(late)) == encode(_fold(history))


@given(strategies.long_histories(), st.integers(1, 6), st.integers(1, 1_095), st.data())
def test_a_short_memory_counts_nothing_twice(
    history: list[Order], size: int, days: int, data: st.DataObject
) -> None:
    memory = IdMemory(days, size)
    counted: list[Order] = []
    state = EMPTY
    for order in data.draw(strategies.arrivals(history)):
        after = apply(state, order, memory)
        if isinstance(after, CustomerState) and after is not state:
            counted.append(order)
            state = after
    assert len(counted) == len({(order.order_id, order.type) for order in counted})
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
    assert state.last_order_ms is None
    assert state.newest_ms == cancellation.ts_ms


def test_a_cancelled_orders_refund_counts_for_nothing() -> None:
    events = [_order("o-1", 0), _refund("o-1", 2), _cancellation("o-1", 1)]
    assert _days(_fold(events)) == []


def test_a_refund_without_a_known_order_counts() -> None:
    assert _days(_fold([_refund("r-1", 0, 700)])) == [(START_MS // MS_PER_DAY, 0, 0, 700)]


def test_a_refund_of_nothing_leaves_no_day_behind() -> None:
    other = [_order("o-2", 0), _cancellation("o-2", 1)]
    first = _fold([_refund("o-1", 0, 0), *other])
    assert encode(first) == encode(_fold([*other, _refund("o-1", 0, 0)]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_order("o-1", 0, 900), _order("o-1", 0, 1_000)),
        (_order("o-1", 0, 1_000), _order("o-1", 3, 900)),
        (_refund("o-1", 1, 100), _refund("o-1", 1, 200)),
    ],
    ids=["amount", "time before amount", "refund"],
)
def test_of_two_events_in_conflict_the_smaller_counts(one: Order, other: Order) -> None:
    assert _fold([one, other]) == _fold([other, one]) == _fold([one])


def test_the_last_order_is_the_last_that_was_not_taken_back() -> None:
    kept, gone = _order("o-1", 0.5), _order("o-2", 8)
    events = [kept, gone, _cancellation("o-2", 9), _refund("o-1", 9.5, 10)]
    state = _fold(events)
    assert state.last_order_ms == kept.ts_ms
    assert state.last_purchase_day == kept.ts_ms // MS_PER_DAY


def test_the_last_order_is_known_by_its_day_once_its_id_is_forgotten() -> None:
    state = _fold([_order("o-1", 0.5), _refund("r-1", 2_000)])
    assert state.last_purchase_day == START_MS // MS_PER_DAY
    assert state.last_order_ms == START_MS


def test_an_empty_state_knows_nothing() -> None:
    assert EMPTY.newest_ms == -1
    assert EMPTY.last_order_ms is None
    assert EMPTY.last_purchase_day is None


def test_an_event_older_than_the_memory_is_set_aside() -> None:
    newest = _order("o-2", _DEFAULT.days)
    state = _fold([newest])
    too_late = apply(state, _order("o-1", 0))
    assert too_late == BeyondMemory(START_MS)
    just_in_time = Order("o-1", USER, START_MS + 1, 1_000)
    assert isinstance(apply(state, just_in_time), CustomerState)


def test_an_event_older_than_a_full_ledger_is_set_aside() -> None:
    memory = IdMemory(size=3)
    state = _fold([_order(f"o-{day}", day) for day in range(4)], memory=memory)
    assert apply(state, _order("o-0", 0), memory) == BeyondMemory(START_MS)
    assert apply(state, _order("new", 0), memory) == BeyondMemory(START_MS)
    assert apply(state, _order("o-1", 1), memory) is state
    assert isinstance(apply(state, _order("new", 0.5), memory), CustomerState)


def test_what_was_forgotten_is_not_counted_again_when_the_newest_event_moves_back() -> None:
    state = _fold([_order("o-1", 0), _order("o-2", 1_200), _order("o-2", 500)])
    assert apply(state, _order("o-1", 0)) == BeyondMemory(START_MS)


def test_forgotten_orders_still_count() -> None:
    memory = IdMemory(size=3)
    state = _fold([_order(f"o-{day}", day) for day in range(10)], memory=memory)
    assert len(_days(state)) == 10


@given(strategies.long_histories(), st.integers(1, 8))
def test_the_size_is_bounded(history: list[Order], size: int) -> None:
    memory = IdMemory(size=size)
    state = EMPTY
    for order in history:
        after = apply(state, order, memory)
        state = state if isinstance(after, BeyondMemory) else after
    days = min(len(history), HISTORY_DAYS + 1)
    assert len(encode(state)) <= 18 + 64 + 24 * size + 24 * days


def test_the_largest_state_is_one_of_daily_orders_for_years() -> None:
    state = _fold(_order(f"o-{i}", i / 2) for i in range(2 * (HISTORY_DAYS + 400)))
    assert len(encode(state)) == 18 + 64 + 24 * 1_000 + 24 * (HISTORY_DAYS + 1)


@given(st.one_of(strategies.histories(), strategies.long_histories()))
def test_decode_gives_back_what_was_encoded(history: list[Order]) -> None:
    state = _fold(history)
    assert decode(encode(state)) == state
    assert encode(decode(encode(state))) == encode(state)


def test_a_newer_version_is_refused() -> None:
    data = bytes([STATE_VERSION + 1]) + encode(EMPTY)[1:]
    with pytest.raises(StateError, match="newer"):
        decode(data)


@given(strategies.long_histories(), st.data())
def test_a_state_cut_short_or_run_on_is_refused(history: list[Order], data: st.DataObject) -> None:
    whole = encode(_fold(history))
    cut = data.draw(st.integers(0, len(whole) - 1))
    extra = data.draw(st.binary(min_size=1, max_size=30))
    for damaged in (whole[:cut], whole + extra):
        with pytest.raises(StateError):
            decode(damaged)


@given(st.binary(max_size=120))
def test_foreign_bytes_raise_nothing_but_a_state_error(data: bytes) -> None:
    try:
        state = decode(data)
    except StateError:
        return
    assert len(encode(state)) <= len(data)


@pytest.mark.parametrize("data", [b"", b"\x00" * 18, b"\x01\x02" + b"\x00" * 16, b"{}", b"null"])
def test_what_no_version_wrote_is_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        decode(data)


@given(strategies.histories(max_days=1_000), strategies.histories(max_days=1_000))
def test_facts_of_different_events_differ(one: list[Order], other: list[Order]) -> None:
    assume(_days_of(twin_facts(one)) != _days_of(twin_facts(other)))
    assert encode(_fold(one)) != encode(_fold(other))


def test_the_page_on_state_shows_what_is_measured() -> None:
    page = Path(__file__).parents[2] / "docs" / "state.md"
    assert state_size.table() in page.read_text(encoding="utf-8")
