from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderType
from features.facts.ledger import IdMemory
from features.facts.packed import pack, unpack
from features.facts.packed_many import pack_all, unpack_all
from features.facts.state import (
    EMPTY,
    CustomerState,
    StateError,
    StateNewer,
    apply,
    decode,
    encode,
)
from features.times import MS_PER_DAY, calendar_of

TOKYO = calendar_of("Asia/Tokyo")
NOW_MS = 20_000 * MS_PER_DAY


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


@given(st.lists(customers(), max_size=12))
def test_facts_come_back_as_they_were_alone_and_many_together(
    states: Sequence[CustomerState],
) -> None:
    alone = [pack(state) for state in states]
    assert [unpack(data) for data in alone] == list(states)
    many = 24  # from so many on as arrays
    assert pack_all([*states] * many) == alone * many
    assert unpack_all(alone * many) == [*states] * many


def test_ten_orders_take_a_third_of_what_they_did() -> None:
    state = EMPTY
    for number in range(10):
        ts_ms = NOW_MS + number * 37 * MS_PER_DAY + number * 12_345_678
        state = apply(state, Order(f"o{number}", "ann", ts_ms, 2_000 + number)).state
    assert (len(pack(state)), len(encode(state))) == (168, 498)


def test_what_the_version_before_wrote_is_read() -> None:
    state = apply(EMPTY, Order("o", "ann", NOW_MS, 5)).state
    assert unpack(encode(state)) == decode(encode(state)) == state


def test_facts_with_a_negative_number_are_stored_as_before() -> None:
    state = apply(EMPTY, Order("o", "ann", NOW_MS, -5)).state
    assert pack(state) == encode(state)
    assert pack_all([state] * 30) == [encode(state)] * 30


def test_the_facts_of_a_newer_version_are_told_from_damage() -> None:
    with pytest.raises(StateNewer):
        unpack(b"\x04whatever it has")
    assert isinstance(unpack_all([b"\x04"] * 30)[3], StateNewer)


@given(st.data())
def test_damage_never_raises_anything_else(data: st.DataObject) -> None:
    whole = pack(data.draw(customers()))
    at = data.draw(st.integers(2, len(whole)))
    for bad in (whole[:at], whole[:at] + data.draw(st.binary(max_size=20))):
        try:
            unpack(bad)
        except StateError:
            continue
    found = unpack_all([whole[:at]] * 20 + [whole] * 20)
    assert found[20:] == [unpack(whole)] * 20
