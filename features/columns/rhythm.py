"""What a customer's silence says: columns for P(churn) and P(an order soon), as of any day.

Every length is a share of the horizon or of the customer's own gaps between purchase days, so that
the same columns fit any horizon and any rhythm. All of them come from the day buckets; columns are
computed for all rows at once, and each row depends on its own customer alone, to the last bit.

Columns in `RISING` never fall while nothing happens; the others, in `STEADY`, change with an event
only. So a model whose coefficients on the first are not negative never falls in silence.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
import numpy as np
from scipy.special import log_ndtr, ndtr

from features.arrays import Floats, Ints, flat_places
from features.columns.table import BEFORE_COLUMNS, BucketTable, Gaps, PurchaseDays, totals

# Gaps that the kernel and the quantiles look at, newest first; weights of the mean halve every 8.
MAX_GAPS: Final = 32
_HALVED_EVERY: Final = 8
# So many gaps of the typical customer count beside a customer's own.
_PRIOR_GAPS: Final = 2.0
_KERNEL_WIDTH: Final = 0.35
_KERNEL_PRIOR: Final = 1.5
# Half-lives of the decayed sums, as shares of the horizon.
_HALF_LIVES: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
_HALF_LIVES_COLUMN: Final = np.array(_HALF_LIVES)[:, None]
# Half-lives that trends compare, and those of which there is revenue.
_SHORT: Final = slice(0, 3)
_LONG: Final = slice(2, 5)
_SPENDS: Final = slice(1, 4, 2)
_GROSS, _REFUNDED = BEFORE_COLUMNS["gross"], BEFORE_COLUMNS["refunded"]
_FLOOR: Final = 0.03
# From which share of the horizon, and from which logarithm of the customer's own gap on, a silence
# counts more.
_OVER_SHARES: Final = np.array([[0.15], [0.35], [0.6]])
_OVER_LOGS: Final = np.array([[0.0], [0.7], [1.4]])
# Of own gaps; and what is added to the typical gap where there are none.
_QUANTILES: Final = np.array([[0.5], [0.9], [1.0]])
_WITHOUT: Final = np.array([[0.0], [0.7], [1.0]])

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
    *(f"trend_{a:g}h_{b:g}h" for a, b in zip(_HALF_LIVES, _HALF_LIVES[2:], strict=False)),
    *(f"spend_{share:g}h" for share in _HALF_LIVES[1:4:2]),
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
    "money": (*(f"spend_{share:g}h" for share in _HALF_LIVES[1:4:2]), "mean_order", "last_order"),
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
    that mean nothing. Each column is by itself in memory.
    """
    bought = table.purchases
    if silent_days is None:
        silent_days = table.as_of_day - bought.last_day
    silent_days = np.maximum(silent_days, 0)
    number = np.maximum(bought.days, 1)
    pace = _pace(bought.gaps, typical)
    orders, spends, net = _faded(table, bought, horizon_days)
    quantiles = _quantiles(pace.newest, typical)
    net += table.before[:, _GROSS]
    net -= table.before[:, _REFUNDED]
    steady = _steady(bought, number, pace, orders, spends, net, horizon_days, typical)
    if of is not None:
        steady, orders, quantiles = (part.take(of, axis=1) for part in (steady, orders, quantiles))
        number, pace = number.take(of), pace.of(of)
    out = np.empty((len(RHYTHM_NAMES), len(silent_days)))
    out[len(RISING) :] = steady
    _put_rising(out, silent_days, number, pace, quantiles, orders, horizon_days, typical)
    return out.T


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
        place = flat_places(np.cumsum(newest.number)[rows] - number, number)
        row = np.repeat(np.arange(len(rows)), number)
        gaps = Gaps(row, newest.days.take(place), newest.age.take(place), number)
        log_gap, spread, last_gap = (
            part.take(rows) for part in (self.log_gap, self.spread, self.last_gap)
        )
        return _Pace(log_gap, spread, last_gap, gaps, self.log_days.take(place))


