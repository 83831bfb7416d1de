"""The twin: what the features must be, recomputed from all events at once.

Slow and obvious on purpose. It is written from the definitions and shares nothing with `features`
but the event type and the constants, so a fault in the fold, the summary of old days or the NumPy
columns cannot repeat itself here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from itertools import pairwise

from features.columns.catalog import HALF_LIVES_DAYS, WINDOWS_DAYS
from features.events.orders import Order, OrderType
from features.facts.state import HISTORY_DAYS


@dataclass
class Day:
    """One day of a customer; money in minor units."""

    orders: int = 0
    gross: int = 0
    refunded: int = 0


@dataclass(frozen=True)
class Facts:
    """What a customer's events amount to. `days` holds the days on which something counts."""

    days: dict[int, Day]
    newest_ms: int
    last_order_ms: int | None


def identity(order: Order) -> tuple[object, ...]:
    """What two versions of one event have in common."""
    if order.type is not OrderType.REFUND:
        return order.order_id, "cancellation" if order.type is OrderType.CANCELLATION else "order"
    if order.refund_id:
        return order.order_id, "refund", order.refund_id
    return order.order_id, "refund", order.ts_ms, order.amount_minor


def distinct(orders: Iterable[Order]) -> list[Order]:
    """Each event once, in its newest version: by `updated_at`, then by the greater time, amount."""
    versions: dict[tuple[object, ...], list[Order]] = {}
    for order in orders:
        versions.setdefault(identity(order), []).append(order)
    return [
        max(found, key=lambda order: (order.updated_ms, order.ts_ms, order.amount_minor))
        for found in versions.values()
    ]


def twin_facts(orders: Iterable[Order], zone: tzinfo = UTC) -> Facts:
    """The facts of one customer's events, in any order and repeated at will, by days of a zone."""
    events = distinct(orders)
    cancelled = {e.order_id for e in events if e.type is OrderType.CANCELLATION}
    counted = [e for e in events if e.order_id not in cancelled]
    days: dict[int, Day] = {}
    for event in counted:
        day = days.setdefault(local_day(event.ts_ms, zone), Day())
        if event.type is OrderType.ORDER:
            day.orders += 1
            day.gross += event.amount_minor
        elif event.type is OrderType.REFUND:
            day.refunded += event.amount_minor
    return Facts(
        days={number: day for number, day in sorted(days.items()) if day != Day()},
        newest_ms=max((e.ts_ms for e in events), default=-1),
        last_order_ms=max((e.ts_ms for e in counted if e.type is OrderType.ORDER), default=None),
    )


def local_day(ts_ms: int, zone: tzinfo) -> int:
    """The day on the wall calendar of a zone, counted from 1970-01-01."""
    seconds, ms = divmod(ts_ms, 1000)
    when = datetime.fromtimestamp(seconds, zone).replace(microsecond=1000 * ms)
    return (when.date() - date(1970, 1, 1)).days


def twin_vector(orders: Iterable[Order], as_of_ms: int, zone: tzinfo = UTC) -> dict[str, float]:
    """Every feature by name as of an instant, from all events of one customer.

    Days after that of `as_of` are not seen. What a cancellation took back is gone from the past.
    """
    today = local_day(as_of_ms, zone)
    days = {n: day for n, day in twin_facts(orders, zone).days.items() if n <= today}
    features = _windows(days, today) | _decayed(days, today) | _lifetime(days)
    features |= _purchases(days, today)
    return features | _trends(features)


def _windows(days: dict[int, Day], today: int) -> dict[str, float]:
    features: dict[str, float] = {}
    for width in WINDOWS_DAYS:
        inside = [day for n, day in days.items() if today - n < width]
        orders = sum(day.orders for day in inside)
        gross = sum(day.gross for day in inside)
        features[f"orders_{width}d"] = orders
        features[f"net_minor_{width}d"] = gross - sum(day.refunded for day in inside)
        features[f"aov_minor_{width}d"] = gross / orders if orders else 0.0
    return features


def _decayed(days: dict[int, Day], today: int) -> dict[str, float]:
    remembered = {n: day for n, day in days.items() if today - n <= HISTORY_DAYS}
    features: dict[str, float] = {}
    for half_life in HALF_LIVES_DAYS:
        weight = {n: 0.5 ** ((today - n) / half_life) for n in remembered}
        features[f"decayed_orders_{half_life}d"] = math.fsum(
            weight[n] * day.orders for n, day in remembered.items()
        )
        features[f"decayed_net_minor_{half_life}d"] = math.fsum(
            weight[n] * (day.gross - day.refunded) for n, day in remembered.items()
        )
    return features


def _lifetime(days: dict[int, Day]) -> dict[str, float]:
    orders = sum(day.orders for day in days.values())
    gross = sum(day.gross for day in days.values())
    refunded = sum(day.refunded for day in days.values())
    return {
        "orders_lifetime": orders,
        "net_minor_lifetime": gross - refunded,
        "aov_minor_lifetime": gross / orders if orders else 0.0,
        "refunded_share_lifetime": min(1.0, refunded / gross if gross else refunded),
    }


def _purchases(days: dict[int, Day], today: int) -> dict[str, float]:
    bought = [(n, day.gross) for n, day in sorted(days.items()) if day.orders]
    if not bought:
        return dict.fromkeys(_PURCHASE_FEATURES, 0.0)
    first, last = bought[0][0], bought[-1][0]
    repeats = [gross for _, gross in bought[1:]]
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(bought)]
    mean = sum(gaps) / len(gaps) if gaps else 0.0
    squares = math.fsum((gap - mean) ** 2 for gap in gaps)
    values = (
        len(repeats),
        last - first,
        today - first,
        sum(repeats) / len(repeats) if repeats else 0.0,
        today - last,
        bought[-1][1],
        mean,
        math.sqrt(squares / len(gaps)) if gaps else 0.0,
        len(bought) == 1,
    )
    return dict(zip(_PURCHASE_FEATURES, values, strict=True))


_PURCHASE_FEATURES = (
    "frequency",
    "recency_days",
    "T_days",
    "monetary_value_minor",
    "days_since_last_order",
    "last_purchase_gross_minor",
    "gap_mean_days",
    "gap_std_days",
    "single_purchase",
)


def _trends(known: dict[str, float]) -> dict[str, float]:
    gap = known["gap_mean_days"]
    return {
        "silence_in_gaps": known["days_since_last_order"] / gap if gap else 0.0,
        "purchase_rate_per_day": known["frequency"] / max(known["T_days"], 1),
        "orders_trend_30_90": (known["orders_30d"] + 1) / (known["orders_90d"] / 3 + 1),
    }


def unlike(actual: Mapping[str, float], expected: Mapping[str, float]) -> dict[str, object]:
    """The features that are not what the twin expects, as (actual, expected) by name; {} if none.

    Counts, days and sums of money must be equal; only quotients and decayed sums may round.
    """
    names = actual.keys() | expected.keys()
    pairs = {name: (actual.get(name), expected.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if not _alike(name, *pair)}


def _alike(name: str, actual: float | None, expected: float | None) -> bool:
    if actual is None or expected is None:
        return False
    if not name.startswith(_ROUNDED):
        return actual == expected
    # Orders and refunds of 1e11 minor units may cancel out but for their rounding.
    slack = 1e-3 if name.startswith("decayed_net_minor") else 1e-9
    return math.isclose(actual, expected, rel_tol=1e-9, abs_tol=slack)


_ROUNDED: tuple[str, ...] = ("aov_", "decayed_", "refunded_share", "monetary_value", "gap_")
_ROUNDED += ("silence_in_gaps", "purchase_rate", "orders_trend")
