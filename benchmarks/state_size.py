"""Bytes that are kept for a customer: the table of docs/state.md.

    python -m benchmarks.state_size

Method: a customer's orders, evenly spread over a span that ends on the last day, are folded one by
one with the default id memory; the size is that of `encode(state)`. A tenth of the orders is
refunded on the day after. No sampling and no timing: the same numbers on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator

from features.events.orders import Order, OrderType
from features.facts.state import EMPTY, CustomerState, Effect, apply, encode
from features.times import MS_PER_DAY

ORDERS = (1, 10, 100, 1_000, 10_000)
SPANS_DAYS = (30, 365, 3 * 365, 10 * 365)
_LAST_MS = 20_500 * MS_PER_DAY


def events(orders: int, span_days: int) -> Iterator[Order]:
    """The customer's events in the order of their time."""
    refunds: list[Order] = []
    for number in range(orders):
        ts_ms = _LAST_MS - span_days * MS_PER_DAY * (orders - 1 - number) // orders
        while refunds and refunds[0].ts_ms <= ts_ms:
            yield refunds.pop(0)
        order = Order(f"order-{number}", "customer", ts_ms, 4_999)
        yield order
        if number % 10 == 9:
            next_day_ms = ts_ms + MS_PER_DAY
            refunds.append(Order(order.order_id, "customer", next_day_ms, 4_999, OrderType.REFUND))
    yield from refunds


def state_of(orders: int, span_days: int) -> CustomerState:
    """The state after all of the customer's events."""
    state = EMPTY
    for event in events(orders, span_days):
        applied = apply(state, event)
        if applied.effect is not Effect.NEW:
            raise RuntimeError(f"{event} is not new: events() must go forward in time")
        state = applied.state
    return state


def table() -> str:
    """Bytes by number of orders and span, in Markdown."""
    spans = " | ".join(f"over {days:,} days" for days in SPANS_DAYS)
    lines = [f"| orders | {spans} |", "| ---: |" + " ---: |" * len(SPANS_DAYS)]
    for orders in ORDERS:
        sizes = " | ".join(f"{len(encode(state_of(orders, days))):,}" for days in SPANS_DAYS)
        lines.append(f"| {orders:,} | {sizes} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
