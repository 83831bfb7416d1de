"""What a customer's silence says: columns for P(churn) and P(an order soon), as of any day.

Every length is a share of the horizon or of the customer's own gaps between purchase days, so that
the same columns fit any horizon and any rhythm. All of them come from the day buckets; columns are
computed for all rows at once, and each row depends on its own customer alone, to the last bit.

Columns in `RISING` never fall while nothing happens; the others, in `STEADY`, change with an event
only. So a model whose coefficients on the first are not negative never falls in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from scipy.special import log_ndtr, ndtr

from features.arrays import Bools, Floats, Ints
from features.columns.table import BEFORE_COLUMNS, BucketTable

# Gaps that the kernel and the quantiles look at, newest first; weights of the mean halve every 8.
MAX_GAPS: Final = 32
_HALVED_EVERY: Final = 8
# So many gaps of the typical customer count beside a customer's own.
_PRIOR_GAPS: Final = 2.0
_KERNEL_WIDTH: Final = 0.35
_KERNEL_PRIOR: Final = 1.5
# Half-lives of the decayed sums, as shares of the horizon.
_HALF_LIVES: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
_TRENDS: Final = ((0, 2), (1, 3), (2, 4))
_SPENDS: Final = (1, 3)
_FLOOR: Final = 0.03
_NOTHING: Final = np.empty(0)

RISING: Final = (
    "silence",
    "silence_over_15",
    "silence_over_35",
    "silence_over_60",
    "log_silence",
    "overdue",
    "overdue_over_0",
    "overdue_over_07",
    "overdue_over_14",
    "overdue_known",
    "surprise",
    "surprise_known",
    "outlived",
    "outlived_known",
    "over_median_gap",
    "over_long_gap",
    "over_longest_gap",
    "over_longest_gap_known",
    *(f"faded_{share:g}h" for share in _HALF_LIVES),
    "one_time_silence",
)
STEADY: Final = (
    "one_time",
    "log_orders",
    "log_age",
    "log_gap",
    "gap_spread",
    "last_gap",
    *(f"trend_{_HALF_LIVES[a]:g}h_{_HALF_LIVES[b]:g}h" for a, b in _TRENDS),
    *(f"spend_{_HALF_LIVES[at]:g}h" for at in _SPENDS),
    "mean_order",
    "last_order",
)
RHYTHM_NAMES: Final = RISING + STEADY

GROUPS: Final = ("silence", "own rhythm", "orders", "money")
"""What P(churn) is explained by: how long nothing has come, how that compares with the customer's
own gaps, how often and since when they have bought, and for how much."""
_OF_GROUP: Final = {
    "silence": RISING[:5],
    "own rhythm": (*RISING[5:18], "log_gap", "gap_spread", "last_gap"),
    "money": (*(f"spend_{_HALF_LIVES[at]:g}h" for at in _SPENDS), "mean_order", "last_order"),
}
GROUP_OF: Final = dict.fromkeys(RHYTHM_NAMES, "orders") | {
    name: group for group, names in _OF_GROUP.items() for name in names
}


class Typical(msgspec.Struct, frozen=True):
    """What is known of the customers of a shop, for those of whom little is.

    `log_gap`: mean logarithm of a gap in days; `gap_variance`: of that logarithm, within customers;
    `order_minor`: a median day's net revenue; `survival`: share of gaps longer than so many days,
    from 0 on.
    """

    log_gap: float
    gap_variance: float
    order_minor: float
    survival: tuple[float, ...]


class Gaps(NamedTuple):
    """Gaps between purchase days in days, by row and newest last. `age`: how many newer ones the
    row has; `number`: of each row."""

    row: Ints
    days: Ints
    age: Ints
    number: Ints


class _Parts(NamedTuple):
    """Where each row's values lie in an array of all rows' one after another: the rows that have
    any (a slice where all do), and where theirs begin."""

    rows: int
    has: Bools | slice
    start: Ints

    @classmethod
    def of(cls, number: Ints) -> _Parts:
        """Of so many values for each row."""
        has, start = number > 0, np.cumsum(number) - number
        return (
            cls(len(number), slice(None), start) if has.all() else cls(len(number), has, start[has])
        )

    def sums(self, values: Ints | Floats) -> Floats:
        """The sum of each row's values, shape (rows,). Each is added up by itself, whatever is
        around it."""
        found = np.zeros(self.rows)
        if len(values):
            found[self.has] = np.add.reduceat(values, self.start)
        return found


class _Days(NamedTuple):
    """Purchase days of a table, by row and then day, with their gross revenue; `number`: of each
    row, `first`: where each that has any begins; `net`: net revenue of all buckets, `parts`: whose
    they are."""

    row: Ints
    day: Ints
    gross: Ints
    number: Ints
    first: Ints
    net: Ints
    parts: _Parts


def _days_of(table: BucketTable) -> _Days:
    row, day, gross = table.row, table.day, table.gross
    bought = table.orders > 0
    number = np.bincount(row, minlength=table.rows)
    parts = _Parts.of(number)
    # Refunds come on days of their own seldom.
    if not bought.all():
        row, day, gross = row[bought], day[bought], gross[bought]
        number = np.bincount(row, minlength=table.rows)
    first = (np.cumsum(number) - number)[number > 0]
    return _Days(row, day, gross, number, first, table.gross - table.refunded, parts)


def gaps_of(table: BucketTable) -> Gaps:
    """The gaps of every row of a table, those between days that are summarised left out."""
    return _gaps(table, _days_of(table))


def _gaps(table: BucketTable, days: _Days) -> Gaps:
    row, first = days.row, days.first
    gaps = np.empty(len(row), np.int64)
    np.subtract(days.day[1:], days.day[:-1], out=gaps[1:])
    before = table.before[row[first]]
    gaps[first] = days.day[first] - before[:, BEFORE_COLUMNS["last_day"]]
    known = np.ones(len(row), bool)
    known[first] = before[:, BEFORE_COLUMNS["purchase_days"]] > 0
    row, gaps = row[known], gaps[known]
    count = np.bincount(row, minlength=table.rows)
    age = np.repeat(np.cumsum(count), count) - np.arange(1, len(row) + 1)
    return Gaps(row, gaps, age, count)


def rhythm(
    table: BucketTable,
    silent_days: Ints | None,
    horizon_days: int,
    typical: Typical,
    of: Ints | None = None,
) -> Floats:
    """The columns of n customer-days, shape (n, len(RHYTHM_NAMES)).

    `of`, shape (n,): whose of the table's rows each is of; None: one of each. `silent_days`, shape
    (n,): for how long the customer has been silent; None: from the last purchase to the table's
    day. Buckets after the last purchase day count as refunds. A row without a purchase has numbers
    that mean nothing.
    """
    if not table.rows:
        return np.empty((0, len(RHYTHM_NAMES)))
    days = _days_of(table)
    bought = _bought(table, days)
    if silent_days is None:
        silent_days = table.as_of_day - bought.last_day
    silence = np.maximum(silent_days, 0).astype(np.float64)
    pace = _pace(_gaps(table, days), typical)
    orders, spends = _faded(table, days, bought.last_day, horizon_days)
    steady = _steady(bought, pace, orders, spends, horizon_days, typical)
    number, quantiles = bought.number, _quantiles(pace.newest, typical)
    if of is not None:
        steady, orders, quantiles = (
            [each.take(of) for each in part] for part in (steady, orders, quantiles)
        )
        number, pace = number.take(of), pace.of(of)
    rising = _rising(silence, number, pace, quantiles, orders, horizon_days, typical)
    return np.column_stack((*rising, *steady))


class _Bought(NamedTuple):
    """What each row bought: number of purchase days, the first and last of them, and money by
    order, of all and of the last day."""

    number: Ints
    first_day: Ints
    last_day: Ints
    mean_order: Floats
    last_order: Floats


class _Pace(NamedTuple):
    """How each row's gaps are spread, in logarithms of days; `log_days` are those of `newest`."""

    log_gap: Floats
    spread: Floats
    last_gap: Floats
    newest: Gaps
    log_days: Floats

    def of(self, rows: Ints) -> _Pace:
        """That of each of some rows, which may come more than once."""
        newest = self.newest
        number = newest.number.take(rows)
        end = np.cumsum(number)
        start = np.cumsum(newest.number)[rows] - end
        place = np.arange(len(rows) and end[-1]) + np.repeat(start, number)
        row = np.repeat(np.arange(len(rows)), number)
        gaps = Gaps(row, newest.days.take(place), newest.age.take(place), number)
        log_gap, spread, last_gap = (
            part.take(rows) for part in (self.log_gap, self.spread, self.last_gap)
        )
        return _Pace(log_gap, spread, last_gap, gaps, self.log_days.take(place))


