"""The twin of `features.columns.rhythm`: one customer at a time, from the definitions, with plain
numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from features.columns.rhythm import Typical
from features.events.orders import Order
from tests.support.twins.facts import twin_facts

_MS_PER_DAY = 24 * 60 * 60 * 1000


def twin_rhythm(
    orders: Iterable[Order], as_of_ms: int, horizon: int, typical: Typical
) -> dict[str, float]:
    """Every column by name, of a customer with an order by then and within HISTORY_DAYS."""
    today = as_of_ms // _MS_PER_DAY
    days = {n: day for n, day in twin_facts(orders).days.items() if n <= today}
    bought = [n for n, day in days.items() if day.orders]
    first, last = bought[0], bought[-1]
    silence = today - last
    gaps = [b - a for a, b in pairwise(bought)]
    newest_first = gaps[::-1]
    repeats = len(bought) - 1
    known = repeats / (repeats + 3)
    share = silence / horizon

    weights = [0.5 ** (n / 8) for n in range(len(gaps))]
    total = sum(weights)
    mean = sum(w * math.log(g) for w, g in zip(weights, newest_first, strict=True))
    log_gap = (mean + 2 * typical.log_gap) / (total + 2)
    own = mean / total if total else 0.0
    scatter = sum(w * (math.log(g) - own) ** 2 for w, g in zip(weights, newest_first, strict=True))
    spread = math.sqrt((scatter + 2 * typical.gap_variance) / (total + 2))
    overdue = math.log(silence + 0.5) - log_gap
    surprise = -math.log(_normal(-min(overdue / spread, 8.0)))

    recent = newest_first[:32]
    longer = sum(_normal((math.log(g) - math.log(max(silence, 0.5))) / 0.35) for g in recent)
    survival = typical.survival[min(silence, len(typical.survival) - 1)]
    outlived = -math.log(max(longer + 1.5 * survival, 1e-12) / (len(recent) + 1.5))
    base = typical.log_gap
    median, long, longest = (
        math.log(_quantile(recent, q)) if recent else base + more
        for q, more in ((0.5, 0.0), (0.9, 0.7), (1.0, 1.0))
    )
    over_longest = max(math.log(silence + 0.5) - longest, 0.0)

    halves = (0.25, 0.5, 1, 2, 4)

    def faded(of: dict[int, float], half: float) -> float:
        return sum(v * 0.5 ** (max(last - n, 0) / (half * horizon)) for n, v in of.items())

    counts = [faded(dict.fromkeys(bought, 1.0), half) for half in halves]
    nets = {n: float(day.gross - day.refunded) for n, day in days.items()}
    spends = [max(faded(nets, half), 0.0) for half in halves]
    unit = typical.order_minor
    mean_order = max(sum(nets.values()), 0.0) / len(bought)
    one_time = float(len(bought) == 1)
    columns = {
        "silence": share,
        "silence_over_15": max(share - 0.15, 0),
        "silence_over_35": max(share - 0.35, 0),
        "silence_over_60": max(share - 0.6, 0),
        "log_silence": math.log((silence + 0.5) / horizon),
        "overdue": overdue,
        "overdue_over_0": max(overdue, 0),
        "overdue_over_07": max(overdue - 0.7, 0),
        "overdue_over_14": max(overdue - 1.4, 0),
        "overdue_known": max(overdue + 3, 0) * known,
        "surprise": surprise,
        "surprise_known": surprise * known,
        "outlived": outlived,
        "outlived_known": outlived * known,
        "over_median_gap": math.log(silence + 0.5) - median,
        "over_long_gap": math.log(silence + 0.5) - long,
        "over_longest_gap": over_longest,
        "over_longest_gap_known": over_longest * known,
        "one_time_silence": one_time * share,
        "one_time": one_time,
        "log_orders": math.log(len(bought)),
        "log_age": math.log(1 + last - first),
        "log_gap": log_gap - math.log(horizon),
        "gap_spread": spread,
        "last_gap": (math.log(gaps[-1]) if gaps else base) - log_gap,
        "mean_order": math.log(1 + mean_order / unit),
        "last_order": math.log((days[last].gross + 0.1 * unit) / (mean_order + 0.1 * unit)),
    }
    for half, count in zip(halves, counts, strict=True):
        columns[f"faded_{half:g}h"] = -math.log(count * 0.5 ** (share / half) + 0.03)
    for a, b in ((0, 2), (1, 3), (2, 4)):
        name = f"trend_{halves[a]:g}h_{halves[b]:g}h"
        columns[name] = math.log((counts[a] + 0.2) / (counts[b] + 0.2))
    for at in (1, 3):
        columns[f"spend_{halves[at]:g}h"] = math.log(1 + spends[at] / unit)
    return columns


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _quantile(values: list[int], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    return ordered[low] + (ordered[math.ceil(place)] - ordered[low]) * (place - low)
