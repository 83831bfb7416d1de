"""The default value model: regressions that start from a lifetime model, at a level of their own.

- The **regression** is a Poisson regression on logarithms of features, BG/NBD with Gamma-Gamma
  among them. It tells customers apart best, the more so times a small power of a logistic
  regression's P(any revenue).
- The **correction** is a Poisson regression that multiplies BG/NBD with Gamma-Gamma by what the
  features say. It ranks worse, and knows best how a cohort grows older: both parts are brought to
  its sum over all customers known, and added up by weight.

How far the next horizon will be from that sum, two things say:

- a year ago at the same date, the same regression was off by a factor that is known by now: the
  year-ago error. It is taken in so far as errors of different snapshots differ by more than chance
  would have it (empirical Bayes), and as the shop was old enough then: in the first months of a
  log every customer looks new, and errors are those of a beginning and not of a season;
- where that is not known, BG/NBD's sum over all customers: it knows that a cohort grows older, and
  needs no labels from a livelier time.

While a customer is silent, every feature that is looked at moves in one direction and without a
step, and the signs of the regressions fit: the value of a silent customer never rises, and no
window ends on some day. `docs/model.md` has the measurements.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from features.arrays import Floats
from model.estimators.base import Examples
from model.estimators.clv import widened
from model.estimators.glm import PoissonValue, RevenueChance
from model.estimators.lifetime import LifetimeValue, fitted_lifetime
from model.estimators.optimum import settled
from model.estimators.transform import smooth_columns, smooth_rows

# Strength of the L2 penalty on the regression, and on the one that corrects the lifetime model.
POISSON_ALPHA: Final = 0.03
CORRECTION_ALPHA: Final = 0.1
# Powers of the regression and of P(any revenue), and the share of the correction in the value.
REGRESSION_WEIGHT: Final = 0.985
CHANCE_WEIGHT: Final = 0.08
CORRECTION_WEIGHT: Final = 0.05
# Revenue is skewed: a forecast a little below its mean has the smaller absolute errors.
PRUDENCE: Final = 0.97
# Major units; a customer whom BG/NBD holds for gone keeps a logarithm.
_LEAST: Final = 1e-6
_MOST: Final = 700.0

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


class Blend:
    """A ValueModel. After fit: `regression`, `chance`, and `lifetime` with its `correction`, which
    are None where the population has no repeat purchases; the value is then the regression's.

    `balance` is the logarithm of a factor that brings the regression to the correction's sum,
    `level` of one for all customers.
    """

    lifetime: LifetimeValue | None
    correction: PoissonValue | None
    reads_windows = False

    def __init__(
        self, alpha: float = POISSON_ALPHA, correction_weight: float = CORRECTION_WEIGHT
    ) -> None:
        self.regression = PoissonValue(alpha)
        self.chance = RevenueChance()
        self.correction_weight = correction_weight

    def fit(self, examples: Examples) -> Self:
        # A population may be known without its attributes.
        width = len(examples.columns)
        examples = replace(examples, population=widened(examples.population, width))
        self.kept, self.floored = smooth_columns(examples.columns)
        self.unit = examples.minor_per_major
        smooth = examples.of_columns(self.kept, self._smooth(examples.X))
        self.chance.fit(smooth)
        self.lifetime, self.correction = fitted_lifetime(examples), None
        if self.lifetime is None:
            self.regression.fit(smooth)
        else:
            expected = self._lifetime_value(examples.X)
            self.correction = PoissonValue(CORRECTION_ALPHA).fit(smooth, np.log(expected))
            smooth = replace(
                smooth,
                X=self._beside(smooth.X, expected),
                # Attributes come last, so what is known beside them comes first.
                columns=("lifetime_value_minor", *smooth.columns),
                signs=(1, *smooth.signs),
            )
            self.regression.fit(smooth)
        self._set_level(examples)
        return self

    def predict(self, X: Floats) -> Floats:
        regression, correction = self._parts(X)
        if correction is None:
            return np.asarray(np.exp(regression + self.level))
        share = self.correction_weight
        value = (1.0 - share) * np.exp(regression + self.balance) + share * np.exp(correction)
        return np.asarray(value * np.exp(self.level))

    def _set_level(self, examples: Examples) -> None:
        """Brings both parts to one sum over the population, and that to what is forecast."""
        regression, correction = self._parts(examples.population)
        fitted, fitted_correction = self._parts(examples.X)
        self.balance = above = 0.0
        if self.lifetime is not None and correction is not None and fitted_correction is not None:
            fitted, total = fitted_correction, np.exp(correction).sum()
            self.balance = settled(float(np.log(total / np.exp(regression).sum())))
            lifetime = self._lifetime_value(examples.population).sum() * _net_share(examples)
            above = float(np.log(lifetime / total))
        cutoff = int(examples.day.max()) + examples.horizon_days
        age = examples.population[:, examples.columns.index("T_days")]
        first = cutoff - int(age.max(initial=0.0))
        level = log_level(examples.day, examples.revenue, np.exp(fitted), first, cutoff, above)
        self.level = settled(level + (float(np.log(PRUDENCE)) if self.lifetime else 0.0))

    def _parts(self, X: Floats) -> tuple[Floats, Floats | None]:
        """Logarithms of the regression and the correction, shape (n,), before their level."""
        rows = self._smooth(X)
        if self.lifetime is None or self.correction is None:
            return self.regression.log_value(rows), None
        expected = self._lifetime_value(X)
        # All three are fitted on the same rows, and so prepare them alike.
        linear, chance = self.correction.linear, self.chance.linear
        prepared = linear.prepared(rows)
        if self.regression.linear.sees(linear, after=1):
            beside = self.regression.linear.beside(expected * self.unit, prepared)
            regression = self.regression.log_of(beside)
        else:
            regression = self.regression.log_value(self._beside(rows, expected))
        alike = chance is not None and chance.sees(linear)
        log_chance = self.chance.log_of(prepared) if alike else self.chance.log_chance(rows)
        regression = REGRESSION_WEIGHT * regression + CHANCE_WEIGHT * log_chance
        correction = self.correction.log_of(prepared) + np.log(expected)
        return regression, np.minimum(correction, _MOST)

    def _lifetime_value(self, X: Floats) -> Floats:
        """Of the lifetime model, major units, above 0, shape (n,)."""
        assert self.lifetime is not None
        # Not finite was never seen; such a customer would be worth next to nothing.
        value = self.lifetime.predict(X)
        return np.maximum(np.where(np.isfinite(value), value, 0.0), _LEAST)

    def _smooth(self, X: Floats) -> Floats:
        """The columns that the regressions see."""
        return smooth_rows(X, self.kept, self.floored)

    def _beside(self, rows: Floats, expected: Floats) -> Floats:
        """The rows with the lifetime model's value, in minor units, as their first column."""
        return np.column_stack((expected * self.unit, rows))


def _net_share(examples: Examples) -> float:
    """Share of all customers' purchases that was not refunded: the lifetime model knows purchases
    alone."""
    column = {name: examples.population[:, i] for i, name in enumerate(examples.columns)}
    gross = float((column["aov_minor_lifetime"] * column["orders_lifetime"]).sum())
    return min(max(float(column["net_minor_lifetime"].sum()) / gross, 0.05), 1.0) if gross else 1.0


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