def _bought(table: BucketTable, days: _Days) -> _Bought:
    before = {name: table.before[:, i] for name, i in BEFORE_COLUMNS.items()}
    number = np.maximum(days.number + before["purchase_days"], 1)
    has = days.number > 0
    last = days.first + days.number[has] - 1
    last_day, first_day = before["last_day"].copy(), before["first_day"].copy()
    last_day[has] = days.day[last]
    first_day[has] = np.where(
        before["purchase_days"][has] == 0, days.day[days.first], first_day[has]
    )
    net = days.parts.sums(days.net) + before["gross"] - before["refunded"]
    last_order = before["last_day_gross"].astype(np.float64)
    last_order[has] = days.gross[last]
    mean_order = np.maximum(net, 0.0) / number
    return _Bought(number, first_day, last_day, mean_order, last_order)


def _pace(gaps: Gaps, typical: Typical) -> _Pace:
    # Days and ages are whole: looked up, a logarithm or power of each is computed once.
    parts = _Parts.of(gaps.number)
    log_days = np.log(np.maximum(np.arange(gaps.days.max(initial=0) + 1), 1)).take(gaps.days)
    weight = (0.5 ** (np.arange(gaps.age.max(initial=0) + 1) / _HALVED_EVERY)).take(gaps.age)
    total = parts.sums(weight)
    weighted = np.multiply(weight, log_days, out=weight)
    first_moment = parts.sums(weighted)
    second_moment = parts.sums(np.multiply(weighted, log_days, out=weighted))
    scatter = np.maximum(second_moment - first_moment**2 / np.maximum(total, 1e-9), 0.0)
    log_gap = (first_moment + _PRIOR_GAPS * typical.log_gap) / (total + _PRIOR_GAPS)
    spread = np.sqrt((scatter + _PRIOR_GAPS * typical.gap_variance) / (total + _PRIOR_GAPS))
    last_gap = np.full(len(gaps.number), typical.log_gap)
    has = gaps.number > 0
    last_gap[has] = log_days[np.cumsum(gaps.number)[has] - 1]
    recent = np.flatnonzero(gaps.age < MAX_GAPS)
    number = np.minimum(gaps.number, MAX_GAPS)
    newest = Gaps(gaps.row.take(recent), gaps.days.take(recent), gaps.age.take(recent), number)
    return _Pace(log_gap, spread, last_gap, newest, log_days.take(recent))


