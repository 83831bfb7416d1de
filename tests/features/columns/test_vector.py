"""The vector equals the twin's at every instant, and a row depends on its own customer alone."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.columns.vector import FEATURE_NAMES, FEATURE_VERSION, vectors
from features.events.orders import Order, OrderType
from features.facts.state import EMPTY, HISTORY_DAYS, CustomerState, apply
from features.times import MS_PER_DAY, UTC, calendar_of, wire_ms
from tests.support import strategies
from tests.support.fakes import facts_of
from tests.support.twins.facts import twin_vector, unlike

# Around the edges of the windows, and beyond all that is remembered day by day.
_LATER_DAYS = (0, 1, 6, 7, 29, 30, 89, 90, 364, 365, HISTORY_DAYS, HISTORY_DAYS + 1, 4_000)


def _named(state: CustomerState, as_of_ms: int) -> dict[str, float]:
    row = vectors([(state, as_of_ms)])[0]
    return dict(zip(FEATURE_NAMES, row.tolist(), strict=True))


@given(strategies.histories(), st.data())
def test_the_vector_equals_the_twins_at_every_prefix(
    history: list[Order], data: st.DataObject
) -> None:
    arrival = data.draw(strategies.arrivals(history))
    state = EMPTY
    for seen, order in enumerate(arrival, start=1):
        state = facts_of([order], state)
        as_of_ms = state.newest_ms
        assert not unlike(_named(state, as_of_ms), twin_vector(arrival[:seen], as_of_ms))


@given(strategies.histories())
def test_the_vector_equals_the_twins_long_after_the_last_event(history: list[Order]) -> None:
    state = facts_of(history)
    for days in _LATER_DAYS:
        as_of_ms = max(state.newest_ms, 0) + days * MS_PER_DAY
        assert not unlike(_named(state, as_of_ms), twin_vector(history, as_of_ms)), days


@given(strategies.long_histories(), st.sampled_from(_LATER_DAYS))
def test_the_vector_of_many_years_equals_the_twins(history: list[Order], later: int) -> None:
    state = facts_of(history)
    as_of_ms = state.newest_ms + later * MS_PER_DAY
    assert not unlike(_named(state, as_of_ms), twin_vector(history, as_of_ms))


@given(strategies.histories(), st.integers(0, 1_000))
def test_as_of_the_past_the_state_reads_as_it_was(history: list[Order], days: int) -> None:
    kept = [event for event in history if event.type is not OrderType.CANCELLATION]
    as_of_ms = strategies.START_MS + days * MS_PER_DAY
    end_of_day_ms = as_of_ms + MS_PER_DAY
    known: dict[tuple[str, OrderType], Order] = {}
    for event in kept:  # conflicting repeats would be corrections of the past
        known.setdefault((event.order_id, event.type), event)
    events = list(known.values())
    then = facts_of(event for event in events if event.ts_ms < end_of_day_ms)
    now = facts_of(events)
    assert vectors([(now, as_of_ms)]).tobytes() == vectors([(then, as_of_ms)]).tobytes()


_PAIRS = st.lists(
    st.tuples(
        st.one_of(strategies.histories(), strategies.long_histories()), st.integers(0, 5_000)
    ),
    min_size=1,
    max_size=6,
)


@given(_PAIRS, st.data())
def test_a_row_is_the_same_to_the_last_bit_alone_and_in_any_batch(
    customers: list[tuple[list[Order], int]], data: st.DataObject
) -> None:
    pairs = [
        (facts_of(history), strategies.START_MS + days * MS_PER_DAY) for history, days in customers
    ]
    alone = [vectors([pair])[0].tobytes() for pair in pairs]
    chosen = data.draw(st.lists(st.sampled_from(range(len(pairs))), min_size=1, max_size=20))
    together = vectors([pairs[i] for i in chosen])
    assert [row.tobytes() for row in together] == [alone[i] for i in chosen]


def test_a_row_is_the_same_in_a_batch_of_a_thousand() -> None:
    states = [
        facts_of(
            Order(f"o-{i}", "ada", strategies.START_MS + i * n * 977 % 900 * MS_PER_DAY, 100 + i)
            for i in range(n % 40)
        )
        for n in range(1_000)
    ]
    as_of_ms = strategies.START_MS + 900 * MS_PER_DAY
    together = vectors([(state, as_of_ms) for state in states])
    alone = np.concatenate([vectors([(state, as_of_ms)]) for state in states])
    assert together.tobytes() == alone.tobytes()


def test_no_feature_is_ever_missing_or_infinite() -> None:
    extreme = [
        Order("o-1", "ada", strategies.START_MS, 0),
        Order("o-2", "ada", strategies.START_MS, 10**13),
        Order("r-1", "ada", strategies.START_MS + 1, 10**13, OrderType.REFUND),
    ]
    for events in ([], extreme[:1], extreme[2:], extreme):
        state = facts_of(events)
        for days in (-5_000, 0, 5_000):
            row = vectors([(state, strategies.START_MS + days * MS_PER_DAY)])
            assert np.isfinite(row).all()


def test_no_customers_give_no_rows() -> None:
    assert vectors([]).shape == (0, len(FEATURE_NAMES))


def test_the_twin_knows_every_feature_and_no_other() -> None:
    assert set(twin_vector([], 0)) == set(FEATURE_NAMES)


def test_names_and_places_are_those_of_this_version() -> None:
    """They are part of every trained artifact. If this fails, raise FEATURE_VERSION with it."""
    assert FEATURE_VERSION == "1"
    assert ",".join(FEATURE_NAMES) == (
        "orders_7d,net_minor_7d,aov_minor_7d,orders_30d,net_minor_30d,aov_minor_30d,"
        "orders_90d,net_minor_90d,aov_minor_90d,orders_365d,net_minor_365d,aov_minor_365d,"
        "decayed_orders_15d,decayed_net_minor_15d,decayed_orders_45d,decayed_net_minor_45d,"
        "decayed_orders_120d,decayed_net_minor_120d,decayed_orders_360d,decayed_net_minor_360d,"
        "orders_lifetime,net_minor_lifetime,aov_minor_lifetime,refunded_share_lifetime,"
        "frequency,recency_days,T_days,monetary_value_minor,days_since_last_order,"
        "last_purchase_gross_minor,gap_mean_days,gap_std_days,silence_in_gaps,single_purchase,"
        "purchase_rate_per_day,orders_trend_30_90"
    )


@given(strategies.histories(), st.data(), st.sampled_from(["America/Los_Angeles", "Africa/Cairo"]))
def test_the_vector_in_the_shops_own_days_equals_the_twins(
    history: list[Order], data: st.DataObject, zone: str
) -> None:
    arrival, calendar = data.draw(strategies.arrivals(history)), calendar_of(zone)
    state = EMPTY
    for order in arrival:
        state = apply(state, order, calendar=calendar).state
    as_of_ms = max(state.newest_ms, 0) + data.draw(st.integers(0, 40 * MS_PER_DAY))
    row = vectors([(state, as_of_ms)], calendar)[0]
    named = dict(zip(FEATURE_NAMES, row.tolist(), strict=True))
    assert not unlike(named, twin_vector(arrival, as_of_ms, ZoneInfo(zone)))


def test_two_orders_of_one_evening_in_los_angeles_are_one_purchase() -> None:
    evening = [wire_ms(f"2024-01-{day}:00:00-08:00") for day in ("10T15", "10T17")]
    orders = [Order(f"o-{n}", "kim", ts_ms, 4_000) for n, ts_ms in enumerate(evening)]
    losangeles = calendar_of("America/Los_Angeles")
    for calendar, frequency in ((UTC, 1), (losangeles, 0)):
        state = EMPTY
        for order in orders:
            state = apply(state, order, calendar=calendar).state
        row = vectors([(state, evening[-1])], calendar)[0]
        assert row[FEATURE_NAMES.index("frequency")] == frequency
