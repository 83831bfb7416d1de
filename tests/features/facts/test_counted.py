from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from features.events.orders import Order, OrderType
from features.facts import ledger
from features.facts.buckets import RECORD_BYTES, Bucket, read, record
from features.facts.counted import NO_DAY, counted, counted_all, uneven_day
from features.facts.ledger import IdMemory
from features.facts.state import EMPTY, CustomerState, apply
from features.times import MS_PER_DAY, calendar_of

TOKYO = calendar_of("Asia/Tokyo")
NOW_DAY = 20_000
NOW_MS = NOW_DAY * MS_PER_DAY


@st.composite
def events(draw: st.DrawFn) -> Order:
    unit_ms = draw(st.sampled_from([1, 1_000, 60_000, MS_PER_DAY]))
    days = draw(st.sampled_from([1, 30, 400, 1_500]))
    ago_ms = draw(st.integers(0, days * MS_PER_DAY))
    kind = draw(st.sampled_from([OrderType.ORDER] * 5 + [OrderType.REFUND, OrderType.CANCELLATION]))
    marked = draw(st.sampled_from([False] * 9 + [True]))
    refund = "r1" if marked and kind is OrderType.REFUND else ""
    return Order(
        f"o{draw(st.integers(0, 12))}",
        "ann",
        (NOW_MS - ago_ms) // unit_ms * unit_ms,
        draw(st.sampled_from([0, 1, 127, 128, 4_999, 10**11, 2**50])),
        kind,
        refund_id=refund,
        updated_ms=NOW_MS if marked else -1,
    )


@st.composite
def customers(draw: st.DrawFn) -> CustomerState:
    memory = draw(st.sampled_from([IdMemory(), IdMemory(days=30, size=3)]))
    state = EMPTY
    for event in draw(st.lists(events(), max_size=9)):
        state = apply(state, event, memory, TOKYO).state
    return state


def read_all(buckets: bytes) -> list[Bucket]:
    return [read(buckets, at) for at in range(0, len(buckets), RECORD_BYTES)]


@given(customers(), st.integers(NOW_DAY - 1_500, NOW_DAY + 1))
def test_later_days_are_what_the_events_make(state: CustomerState, day: int) -> None:
    uneven = uneven_day(state.buckets, state.ledger)
    made, events = read_all(state.buckets), ledger.entries(state.ledger)
    assert counted(events, uneven) == [one for one in made if one.day > uneven]
    if uneven != NO_DAY:
        assert counted(events, uneven - 1) != [one for one in made if one.day >= uneven]
    # Wherever it is looked from, what follows it fits.
    assert day < uneven or counted(events, day) == [one for one in made if one.day > day]


@given(st.lists(customers(), max_size=12), st.integers(NOW_DAY - 1_500, NOW_DAY + 1))
def test_many_ledgers_make_what_each_does(states: list[CustomerState], day: int) -> None:
    after = [uneven_day(one.buckets, one.ledger) for one in states]
    after[::2] = [day] * len(after[::2])
    row, found = counted_all([one.ledger for one in states], np.array(after, np.int64))
    for place, state in enumerate(states):
        alone = counted(ledger.entries(state.ledger), after[place])
        assert read_all(found[row == place].tobytes()) == alone


@given(customers(), events(), st.integers(0, 3))
def test_a_newer_order_leaves_the_uneven_day(state: CustomerState, order: Order, days: int) -> None:
    ts_ms = max(state.newest_ms, order.ts_ms) + days * MS_PER_DAY + 1
    newer = replace(order, order_id="new", ts_ms=ts_ms, type=OrderType.ORDER)
    narrow = replace(newer, updated_ms=-1, refund_id="")
    after = apply(state, narrow, IdMemory(), TOKYO).state
    if after.forgotten_ms == state.forgotten_ms and after.before == state.before:
        uneven = uneven_day(state.buckets, state.ledger)
        assert uneven_day(after.buckets, after.ledger) == uneven


def test_days_that_went_back_are_all_kept() -> None:
    first = ledger.Entry(b"one-----", NOW_MS, OrderType.ORDER, 5, shift=1)
    second = ledger.Entry(b"two-----", NOW_MS + 1, OrderType.ORDER, 5, shift=0)
    buckets = b"".join(record(one.day, 1, 5, 0) for one in (second, first))
    assert uneven_day(buckets, ledger.of([first, second])) == first.day
