"""Whether a model still fits its shop: how far customers have drifted, and whether its level holds.

A customer's state can be read as of an earlier day, so the past is looked at in the states of now:
nothing is kept for it.

- **Drift**: the population stability index (PSI) of each feature and of the CLV, between those who
  bought in a window of seven days, each as of the end of the day of their first purchase in it, and
  the same kind of customers before the model's cutoff.
- **Level bias**: what the model expected of customers some weeks ago, over what they have brought
  since. How much of a CLV comes within so many days is taken from the time before the cutoff.

Both have thresholds that grow where there are few customers, so that chance alone rings about one
alarm in a hundred windows (`docs/monitoring.md` has what was measured).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from scipy.stats import chi2

from features.arrays import Floats, Ints
from features.columns.catalog import feature_of
from features.columns.table import BEFORE_COLUMNS, FactColumns
from features.columns.vector import FEATURE_NAMES, vectors_of
from features.facts.state import HISTORY_DAYS
from model.monitor.result import SCORE, Bias, Bins, Drift, DriftReference, Level

# CLVs, in minor units, of feature vectors and of whom they are (`Buyers.place`).
Rate = Callable[[Floats, Ints], Floats]

WINDOW_DAYS: Final = 7

# Windows with fewer customers than this are left alone.
MIN_CUSTOMERS: Final = 50
MAX_WINDOWS: Final = 52
# A common rule for PSI: below .1 nothing, from .25 on another population.
MATERIAL_PSI: Final = 0.25
# A level within this factor of the expected one is no alarm, however sure.
MATERIAL_BIAS: Final = 1.15
FALSE_ALARMS: Final = 0.01
_BINS: Final = 10
_TOP: Final = 99.0


@dataclass(frozen=True, slots=True)
class Buyers:
    """Customers who bought at some time: their place in the list that was asked about, and the day
    before which, in whole, each is looked at. Shapes (n,)."""

    place: Ints
    day: Ints


class Brought(NamedTuple):
    """What buyers were expected to bring (their CLV) and what they brought within some days, in
    minor units, and who they are: a number for each customer. Shapes (n,)."""

    who: Ints
    expected: Floats
    revenue: Floats


def buyers(facts: FactColumns, end_day: int) -> Buyers:
    """Who bought in the WINDOW_DAYS before 00:00 of `end_day`."""
    table = facts.everybody(end_day)
    inside = (table.age_days >= 1) & (table.age_days <= WINDOW_DAYS) & (table.orders > 0)
    # Rows come in order, and so do the days of one.
    place, first = np.unique(table.row[inside], return_index=True)
    return Buyers(place, table.day[inside][first] + 1)


def rows_of(facts: FactColumns, found: Buyers) -> Floats:
    """Feature vectors of the buyers, each as of the last instant before its own day: in states of
    later the day itself may have purchases."""
    return vectors_of(facts.at(found.place, found.day - 1))


def revenue_within(facts: FactColumns, found: Buyers, days: int) -> Floats:
    """Net revenue of each buyer in the `days` from its day on, at least 0, in minor units."""
    table = facts.at(found.place, found.day + days)
    inside = (table.age_days >= 1) & (table.age_days <= days)
    return np.maximum(table.sums((table.gross - table.refunded) * inside), 0.0)


def base(facts: FactColumns, day: int, base_days: int | None) -> Buyers:
    """Who had bought in the `base_days` before 00:00 of `day` (None: ever), all as of then."""
    table = facts.everybody(day - 1)
    if base_days is None:
        bought = table.sums(table.orders) + table.before[:, BEFORE_COLUMNS["orders"]] > 0
    else:
        bought = table.sums(table.orders * (table.age_days < base_days)) > 0
    place = np.flatnonzero(bought)
    return Buyers(place, np.full(len(place), day))


def brought(facts: FactColumns, day: int, days: int, base_days: int | None, rate: Rate) -> Brought:
    """What the base of a day was expected to bring, and did within `days` from it on."""
    found = base(facts, day, base_days)
    expected = rate(rows_of(facts, found), found.place)
    return Brought(found.place, expected, revenue_within(facts, found, days))


# --- the reference -------------------------------------------------------------------------------


def checks_of(horizon_days: int) -> list[int]:
    """After how many days a level is looked at: two and four weeks, and the whole horizon."""
    early = [days for days in (14, 28) if days < horizon_days]
    whole = [horizon_days] if horizon_days + WINDOW_DAYS < HISTORY_DAYS else []
    return early + whole


def reference_of(X: Floats, clv: Floats, windows: int, levels: Iterable[Level]) -> DriftReference:
    """The reference of the rows of all windows and of their CLVs (major units)."""
    bins = {name: bins_of(X[:, i]) for i, name in enumerate(FEATURE_NAMES)}
    return DriftReference(len(X), windows, bins | {SCORE: bins_of(clv)}, list(levels))


def bins_of(values: Floats) -> Bins:
    """The distribution of values, in tenths where they do not tie."""
    inner = np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1], method="higher")
    edges = np.unique(inner)
    # Below the lowest edge there must be somebody.
    edges = edges[edges > values.min()]
    return Bins(edges.tolist(), _shares(values, edges).tolist())


def level_of(days: int, base_days: int | None, windows: Sequence[Brought]) -> Level | None:
    """The level over days of the past; None where nobody brought anything, or should have."""
    if not windows:
        return None
    whole = Brought(*(np.concatenate(part) for part in zip(*windows, strict=True)))
    if not whole.expected.sum() or not whole.revenue.sum():
        return None
    raw = float(whole.revenue.sum() / whole.expected.sum())
    tops = [float(np.percentile(part, _TOP)) for part in (whole.expected, whole.revenue)]
    whole = _capped(whole, *tops)
    share = float(whole.revenue.sum() / whole.expected.sum())
    return Level(days, base_days, raw, share, _error(whole), *tops)


def _capped(one: Brought, top_clv: float, top_revenue: float) -> Brought:
    return Brought(one.who, np.minimum(one.expected, top_clv), np.minimum(one.revenue, top_revenue))


def _error(one: Brought) -> float:
    """Relative standard error of revenue / expected: of a ratio estimator, by linearisation, the
    customers as clusters (Cochran 1977, Sampling Techniques, 6.3 and 9A.2)."""
    share = one.revenue.sum() / one.expected.sum()
    residuals = np.bincount(one.who, one.revenue - share * one.expected)
    return float(np.sqrt(np.sum(residuals**2)) / one.revenue.sum())


# --- a window against the reference --------------------------------------------------------------


def psi(values: Floats, reference: Bins) -> float:
    """Population stability index; 0 for equal shares. `values` of shape (n,), n >= 1.

    sum of (q - p) ln(q / p) over the bins, q and p the shares, half a customer added to each bin so
    that none is empty (Siddiqi 2006, Credit Risk Scorecards).
    """
    edges, p = np.asarray(reference.edges), np.asarray(reference.shares)
    n = len(values)
    half = 0.5 / n
    q = (_shares(values, edges) + half) / (1 + half * len(p))
    p = (p + half) / (1 + half * len(p))
    return float(np.sum((q - p) * np.log(q / p)))


def psi_threshold(customers: int, reference_rows: int, bins: int, chance: float) -> float:
    """The PSI that chance alone exceeds with probability `chance`.

    Without drift PSI is distributed about as (1/n + 1/m) times chi-squared with bins - 1 degrees of
    freedom (Yurdakul & Naranjo 2020, "Statistical properties of the population stability index").
    """
    return float(chi2.isf(chance, bins - 1)) * (1 / customers + 1 / reference_rows)


def drifts(X: Floats, clv: Floats, reference: DriftReference) -> list[Drift]:
    """The drift of every feature and of the CLV (major units), in a window with customers enough.

    All of them together ring by chance in FALSE_ALARMS of the windows.
    """
    n = len(X)
    columns = {name: X[:, i] for i, name in enumerate(FEATURE_NAMES)} | {SCORE: clv}
    known = {name: bins for name, bins in reference.bins.items() if bins.edges and name in columns}
    chance = FALSE_ALARMS / max(len(known), 1)
    return [
        Drift(
            name,
            psi(columns[name], bins),
            None
            if feature_of(name).ages
            else max(MATERIAL_PSI, psi_threshold(n, reference.rows, len(bins.shares), chance)),
        )
        for name, bins in known.items()
    ]


def bias_of(one: Brought, level: Level, day: str, checks: int) -> Bias | None:
    """How far the level of a window is off; None where nobody brought anything, or should have.

    `checks`: how many levels are looked at beside one another.
    """
    if not one.revenue.sum() or not one.expected.sum():
        return None
    raw = float(one.expected.sum() * level.raw_share / one.revenue.sum())
    one = _capped(one, level.top_clv, level.top_revenue)
    typical = float(one.expected.sum() * level.share / one.revenue.sum())
    sure = NormalDist().inv_cdf(1 - FALSE_ALARMS / checks / 2)
    limit = math.log(MATERIAL_BIAS) + sure * math.hypot(_error(one), level.error)
    n = len(one.revenue)
    return Bias(level.days, day, n, raw, typical, math.exp(-limit), math.exp(limit))


def _shares(values: Floats, edges: Floats | Sequence[float]) -> Floats:
    """The share of values in each bin."""
    place = np.searchsorted(np.asarray(edges, np.float64), values, side="right")
    counts = np.bincount(place, minlength=len(edges) + 1)
    return np.asarray(counts / max(len(values), 1), np.float64)
