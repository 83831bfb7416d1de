from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from streamer.pipeline.event_time import START, EventClock, decode, encode

BOUND_MS = 10
ORDERS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 100)), max_size=25)


def slow(orders: Sequence[tuple[str, int]]) -> list[int]:
    """Event time after each order, by everybody's newest order so far."""
    newest: dict[str, int] = {}
    found, high = [], -1
    for user, ts_ms in orders:
        first = not newest
        newest[user] = max(newest.get(user, -1), ts_ms)
        most, *others = sorted(newest.values(), reverse=True)
        other = max([*others, orders[0][1]])
        high = max(high, most if first else min(most, other + BOUND_MS))
        found.append(high)
    return found


def moved(orders: Sequence[tuple[str, int]], max_lead_ms: int | None = BOUND_MS) -> list[int]:
    clock = EventClock(START, max_lead_ms)
    return [clock.follow(user, ts_ms) for user, ts_ms in orders]


@given(ORDERS)
def test_event_time_is_that_of_everybodys_newest_orders(orders: list[tuple[str, int]]) -> None:
    assert moved(orders) == slow(orders)


@given(ORDERS, st.data())
def test_a_worker_that_takes_over_goes_on_where_event_time_stood(
    orders: list[tuple[str, int]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(orders)))
    first = EventClock(START, BOUND_MS)
    found = [first.follow(user, ts_ms) for user, ts_ms in orders[:cut]]
    then = EventClock(decode(first.now.ts_ms, encode(first.now)), BOUND_MS)
    assert found + [then.follow(user, ts_ms) for user, ts_ms in orders[cut:]] == moved(orders)


@given(ORDERS)
def test_nobody_alone_moves_event_time_beyond_the_bound(orders: list[tuple[str, int]]) -> None:
    orders = [("a", 0), ("b", 0), *orders]
    for alone in "abc":
        others = max(ts_ms for user, ts_ms in orders if user != alone)
        assert moved(orders)[-1] <= others + BOUND_MS


def test_who_is_ahead_of_everybody_is_counted_until_the_others_come() -> None:
    clock = EventClock(START, BOUND_MS)
    for user in ("a", "b"):
        clock.follow(user, 5)
    assert [clock.follow("a", at) for at in (15, 16, 99)] == [15, 15, 15]
    assert clock.held_back == 2
    assert clock.follow("b", 98) == 99


def test_without_a_bound_event_time_is_that_of_the_newest_order() -> None:
    assert moved([("a", 5), ("a", 99), ("b", 7)], None) == [5, 99, 99]


def test_what_was_stored_without_a_lead_counts_as_everybodys() -> None:
    for lead in (None, b"\xc1"):
        assert EventClock(decode(50, lead), BOUND_MS).follow("a", 99) == 60
    assert decode(None, None) == START