# Ages are whole: looked up, a power of each is computed once. Sizes are powers of two, so that
# there are few tables.
@lru_cache(maxsize=64)
def _weights(size: int) -> Floats:
    return np.asarray(0.5 ** (np.arange(size) / _HALVED_EVERY))


@lru_cache(maxsize=64)
def _fading(size: int, horizon_days: int) -> Floats:
    """What is left after so many days, shape (len(_HALF_LIVES), size)."""
    return np.stack([0.5 ** (np.arange(size) / (part * horizon_days)) for part in _HALF_LIVES])


def _size(whole: Ints) -> int:
    """How large a table has to be that has all of these."""
    return 1 << max(int(whole.max(initial=0)).bit_length(), 8)


def _pace(gaps: Gaps, typical: Typical) -> _Pace:
    rows, log_days = len(gaps.number), np.log(np.maximum(gaps.days, 1))
    values = np.empty((3, len(log_days)))
    values[0] = _weights(_size(gaps.age)).take(gaps.age)
    np.multiply(values[0], log_days, out=values[1])
    np.multiply(values[1], log_days, out=values[2])
    total, first_moment, second_moment = totals(gaps.row, values, rows)
    scatter = np.maximum(second_moment - first_moment**2 / np.maximum(total, 1e-9), 0.0)
    total += _PRIOR_GAPS
    log_gap = (first_moment + _PRIOR_GAPS * typical.log_gap) / total
    spread = np.sqrt((scatter + _PRIOR_GAPS * typical.gap_variance) / total)
    last_gap = np.full(rows, typical.log_gap)
    has = gaps.number > 0
    last_gap[has] = log_days[np.cumsum(gaps.number)[has] - 1]
    if gaps.number.max(initial=0) > MAX_GAPS:
        recent = np.flatnonzero(gaps.age < MAX_GAPS)
        number = np.minimum(gaps.number, MAX_GAPS)
        gaps = Gaps(gaps.row.take(recent), gaps.days.take(recent), gaps.age.take(recent), number)
        log_days = log_days.take(recent)
    return _Pace(log_gap, spread, last_gap, gaps, log_days)


def _faded(
    table: BucketTable, bought: PurchaseDays, horizon_days: int
) -> tuple[Floats, Floats, Floats]:
    """Purchase days and net revenue, by half-life faded up to the last purchase day, and net
    revenue as it is."""
    age = np.maximum(bought.last_day.take(table.row) - table.day, 0)
    count = len(_HALF_LIVES)
    values = np.empty((count + 3, len(age)))
    faded = values[:count]
    faded[:] = _fading(_size(age), horizon_days).take(age, axis=1)
    values[-1] = table.gross - table.refunded
    np.multiply(faded[_SPENDS], values[-1], out=values[count:-1])
    if bought.bought is not None:
        faded *= bought.bought
    sums = totals(table.row, values, table.rows)
    return sums[:count], np.maximum(sums[count:-1], 0.0), sums[-1]


def _put_rising(
    out: Floats,
    silent_days: Ints,
    number: Ints,
    pace: _Pace,
    quantiles: Floats,
    orders: Floats,
    horizon_days: int,
    typical: Typical,
) -> None:
    """The columns of `RISING`."""
    silence = silent_days.astype(np.float64)
    share, log_silence = silence / horizon_days, np.log(silence + 0.5)
    repeats = (number - 1).astype(np.float64)
    known = repeats / (repeats + 3.0)
    overdue = log_silence - pace.log_gap
    out[0] = share
    np.maximum(share - _OVER_SHARES, 0.0, out=out[1:4])
    np.subtract(log_silence, np.log(horizon_days), out=out[4])
    out[5] = overdue
    np.maximum(overdue - _OVER_LOGS, 0.0, out=out[6:9])
    np.maximum(overdue + 3.0, 0.0, out=out[9])
    np.negative(log_ndtr(-np.minimum(overdue / pace.spread, 8.0)), out=out[10])
    out[12] = _outlived(pace.newest, pace.log_days, silent_days, typical)
    np.subtract(log_silence, quantiles, out=out[14:17])
    np.maximum(out[16], 0.0, out=out[16])
    # Those that count by how well the customer is known.
    out[9] *= known
    np.multiply(out[10:13:2], known, out=out[11:14:2])
    np.multiply(out[16], known, out=out[17])
    faded = orders * 0.5 ** (silence / (_HALF_LIVES_COLUMN * horizon_days))
    np.negative(np.log(faded + _FLOOR), out=out[18:23])
    np.multiply(number == 1, share, out=out[23])


