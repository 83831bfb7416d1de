"""Hypothesis strategies: what a shop's orders look like on a bad day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st

from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY

T = TypeVar("T")

# For what is cheap to try.
wide = settings(max_examples=4 * settings().max_examples)

USER = "ada"
START_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z, the first day of every history
_DAYS_AHEAD = st.one_of(st.integers(0, 3), st.integers(0, 60), st.integers(0, 400))
_TIME_OF_DAY_MS = st.one_of(st.sampled_from([0, 1, MS_PER_DAY - 1]), st.integers(0, MS_PER_DAY - 1))
_AMOUNTS_MINOR = st.one_of(st.just(0), st.integers(1, 50_000), st.just(10**11))


@st.composite
def histories(draw: st.DrawFn, max_orders: int = 12, max_days: int = 1_000) -> list[Order]:
    """One customer's events in the order of their orders: several orders a day, refunds (several
    an order, with ids and without) and cancellations with or without an order, zero amounts, and
    repeats that are the same or corrections, with `updated_at` and without.

    The default span lies within the id memory and HISTORY_DAYS, so that no arrival is too late.
    """
    events: list[Order] = []
    day = 0
    for number in range(draw(st.integers(0, max_orders))):
        day = min(day + draw(_DAYS_AHEAD), max_days)
        order = Order(
            f"order-{number}",
            USER,
            START_MS + day * MS_PER_DAY + draw(_TIME_OF_DAY_MS),
            draw(_AMOUNTS_MINOR),
            updated_ms=draw(_UPDATED_MS),
        )
        kinds = draw(st.sampled_from(_FATES))
        events += [_follow_up(draw, order, kind, max_days) for kind in kinds]
    return events + [_repeat(draw, event) for event in events if draw(st.integers(0, 4)) == 0]


# What becomes of an order: mostly nothing; now and then its follow-up comes without it.
_ORDER, _REFUND, _CANCELLATION = OrderType.ORDER, OrderType.REFUND, OrderType.CANCELLATION
_FATES: tuple[tuple[OrderType, ...], ...] = (
    *[(_ORDER,)] * 4,
    (_ORDER, _REFUND),
    (_ORDER, _REFUND, _REFUND, _REFUND),
    (_ORDER, _CANCELLATION),
    (_ORDER, _REFUND, _CANCELLATION),
    (_REFUND,),
    (_CANCELLATION,),
)


def _follow_up(draw: st.DrawFn, order: Order, kind: OrderType, max_days: int) -> Order:
    if kind is OrderType.ORDER:
        return order
    latest_ms = START_MS + (max_days + 1) * MS_PER_DAY - 1
    ts_ms = min(order.ts_ms + draw(st.integers(0, 30 * MS_PER_DAY)), latest_ms)
    amount = draw(st.one_of(st.just(order.amount_minor), st.integers(0, order.amount_minor)))
    refund_id = draw(_REFUND_IDS) if kind is OrderType.REFUND else ""
    return Order(order.order_id, USER, ts_ms, amount, kind, refund_id)


_REFUND_IDS = st.sampled_from(["", "", "r-1", "r-2"])
_UPDATED_MS = st.one_of(st.just(-1), st.just(-1), st.integers(START_MS, START_MS + 3))


def _repeat(draw: st.DrawFn, event: Order) -> Order:
    """The event again: the same, or a correction of its amount or of its time."""
    ts_ms = max(START_MS, event.ts_ms + draw(st.sampled_from([0, 0, -1, 1, -MS_PER_DAY])))
    amount = max(0, event.amount_minor + draw(st.sampled_from([0, 0, -1, 1])))
    if event.type is OrderType.FREE:
        amount = 0
    return msgspec.structs.replace(
        event, ts_ms=ts_ms, amount_minor=amount, updated_ms=draw(_UPDATED_MS)
    )


@st.composite
def arrivals(draw: st.DrawFn, events: Sequence[Order]) -> list[Order]:
    """The events as they may arrive: in any order, some of them more than once."""
    again = draw(st.lists(st.sampled_from(list(events)), max_size=5)) if events else []
    return list(draw(st.permutations([*events, *again])))


@st.composite
def batches(draw: st.DrawFn, items: Sequence[T]) -> list[list[T]]:
    """The items cut into batches, in their order; some batches may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(items)), max_size=4)))
    return [list(items[a:b]) for a, b in zip([0, *cuts], [*cuts, len(items)], strict=True)]


@st.composite
def long_histories(draw: st.DrawFn) -> list[Order]:
    """Orders and refunds of up to fifteen years, oldest first: most days end up in the summary."""
    events: list[Order] = []
    day = 0
    for number in range(draw(st.integers(1, 25))):
        day += draw(st.integers(0, 500))
        ts_ms = START_MS + day * MS_PER_DAY + draw(_TIME_OF_DAY_MS)
        kind = draw(st.sampled_from([OrderType.ORDER] * 4 + [OrderType.REFUND]))
        events.append(Order(f"order-{number}", USER, ts_ms, draw(_AMOUNTS_MINOR), kind))
    return sorted(events, key=lambda event: event.ts_ms)