def _faded(
    table: BucketTable, days: _Days, last_day: Ints, horizon_days: int
) -> tuple[list[Floats], list[Floats]]:
    """Purchase days and net revenue, by half-life faded up to the last purchase day."""
    age = np.maximum(last_day.take(table.row) - table.day, 0)
    alike = len(days.row) == len(table.row)
    # Each half-life is half of the one after it: its weights are the squares of those.
    ages = np.arange(age.max(initial=0) + 1)
    weight = (0.5 ** (ages / (_HALF_LIVES[-1] * horizon_days))).take(age)
    orders, spends = [], []
    for at in reversed(range(len(_HALF_LIVES))):
        orders.append(days.parts.sums(weight if alike else weight * (table.orders > 0)))
        spent = days.parts.sums(weight * days.net) if at in _SPENDS else _NOTHING
        spends.append(np.maximum(spent, 0.0))
        np.multiply(weight, weight, out=weight)
    return orders[::-1], spends[::-1]


def _rising(
    silence: Floats,
    number: Ints,
    pace: _Pace,
    quantiles: Sequence[Floats],
    orders: Sequence[Floats],
    horizon_days: int,
    typical: Typical,
) -> tuple[Floats, ...]:
    """The columns of `RISING`."""
    share = silence / horizon_days
    log_silence = np.log(silence + 0.5)
    repeats = (number - 1).astype(np.float64)
    known = repeats / (repeats + 3.0)
    overdue = log_silence - pace.log_gap
    surprise = -log_ndtr(-np.minimum(overdue / pace.spread, 8.0))
    outlived = _outlived(pace.newest, pace.log_days, silence, typical)
    median, long, longest = quantiles
    over_longest = np.maximum(log_silence - longest, 0.0)
    faded = [
        -np.log(count * 0.5 ** (silence / (part * horizon_days)) + _FLOOR)
        for count, part in zip(orders, _HALF_LIVES, strict=True)
    ]
    return (
        share,
        np.maximum(share - 0.15, 0.0),
        np.maximum(share - 0.35, 0.0),
        np.maximum(share - 0.6, 0.0),
        log_silence - np.log(horizon_days),
        overdue,
        np.maximum(overdue, 0.0),
        np.maximum(overdue - 0.7, 0.0),
        np.maximum(overdue - 1.4, 0.0),
        np.maximum(overdue + 3.0, 0.0) * known,
        surprise,
        surprise * known,
        outlived,
        outlived * known,
        log_silence - median,
        log_silence - long,
        over_longest,
        over_longest * known,
        *faded,
        (number == 1).astype(np.float64) * share,
    )


