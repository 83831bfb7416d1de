"""Hypothesis strategies: a partition's log, with several customers and everything that goes wrong
on the way there."""

from __future__ import annotations

from hypothesis import strategies as st

from features.events.orders import Order
from features.times import MS_PER_DAY
from model.decide.policy import Policy
from tests.support.fakes import HOUR_MS, renamed
from tests.support.strategies import histories

_MOST_MINOR = 10**11
USERS = ("ada", "ben", "cleo")
_DELAYS_MS = st.sampled_from([0, 0, 0, 0, 1, HOUR_MS, MS_PER_DAY, 3 * MS_PER_DAY, 90 * MS_PER_DAY])

LATENESSES_MS = st.sampled_from([0, HOUR_MS, 2 * MS_PER_DAY])


@st.composite
def shop_logs(draw: st.DrawFn, max_orders: int = 7, max_days: int = 400) -> list[Order]:
    """Orders of three customers as they arrive: refunds and cancellations before and after their
    orders, some events late by an instant or by months, some twice."""
    arriving: list[tuple[int, int, Order]] = []
    for user in USERS:
        for order in renamed(draw(histories(max_orders, max_days)), user):
            if order.amount_minor > _MOST_MINOR:
                continue  # no order, on the wire
            arriving.append((order.ts_ms + draw(_DELAYS_MS), len(arriving), order))
            if draw(st.integers(0, 5)) == 0:
                arriving.append((order.ts_ms + draw(_DELAYS_MS), len(arriving), order))
    return [order for _, _, order in sorted(arriving, key=lambda entry: entry[:2])]


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies with any floor, with and without one-time buyers."""
    return Policy(
        floor_percentile=draw(st.sampled_from([0.0, 70.0, 100.0])),
        min_orders=draw(st.sampled_from([1, 1, 2])),
        early=draw(st.sampled_from([0.1, 0.5, 0.9])),
    )