def _steady(
    bought: PurchaseDays,
    number: Ints,
    pace: _Pace,
    orders: Floats,
    spends: Floats,
    net: Floats,
    horizon_days: int,
    typical: Typical,
) -> Floats:
    """The columns of `STEADY`."""
    unit = typical.order_minor
    mean_order = np.maximum(net, 0.0) / number
    out = np.empty((len(STEADY), len(number)))
    out[0] = number == 1
    np.log(number, out=out[1])
    np.log1p(np.maximum(bought.last_day - bought.first_day, 0), out=out[2])
    np.subtract(pace.log_gap, np.log(horizon_days), out=out[3])
    out[4] = pace.spread
    np.subtract(pace.last_gap, pace.log_gap, out=out[5])
    some = orders + 0.2
    np.log(some[_SHORT] / some[_LONG], out=out[6:9])
    out[9:11] = spends
    out[11] = mean_order
    np.log1p(out[9:12] / unit, out=out[9:12])
    np.log((bought.last_gross + 0.1 * unit) / (mean_order + 0.1 * unit), out=out[12])
    return out


def _sums(row: Ints, values: Floats, rows: int) -> Floats:
    """Sums by row, each added up in its own order."""
    return np.asarray(np.bincount(row, values, rows), np.float64)


def _outlived(gaps: Gaps, log_days: Floats, silent_days: Ints, typical: Typical) -> Floats:
    """Minus the logarithm of the share of the customer's own gaps that are longer than the silence,
    smoothed, with the gaps of all customers as a few more."""
    log_silence = np.log(np.maximum(silent_days, 0.5))
    longer = ndtr((log_days - log_silence[gaps.row]) / _KERNEL_WIDTH)
    survival = _survival(typical)
    typically = survival.take(np.minimum(silent_days, len(survival) - 1))
    found = _sums(gaps.row, longer, len(silent_days)) + _KERNEL_PRIOR * typically
    return np.asarray(-np.log(np.maximum(found, 1e-12) / (gaps.number + _KERNEL_PRIOR)))


@lru_cache(maxsize=8)
def _survival(typical: Typical) -> Floats:
    return np.asarray(typical.survival)


def _quantiles(gaps: Gaps, typical: Typical) -> Floats:
    """Logarithms of the median, the 90 % quantile and the longest of each row's gaps, shape (3, n);
    those of the typical customer where there are none."""
    # A row of a matrix each, which sort by themselves; the longest come last, and what is missing
    # after them.
    rows, most = len(gaps.number), int(gaps.number.max(initial=0))
    days = np.full((rows, most + 1), np.iinfo(np.int32).max, np.int32)
    days[gaps.row, gaps.number[gaps.row] - 1 - gaps.age] = gaps.days
    days.sort(axis=1)
    place = _QUANTILES * np.maximum(gaps.number - 1, 0)
    below = np.floor(place)
    row = np.arange(rows)
    low = days[row, below.astype(np.int64)].astype(np.float64)
    high = days[row, np.ceil(place).astype(np.int64)]
    found: Floats = np.log(low + (high - low) * (place - below))
    none = gaps.number == 0
    if none.any():
        found[:, none] = typical.log_gap + _WITHOUT
    return found


def typical_of(gaps: Gaps, nets_minor: Floats, horizon_days: int) -> Typical:
    """The typical customer of a shop, by the gaps of all rows and days' net revenue. Where nobody
    ordered twice a gap is taken to be a third of the horizon."""
    logs = np.log(gaps.days) if len(gaps.days) else np.empty(0)
    has = gaps.number > 0
    sums = _sums(gaps.row, logs, len(gaps.number))
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