def _steady(
    bought: _Bought,
    pace: _Pace,
    orders: Sequence[Floats],
    spends: Sequence[Floats],
    horizon_days: int,
    typical: Typical,
) -> Sequence[Floats]:
    """The columns of `STEADY`."""
    mean_order, unit = bought.mean_order, typical.order_minor
    return (
        (bought.number == 1).astype(np.float64),
        np.log(bought.number),
        np.log1p(np.maximum(bought.last_day - bought.first_day, 0)),
        pace.log_gap - np.log(horizon_days),
        pace.spread,
        pace.last_gap - pace.log_gap,
        *(np.log((orders[a] + 0.2) / (orders[b] + 0.2)) for a, b in _TRENDS),
        *(np.log1p(spends[at] / unit) for at in _SPENDS),
        np.log1p(mean_order / unit),
        np.log((bought.last_order + 0.1 * unit) / (mean_order + 0.1 * unit)),
    )


def _outlived(gaps: Gaps, log_days: Floats, silence: Floats, typical: Typical) -> Floats:
    """Minus the logarithm of the share of the customer's own gaps that are longer than the silence,
    smoothed, with the gaps of all customers as a few more."""
    log_silence = np.log(np.maximum(silence, 0.5))
    longer = ndtr((log_days - log_silence[gaps.row]) / _KERNEL_WIDTH)
    survival = np.asarray(typical.survival)
    typically = survival[np.minimum(silence.astype(np.int64), len(survival) - 1)]
    found = _Parts.of(gaps.number).sums(longer) + _KERNEL_PRIOR * typically
    return np.asarray(-np.log(np.maximum(found, 1e-12) / (gaps.number + _KERNEL_PRIOR)))


def _quantiles(gaps: Gaps, typical: Typical) -> Sequence[Floats]:
    """Logarithms of the median, the 90 % quantile and the longest of each row's gaps; those of the
    typical customer where there are none."""
    # A row of a matrix each, which sort by themselves; the longest come last, and what is missing
    # after them.
    rows, most = len(gaps.number), int(gaps.number.max(initial=0))
    days = np.full((rows, most + 1), np.iinfo(np.int32).max, np.int32)
    days[gaps.row, gaps.number[gaps.row] - 1 - gaps.age] = gaps.days
    days.sort(axis=1)
    row, has = np.arange(rows), gaps.number > 0

    def at(share: float, without: float) -> Floats:
        place = share * np.maximum(gaps.number - 1, 0)
        low = days[row, np.floor(place).astype(np.int64)].astype(np.float64)
        high = days[row, np.ceil(place).astype(np.int64)]
        found = low + (high - low) * (place - np.floor(place))
        return np.where(has, np.log(found), without)

    base = typical.log_gap
    return at(0.5, base), at(0.9, base + 0.7), at(1.0, base + 1.0)


def typical_of(gaps: Gaps, nets_minor: Floats, horizon_days: int) -> Typical:
    """The typical customer of a shop, by the gaps of all rows and days' net revenue. Where nobody
    ordered twice a gap is taken to be a third of the horizon."""
    logs = np.log(gaps.days) if len(gaps.days) else np.empty(0)
    has = gaps.number > 0
    sums = _Parts.of(gaps.number).sums(logs)
    means = sums[has] / gaps.number[has]
    spare = int((gaps.number[has] - 1).sum())
    within = float(((logs - (sums / np.maximum(gaps.number, 1))[gaps.row]) ** 2).sum())
    positive = nets_minor[nets_minor > 0]
    longer = np.bincount(np.minimum(gaps.days, horizon_days + 1), minlength=horizon_days + 2)
    survival = 1.0 - np.cumsum(longer)[:-1] / max(len(gaps.days), 1)
    return Typical(
        log_gap=float(np.median(means)) if len(means) else float(np.log(horizon_days / 3.0)),
        gap_variance=max(within / spare, 0.05) if spare else 0.6,
        order_minor=float(np.median(positive)) if len(positive) else 100.0,
        survival=tuple(np.round(survival, 6).tolist()),
    )
