"""Whom a run's warnings would have you call on a past day, held against simple sorts of orders.

All lists choose among the same customers and are equally long: a tenth of the half that spent most
among those who ordered within the horizon before the day, or as many of them as were warned of.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY, day_of, instant_ms, iso_day
from model.backtest.purchases import purchase_days
from model.data.training_rows import known_states
from model.decide.policy import Policy
from model.decide.scoring import Scorer
from model.judge.budget import weights
from streamer.pipeline.messages import ChurnWarning


@dataclass(frozen=True, slots=True)
class CalledList:
    """The customers of a list, most pressing first; `left`: who of them ordered nothing in the
    horizon from the day on, and what those had spent in the horizon before it, in minor units."""

    by: str
    customers: tuple[str, ...]
    left: frozenset[str]
    lost_minor: int


@dataclass(frozen=True, slots=True)
class CallLists:
    """The lists of 00:00 UTC of a day: by the warnings and by simple sorts. `warnings`: the one
    that stood then of each customer of `ours`; `lost_minor`: what everybody to choose among who
    left had spent."""

    day: str
    ours: CalledList
    simple: tuple[CalledList, ...]
    warnings: Mapping[str, ChurnWarning]
    lost_minor: int


def call_lists(
    warnings: Sequence[ChurnWarning],
    orders: Sequence[Order],
    day: int,
    by: Scorer,
) -> CallLists | None:
    """The lists of a day, by what was known then; `orders` sorted by event time, with a horizon of
    them after it. `by` ranks as a budget does on that day. None where no warning stands."""
    horizon_days = by.horizon_days
    known = orders[: bisect_left(orders, day * MS_PER_DAY, key=_ts_ms)]
    days = {u: d for u, d in purchase_days(known).items() if d[-1] >= day - horizon_days}
    taken_back = {o.order_id for o in known if o.type is OrderType.CANCELLATION}
    spent: Counter[str] = Counter()
    for order in known[bisect_left(known, (day - horizon_days) * MS_PER_DAY, key=_ts_ms) :]:
        if order.order_id not in taken_back:
            back = order.type is OrderType.REFUND
            spent[order.user_id] += -order.amount_minor if back else order.amount_minor
    better = sorted(days, key=lambda user: (-spent[user], user))[: (len(days) + 1) // 2]
    # An order since has answered a warning.
    standing = {
        warning.user_id: warning
        for warning in sorted(warnings, key=lambda warning: warning.as_of)
        if days.get(warning.user_id, [day])[-1] < day_of(instant_ms(warning.as_of)) <= day
    }
    warned = [user for user in better if user in standing]
    if not warned:
        return None
    length = min(-(-len(better) // 10), len(warned))
    states = known_states([order for order in known if order.user_id in standing], day)
    scores = by.scores([(states[user], day * MS_PER_DAY) for user in warned], warned)
    ranked = weights(
        [score.churn_probability for score in scores],
        [float(max(spent[user], 0)) for user in warned],
        by.rules(Policy()).money,
    )
    after = purchase_days(orders)

    def called(by: str, users: Sequence[str], pressing: Sequence[float]) -> CalledList:
        order = np.argsort(-np.asarray(pressing), kind="stable")[:length]
        customers = tuple(users[at] for at in order)
        left = frozenset(u for u in customers if not _orders(after.get(u, ()), day, horizon_days))
        return CalledList(by, customers, left, sum(spent[user] for user in left))

    silent = [day - days[user][-1] for user in better]
    gaps = [float(np.median(np.diff(days[u]))) if len(days[u]) > 1 else np.inf for u in better]
    ours = called("warnings", warned, ranked)
    simple = (
        called("longest silence", better, silent),
        called("silence in own usual gaps", better, np.divide(silent, gaps).tolist()),
        called("fewest orders", better, [-len(days[user]) for user in better]),
        called("largest spend", better, [spent[user] for user in better]),
    )
    lost = sum(spent[u] for u in better if not _orders(after.get(u, ()), day, horizon_days))
    named = {user: standing[user] for user in ours.customers}
    return CallLists(iso_day(day), ours, simple, named, lost)


def _ts_ms(order: Order) -> int:
    return order.ts_ms


def _orders(days: Sequence[int], day: int, horizon_days: int) -> bool:
    """Whether one of the days, ascending, lies within the horizon from a day on."""
    at = bisect_left(days, day)
    return at < len(days) and days[at] < day + horizon_days
