"""The level of a forecast: the season as it was a year ago, and the lifetime model's sum.

A regression learns the level of the periods that it was trained on, and forecasts another one. Two
things say how that differs:

- a year ago at the same date, the same regression was off by a factor that is known by now: the
  year-ago error. It is taken in so far as errors of different snapshots differ by more than chance
  would have it (empirical Bayes), and as the shop was old enough then: in the first months of a
  log every customer looks new, and errors are those of a beginning and not of a season;
- where that is not known, BG/NBD's sum over all customers: it knows that a cohort grows older, and
  needs no labels from a livelier time.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.arrays import Floats

YEAR_DAYS: Final = 365
# Age of the log, in days, at which a snapshot begins to say something of a season, and at which it
# says all that it can.
_YOUNG_DAYS: Final = 60
_SETTLED_DAYS: Final = 180
_FEWEST_SNAPSHOTS: Final = 3
# Weight of the lifetime model's sum, in logarithms, where no season is known.
LIFETIME_LEVEL: Final = 0.6
# A shop may sell ten times as much in a season, and the lifetime model be off by as much as three.
_MOST_SEASON: Final = float(np.log(10.0))
_MOST_LEVEL: Final = float(np.log(3.0))


def log_level(
    day: NDArray[np.int64],
    actual: Floats,
    predicted: Floats,
    first_day: int,
    cutoff_day: int,
    lifetime_log_level: float,
) -> float:
    """Logarithm of the factor by which predictions for the horizon from `cutoff_day` on are to be
    multiplied.

    `day`, `actual` and `predicted`, shape (n,), are of the training rows, `predicted` by the model
    itself; `first_day` is that of the log's first order. `lifetime_log_level` is the logarithm of
    the lifetime model's sum over the model's.
    """
    trust, season = _year_ago(day, actual, predicted, first_day, cutoff_day)
    lifetime = LIFETIME_LEVEL * float(np.clip(lifetime_log_level, -_MOST_LEVEL, _MOST_LEVEL))
    return trust * season + (1.0 - trust) * lifetime


def _year_ago(
    day: NDArray[np.int64], actual: Floats, predicted: Floats, first_day: int, cutoff_day: int
) -> tuple[float, float]:
    """How far the year-ago error is to be trusted, in [0, 1], and its logarithm."""
    days, group = np.unique(day, return_inverse=True)
    sums, expected = np.bincount(group, actual), np.bincount(group, predicted)
    spread = np.sqrt(np.bincount(group, (actual - predicted) ** 2))
    some = (sums > 0) & (expected > 0)
    days, age = days[some], days[some] - first_day
    errors, noise = np.log(sums[some] / expected[some]), (spread[some] / expected[some]) ** 2
    then = cutoff_day - YEAR_DAYS
    known = age >= _YOUNG_DAYS
    if known.sum() < _FEWEST_SNAPSHOTS or then - first_day <= _YOUNG_DAYS or then < days[0]:
        return 0.0, 0.0
    variance = float(errors[known].var())
    signal = max(variance - float(noise[known].mean()), 0.0) / max(variance, 1e-12)
    settled = min((then - first_day - _YOUNG_DAYS) / (_SETTLED_DAYS - _YOUNG_DAYS), 1.0)
    error = float(np.interp(then, days, errors))
    return signal * settled, float(np.clip(error, -_MOST_SEASON, _MOST_SEASON))
