"""Training rows: what was known at the snapshot, what came after it, and nothing later."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns.vector import FEATURE_NAMES, vectors
from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY, day_of
from model.data.training_rows import (
    TooLittleData,
    TrainingConfig,
    TrainingError,
    default_cutoff_day,
    population,
    snapshots,
    training_set,
)
from tests.support import modelling
from tests.support.fakes import by_time

_DAY = 20_000


def _order(
    order_id: str, day: float, amount: int, kind: OrderType = OrderType.ORDER, user: str = "ann"
) -> Order:
    return Order(order_id, user, int((_DAY + day) * MS_PER_DAY), amount, kind)


def _labels(*orders: Order, horizon: int = 10) -> tuple[float, bool]:
    """Revenue and churn of ann in the `horizon` days from _DAY on."""
    first = _order("first", -5, 1_000)
    (snapshot,) = snapshots(by_time([first, *orders]), [_DAY], horizon)
    at = snapshot.users.index("ann")
    return float(snapshot.labels.revenue_minor[at]), bool(snapshot.labels.churned[at])


def test_the_label_is_what_came_in_between_the_snapshot_and_the_horizon() -> None:
    assert _labels(
        _order("just before", -0.001, 1),
        _order("at once", 0, 20),
        _order("late", 9.999, 300),
        _order("too late", 10, 4_000),
    ) == (320, False)


def test_refunds_are_deducted_on_their_own_day_down_to_nothing() -> None:
    back = OrderType.REFUND
    assert _labels(_order("a", 1, 500), _order("a", 2, 200, back)) == (300, False)
    assert _labels(_order("a", 1, 500), _order("a", 11, 200, back)) == (500, False)
    assert _labels(_order("first", 2, 900, back)) == (0, True)


def test_a_cancellation_by_the_end_of_the_window_takes_the_order_back() -> None:
    gone = OrderType.CANCELLATION
    assert _labels(_order("a", 1, 500), _order("a", 9, 0, gone)) == (0, True)
    assert _labels(_order("a", 1, 500), _order("a", 10, 0, gone)) == (500, False)


def test_a_repeated_order_counts_once() -> None:
    assert _labels(_order("a", 1, 500), _order("a", 1, 500)) == (500, False)


def test_customers_are_all_with_an_order_before_the_snapshot_that_was_not_taken_back() -> None:
    log = by_time(
        [
            _order("a", -1, 1, user="before"),
            _order("b", 0, 1, user="after"),
            _order("c", -2, 1, user="cancelled"),
            _order("c", -1, 0, OrderType.CANCELLATION, user="cancelled"),
            _order("d", -2, 1, OrderType.REFUND, user="only refunded"),
        ]
    )
    (snapshot,) = snapshots(log, [_DAY], 10)
    assert snapshot.users == ["before"]


@settings(max_examples=15)
@given(st.data())
def test_no_feature_row_sees_the_future(data: st.DataObject) -> None:
    """Whatever happens from a snapshot on, its feature rows stay the same to the last bit."""
    log = modelling.orders()
    day = day_of(log[0].ts_ms) + data.draw(st.integers(40, 300))
    past = [order for order in log if order.ts_ms < day * MS_PER_DAY]
    users = sorted({order.user_id for order in past})
    future = [
        Order(f"new-{i}" if new else known.order_id, user, day * MS_PER_DAY + ms, amount, kind)
        for i, (new, user, known, ms, amount, kind) in enumerate(
            data.draw(
                st.lists(
                    st.tuples(
                        st.booleans(),
                        st.sampled_from(users),
                        st.sampled_from(past),
                        st.integers(0, 60 * MS_PER_DAY),
                        st.integers(0, 10**6),
                        st.sampled_from(OrderType),
                    ),
                    max_size=30,
                )
            )
        )
    ]
    (real,) = snapshots(log, [day], 60)
    (other,) = snapshots(past + by_time(future), [day], 60)
    assert real.users == other.users
    assert vectors(real.pairs).tobytes() == vectors(other.pairs).tobytes()
    assert population(log, day).tobytes() == population(past, day).tobytes()


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["ann", "bob", "cid"]),
        st.integers(-40 * MS_PER_DAY, 40 * MS_PER_DAY),
        st.integers(0, 100_000),
        st.sampled_from(OrderType),
    ),
    max_size=25,
)


@given(_EVENTS, st.lists(st.integers(-30, 20), min_size=1, max_size=4))
def test_every_row_is_what_a_log_that_ended_at_its_day_would_give(
    events: list[tuple[str, str, int, int, OrderType]], offsets: list[int]
) -> None:
    """Any mixture of orders, refunds and cancellations, repeated and contradicting ones too: rows
    taken in one pass over the log are those of a log cut off at 00:00 of each row's own day, and
    labels those of one cut off where the label window ends."""
    log = by_time(
        Order(order_id, user, _DAY * MS_PER_DAY + ms, amount, kind)
        for order_id, user, ms, amount, kind in events
    )
    for taken in snapshots(log, [_DAY + offset for offset in offsets], 10):
        then_ms = taken.day * MS_PER_DAY
        known = [order for order in log if order.ts_ms < then_ms]
        assert vectors(taken.pairs).tobytes() == population(known, taken.day).tobytes()
        seen = [order for order in log if order.ts_ms < then_ms + 10 * MS_PER_DAY]
        (alone,) = snapshots(seen, [taken.day], 10)
        assert alone.labels.revenue_minor.tolist() == taken.labels.revenue_minor.tolist()
        assert alone.labels.churned.tolist() == taken.labels.churned.tolist()


def test_no_state_that_gives_a_row_knows_an_event_of_its_day_or_later() -> None:
    log, cutoff = modelling.orders(), modelling.cutoff_day()
    for taken in snapshots(log, range(cutoff - 60, cutoff - 300, -30), 60):
        assert taken.states
        assert max(state.newest_ms for state in taken.states) < taken.day * MS_PER_DAY


def test_nothing_after_the_cutoff_changes_a_training_row_or_the_model() -> None:
    log, cutoff = modelling.orders(), modelling.cutoff_day()
    past = [order for order in log if order.ts_ms < cutoff * MS_PER_DAY]
    whole = training_set(log, modelling.CONFIG, cutoff)
    known = training_set(past, modelling.CONFIG, cutoff)
    assert whole.X.tobytes() == known.X.tobytes()
    assert whole.labels.revenue_minor.tobytes() == known.labels.revenue_minor.tobytes()
    assert whole.labels.churned.tobytes() == known.labels.churned.tobytes()


def test_every_label_window_ends_at_or_before_the_cutoff() -> None:
    rows = training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())
    days = sorted(set(rows.day.tolist()))
    assert days[-1] == modelling.cutoff_day() - modelling.CONFIG.horizon_days
    assert set(np.diff(days)) == {30}
    assert days[0] >= day_of(modelling.orders()[0].ts_ms) + 30
    assert rows.X.shape == (len(rows.day), len(FEATURE_NAMES))


def test_the_default_cutoff_leaves_a_whole_horizon() -> None:
    assert default_cutoff_day([_order("a", 0, 1), _order("b", 99.5, 1)], 90) == _DAY + 10


def test_a_large_shop_is_thinned_by_customer_and_not_by_row() -> None:
    config = TrainingConfig(horizon_days=60, snapshot_every_days=30, max_rows=600)
    whole = training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())
    thin = training_set(modelling.orders(), config, modelling.cutoff_day())
    assert len(thin.X) < len(whole.X) / 2
    assert sorted(set(thin.day.tolist())) == sorted(set(whole.day.tolist()))
    assert thin.customers < whole.customers / 2


def test_too_short_a_history_says_how_long_it_must_be() -> None:
    log = [_order(f"o{i}", i, 100, user=f"u{i}") for i in range(100)]
    with pytest.raises(
        TooLittleData, match=r"10 days before the cutoff \(100 in all\).* at least 120"
    ):
        training_set(log, TrainingConfig(), default_cutoff_day(log, 90))


def test_too_few_customers_say_how_many_are_needed() -> None:
    log = [_order(f"o{i}", i, 100, user=f"u{i % 5}") for i in range(400)]
    with pytest.raises(TooLittleData, match=r"before the cutoff: 5; at least 20 are needed"):
        training_set(log, TrainingConfig(), default_cutoff_day(log, 90))


def test_a_shop_where_nobody_comes_back_has_nothing_to_learn() -> None:
    log = [_order(f"o{i}", i, 100, user=f"u{i}") for i in range(400)]
    with pytest.raises(TooLittleData, match=r"everybody of .* training rows stopped"):
        training_set(log, TrainingConfig(), default_cutoff_day(log, 90))


def test_no_orders_at_all_say_so() -> None:
    with pytest.raises(TooLittleData, match="no orders"):
        default_cutoff_day([], 90)


@pytest.mark.parametrize("days", [0, 1_096])
def test_a_horizon_beyond_memory_is_refused(days: int) -> None:
    with pytest.raises(TrainingError, match="between 1 and 1095"):
        TrainingConfig(horizon_days=days)
