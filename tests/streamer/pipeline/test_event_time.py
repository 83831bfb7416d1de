from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.times import MS_PER_DAY
from streamer.pipeline.event_time import MAX_LEAD_MS, START, EventClock, decode, encode

Orders = Sequence[tuple[str, int]]

BOUND_MS = 10
CUSTOMERS, USUAL_GAPS, FEW = 32, 15, 15
ORDERS = st.lists(
    st.tuples(
        st.sampled_from([f"user-{n}" for n in range(40)]),
        st.one_of(st.integers(0, 100), st.integers(0, 5_000), st.sampled_from([7, 4_000])),
    ),
    max_size=90,
)
NEAR = st.lists(
    st.tuples(st.sampled_from([f"user-{n}" for n in range(40)]), st.integers(0, BOUND_MS)),
    max_size=90,
)


def slow(orders: Orders) -> list[int]:
    """Event time after each order, from all that came before it, as the module's text has it."""
    found, high = [], -1
    for count in range(1, len(orders) + 1):
        last: dict[str, int] = {}
        for user, ts_ms in reversed(orders[:count]):
            if len(last) < CUSTOMERS:
                last.setdefault(user, ts_ms)
        if len(last) > 1:
            high = max(high, agreed(sorted(last.values())))
        found.append(high)
    return found


def agreed(times: list[int]) -> int:
    third = len(times) // 3
    parts = [times] if len(times) < FEW else [times[: third + 1], times[third:]]
    wide = BOUND_MS + USUAL_GAPS * min(usual(part) for part in parts)
    for at in range(third, len(times) - 1):
        if times[at + 1] - times[at] > wide and times[-1] - times[third] > BOUND_MS:
            return times[at] + BOUND_MS
    return times[-1]


def usual(times: list[int]) -> float:
    gaps = sorted(b - a for a, b in pairwise(times))
    return sum(gaps[:-1]) / len(gaps[:-1]) if len(gaps) > 1 else 0.0


def moved(orders: Orders, max_lead_ms: int | None = BOUND_MS) -> list[int]:
    clock = EventClock(START, max_lead_ms)
    return [clock.follow(user, ts_ms) for user, ts_ms in orders]


@given(ORDERS)
def test_event_time_is_what_two_thirds_of_the_last_customers_agree_on(
    orders: list[tuple[str, int]],
) -> None:
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


@given(ORDERS | NEAR, st.data(), st.sampled_from([None, BOUND_MS, 100]))
def test_orders_followed_together_move_event_time_as_one_by_one(
    orders: list[tuple[str, int]], data: st.DataObject, max_lead_ms: int | None
) -> None:
    one_by_one, together = EventClock(START, max_lead_ms), EventClock(START, max_lead_ms)
    while orders:
        count = data.draw(st.integers(1, len(orders)))
        users, times = zip(*orders[:count], strict=True)
        found = [one_by_one.follow(user, ts_ms) for user, ts_ms in orders[:count]]
        assert together.follow_all(users, times) == found
        assert together.now == one_by_one.now
        assert together.held_back == one_by_one.held_back
        orders = orders[count:]


def shop(seed: int, per_day: float, customers: int, count: int) -> Iterator[tuple[str, int]]:
    """Orders as they come, none of them wrong."""
    chance, now_ms = random.Random(seed), 1_700_000_000_000
    for _ in range(count):
        now_ms += int(chance.expovariate(per_day) * MS_PER_DAY)
        yield f"user-{chance.randrange(customers)}", now_ms


@pytest.mark.parametrize("lead_days", [40, 90, 400])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("per_day", [2.0, 30.0, 1000.0])
@pytest.mark.parametrize("at_once", [1, 5])
def test_wrong_clocks_of_a_minority_move_event_time_by_a_day(
    per_day: float, share: float, lead_days: int, at_once: int
) -> None:
    """A desk with its own customers, whose orders come singly or a few at once."""
    chance, clock = random.Random(7), EventClock(START, MAX_LEAD_MS)
    newest_ms = 0
    for user, ts_ms in shop(3, per_day, 2_000, 1_200):
        newest_ms = ts_ms
        clock.follow(user, ts_ms)
        if chance.random() < share / (1 - share) / at_once:
            for _ in range(at_once):
                desk = f"desk-{chance.randrange(300)}"
                clock.follow(desk, ts_ms + lead_days * MS_PER_DAY)
        assert clock.high_ms <= newest_ms + MAX_LEAD_MS


@pytest.mark.parametrize("wrong", [1, 3, 10])
def test_where_wrong_orders_lie_far_apart_they_are_no_ladder(wrong: int) -> None:
    """Typing errors: each a few weeks ahead of the other."""
    orders = list(shop(5, 20, 500, 400))
    typed = [(f"typo-{n}", orders[200][1] + (n + 1) * 30 * MS_PER_DAY) for n in range(wrong)]
    found = moved([*orders[:200], *typed, *orders[200:]], MAX_LEAD_MS)
    assert found[200 + wrong - 1] <= orders[199][1] + MAX_LEAD_MS
    assert found[-1] == orders[-1][1]


def test_who_comes_first_is_not_believed_before_others_came() -> None:
    assert moved([("desk", 9_000), ("ada", 5), ("ben", 6), ("cid", 7)]) == [-1, 15, 16, 17]


@pytest.mark.parametrize(
    ("per_day", "customers"), [(0.3, 1_000), (1, 60), (5, 20), (5, 1_000), (100, 8)]
)
def test_a_log_in_event_time_moves_it_as_though_there_were_no_bound(
    per_day: float, customers: int
) -> None:
    orders = list(shop(11, per_day, customers, 2_000))
    different = sum(
        one != two for one, two in zip(moved(orders, MAX_LEAD_MS), moved(orders, None), strict=True)
    )
    assert different <= 0.03 * len(orders)


def test_after_a_pause_of_all_it_goes_on_when_two_thirds_have_come() -> None:
    day = [(f"user-{n}", n) for n in range(CUSTOMERS)]
    later = [(f"user-{n}", 10_000 + n) for n in range(CUSTOMERS)]
    found = moved([*day, *later])[CUSTOMERS:]
    assert found[:20] == [CUSTOMERS - 1 + BOUND_MS] * 20
    assert found[-1] == later[-1][1]


def test_who_is_ahead_is_counted_until_the_others_come() -> None:
    clock = EventClock(START, BOUND_MS)
    for user in ("a", "b"):
        clock.follow(user, 5)
    assert [clock.follow("a", at) for at in (15, 16, 99)] == [15, 15, 15]
    assert clock.held_back == 2
    assert clock.follow("b", 98) == 99


def test_without_a_bound_event_time_is_that_of_the_newest_order() -> None:
    assert moved([("a", 5), ("a", 99), ("b", 7)], None) == [5, 99, 99]


def test_what_a_version_before_stored_counts_as_an_order_of_somebody() -> None:
    for lead in (None, b"\xc1", b"\x93\x32\xc4\x01a\x32"):
        assert EventClock(decode(50, lead), BOUND_MS).follow("a", 99) == 60
    assert decode(None, None) == START
