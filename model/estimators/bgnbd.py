"""The published baseline: BG/NBD for how many purchases, Gamma-Gamma for how much each is worth.

Sources, by the numbers of their equations:

- FHL: Fader, Hardie & Lee (2005), "Counting Your Customers" the Easy Way: An Alternative to the
  Pareto/NBD Model. Marketing Science 24(2), 275-284.
- PA: Fader, Hardie & Lee (2008), Computing P(alive) Using the BG/NBD Model. Note 021.
- GG: Fader & Hardie (2013), The Gamma-Gamma Model of Monetary Value. Note 025.

Symbols are theirs: x = frequency (repeat purchases), t_x = recency (age at the last purchase),
T = age; all three in one unit of time, which is also the unit of every horizon `t` here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, digamma, gammaln, hyp2f1

from features.arrays import Floats
from model.errors import ModelError
from model.estimators.optimum import Loss, minimum, settled, significant

# Parameters are fitted as logarithms within these bounds: far beyond any real cohort, and close
# enough to keep a cohort that carries no information on one of them from overflowing.
_LOG_BOUND: Final = 8.0
# Where customers say nothing of a parameter, it leans towards 1; else this changes no digit.
_LEAN: Final = 1e-8
# As many as there are parameters.
_FEWEST_HISTORIES: Final = 4


class FitError(ModelError, ValueError):
    """The customers' history does not determine the model: fit on more customers or more time."""


@dataclass(frozen=True, slots=True)
class BGNBD:
    """A fitted BG/NBD model: purchase rate ~ Gamma(r, alpha), dropout probability ~ Beta(a, b)."""

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float

    @classmethod
    def fit(cls, x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> BGNBD:
        """The maximum-likelihood model of n customers; x, t_x and T of shape (n,).

        Raises FitError when there are no customers, no repeat purchase, or 0 <= t_x <= T broken.
        """
        frequency, recency, age = _checked(x, t_x, T)
        # Time in tenths of the longest age: the optimum is then near 1 in every parameter.
        scale = 10.0 / float(age.max())
        recency, age = recency * scale, age * scale
        # Many customers share one history (all who bought once on the same day): weigh, not repeat.
        rows, weights = np.unique(
            np.column_stack((frequency, recency, age)), axis=0, return_counts=True
        )

        if len(rows) < _FEWEST_HISTORIES:
            raise FitError(
                f"customers are so alike that there are {len(rows)} different histories among"
                f" {len(frequency)}, and {_FEWEST_HISTORIES} are needed: fit on more customers or"
                " more time"
            )

        def loss(log_parameters: Floats) -> tuple[float, Floats]:
            parameters = np.exp(log_parameters)
            likelihood, gradient = _log_likelihood(parameters, rows[:, 0], rows[:, 1], rows[:, 2])
            shares = weights / len(frequency)
            return -float(shares @ likelihood), -(gradient @ shares) * parameters

        fitted = _minimum(loss, 4)
        mean_loss = loss(fitted)[0]
        r, alpha, a, b = significant(np.exp(fitted)).tolist()
        # Rescaling time multiplies the density of x purchases by scale**x.
        rescaled = float(frequency.sum()) * np.log(scale)
        likelihood = significant(-mean_loss * len(frequency) + rescaled)
        return cls(r, significant(alpha / scale), a, b, float(likelihood))

    def probability_alive(self, x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> Floats:
        """P(alive) at T, shape (n,). A customer without a repeat purchase has 1 for ever (PA)."""
        frequency, recency, age = _arrays(x, t_x, T)
        return 1.0 / (1.0 + self._dropout_odds(frequency, recency, age))

    def expected_purchases(self, t: float, x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> Floats:
        """Expected purchases in (T, T + t], shape (n,) (FHL eq. 10).

        Written with Euler's transformation of the hypergeometric function, whose first two
        arguments then stay small however many purchases a customer has made.
        """
        frequency, recency, age = _arrays(x, t_x, T)
        # The formula is 0/0 at a = 1, where the expectation itself is smooth.
        a = self.a if abs(self.a - 1.0) > 1e-6 else 1.0 + 1e-6
        total = a + self.b + frequency - 1.0
        ages = self.alpha + age
        z = t / (ages + t)
        with np.errstate(invalid="ignore"):
            survivors = (1.0 - z) ** (a - 1.0) * hyp2f1(
                a + self.b - 1.0 - self.r, a - 1.0, total, z
            )
        # Where all customers drop out with about the same probability, a and b have no bound, and
        # this form is 0 times infinity. The one before the transformation is not.
        at = ~np.isfinite(survivors)
        if at.any():
            rate, b = self.r + frequency[at], self.b + frequency[at]
            survivors[at] = (1.0 - z[at]) ** rate * hyp2f1(rate, b, total[at], z[at])
        alive = 1.0 + self._dropout_odds(frequency, recency, age)
        return np.asarray(total / (a - 1.0) * (1.0 - survivors) / alive, dtype=np.float64)

    def _dropout_odds(self, x: Floats, t_x: Floats, T: Floats) -> Floats:
        """Odds of having dropped out right after the last purchase (PA; 0 where x is 0)."""
        repeat = x > 0
        # b + x - 1 may be <= 0 for x = 0 only, where the term does not exist.
        base = np.where(repeat, self.b + x - 1.0, 1.0)
        log_ratio = np.log(self.alpha + T) - np.log(self.alpha + t_x)
        # 700: exp stays finite; the odds are then 1e304 and P(alive) is 0 either way.
        odds = self.a / base * np.exp(np.minimum((self.r + x) * log_ratio, 700.0))
        return np.where(repeat, odds, 0.0)


@dataclass(frozen=True, slots=True)
class GammaGamma:
    """A fitted Gamma-Gamma model: a purchase ~ Gamma(p, nu), nu ~ Gamma(q, gamma) over customers.

    q is held above 1: at or below it the mean purchase of a customer without repeats is infinite.
    """

    p: float
    q: float
    gamma: float
    log_likelihood: float

    @classmethod
    def fit(cls, x: ArrayLike, monetary_value: ArrayLike, most: float | None = None) -> GammaGamma:
        """The maximum-likelihood model; mean repeat purchase `monetary_value` of x of them, (n,).

        Customers without a repeat purchase, or whose mean is not positive, carry no information on
        it and are left out, as in GG. `most` bounds what a customer without repeats is expected to
        spend, in means of the customers with repeats: where few customers spend most, q goes to 1
        and that expectation to infinity. None is no bound, as published. Raises FitError when fewer
        than two customers are left.
        """
        frequency, means = _arrays(x, monetary_value)
        known = (frequency > 0) & (means > 0)
        frequency, means = frequency[known], means[known]
        if len(means) < 2:
            raise FitError(
                f"{len(means)} customers have a repeat purchase worth more than 0; at least 2 are"
                " needed: fit on more customers or more time"
            )
        scale = 1.0 / float(means.mean())
        means = means * scale

        def parameters(free: Floats) -> tuple[float, float, float]:
            p, q_over_one, gamma = np.exp(free)
            return float(p), 1.0 + float(q_over_one), float(gamma)

        def at_most(free: Floats) -> tuple[float, float, float]:
            p, q_over_one = np.exp(free)
            return float(p), 1.0 + float(q_over_one), float(most or 0.0) * float(q_over_one / p)

        def loss(free: Floats) -> tuple[float, Floats]:
            p, q, gamma = parameters(free) if len(free) == 3 else at_most(free)
            likelihood, by = _spend_log_likelihood(p, q, gamma, frequency, means)
            # By the logarithms of p, q - 1 and gamma; where gamma follows the others, by those two.
            by_p, by_q, by_gamma = by.mean(axis=1) * np.array([p, q - 1.0, gamma])
            slope = [by_p, by_q, by_gamma]
            if len(free) == 2:
                slope = [by_p - by_gamma, by_q + by_gamma]
            return -float(np.mean(likelihood)), -np.array(slope)

        fitted = _minimum(loss, 3)
        p, q, gamma = parameters(fitted)
        if most is not None and p * gamma > most * (q - 1.0):
            fitted = _minimum(loss, 2)
            p, q, gamma = at_most(fitted)
        mean_loss = loss(fitted)[0]
        rescaled = len(means) * np.log(scale)
        likelihood = significant(-mean_loss * len(means) + rescaled)
        p, q, gamma = significant(np.array([p, q, gamma / scale])).tolist()
        return cls(p, q, gamma, float(likelihood))

    def expected_value(self, x: ArrayLike, monetary_value: ArrayLike) -> Floats:
        """Expected value of a customer's purchases, shape (n,), in the unit fitted on (GG eq. 5).

        The mean of all customers, weighted against the customer's own mean by x.
        """
        frequency, means = _arrays(x, monetary_value)
        means = np.where(frequency > 0, means, 0.0)
        shape = self.p * frequency + self.q - 1.0
        return np.asarray(self.p * (self.gamma + frequency * means) / shape, dtype=np.float64)


def clv(
    purchases: BGNBD,
    spend: GammaGamma,
    horizon: float,
    x: ArrayLike,
    t_x: ArrayLike,
    T: ArrayLike,
    monetary_value: ArrayLike,
) -> Floats:
    """Expected revenue of the next `horizon`, shape (n,), undiscounted; units as fitted.

    Number and value of purchases are independent given x, as both models assume.
    """
    number = purchases.expected_purchases(horizon, x, t_x, T)
    return number * spend.expected_value(x, monetary_value)


def _log_likelihood(parameters: Floats, x: Floats, t_x: Floats, T: Floats) -> tuple[Floats, Floats]:
    """FHL eq. 6, as the sum of its two terms taken in logarithms, of shape (n,), and its
    derivatives by r, alpha, a and b, of shape (4, n)."""
    r, alpha, a, b = parameters
    repeat = x > 0
    counted = np.where(repeat, x, 1.0)
    common = gammaln(r + x) - gammaln(r) + r * np.log(alpha) - betaln(a, b)
    age, last = np.log(alpha + T), np.log(alpha + t_x)
    alive = betaln(a, b + x) - (r + x) * age
    dropped = betaln(a + 1.0, b + counted - 1.0) - (r + x) * last
    both = np.where(repeat, np.logaddexp(alive, dropped), alive)
    # How much of the likelihood is that of being alive.
    share = np.where(repeat, np.exp(alive - both), 1.0)
    gone = 1.0 - share
    total = digamma(a + b + x)
    gradient = np.array(
        [
            digamma(r + x) - digamma(r) + np.log(alpha) - share * age - gone * last,
            r / alpha - (r + x) * (share / (alpha + T) + gone / (alpha + t_x)),
            digamma(a + b) - digamma(a) + share * digamma(a) + gone * digamma(a + 1.0) - total,
            digamma(a + b)
            - digamma(b)
            + share * digamma(b + x)
            + gone * digamma(b + counted - 1.0)
            - total,
        ]
    )
    return np.asarray(common + both, dtype=np.float64), gradient


def _spend_log_likelihood(
    p: float, q: float, gamma: float, x: Floats, mean: Floats
) -> tuple[Floats, Floats]:
    """GG eq. 1a: the density of a customer's mean purchase, of shape (n,), in logarithms, and its
    derivatives by p, q and gamma, of shape (3, n)."""
    total = np.log(gamma + x * mean)
    density = (
        gammaln(p * x + q)
        - gammaln(p * x)
        - gammaln(q)
        + q * np.log(gamma)
        + (p * x - 1.0) * np.log(mean)
        + p * x * np.log(x)
        - (p * x + q) * total
    )
    both = digamma(p * x + q)
    gradient = np.array(
        [
            x * (both - digamma(p * x) + np.log(mean) + np.log(x) - total),
            both - digamma(q) + np.log(gamma) - total,
            q / gamma - (p * x + q) / (gamma + x * mean),
        ]
    )
    return np.asarray(density, dtype=np.float64), gradient


def _minimum(loss: Loss, parameters: int) -> Floats:
    """Where `loss` is lowest in the logarithms of its parameters, shape (parameters,)."""

    def leaning(free: Floats) -> tuple[float, Floats]:
        value, gradient = loss(free)
        return value + _LEAN / 2.0 * float(free @ free), gradient + _LEAN * free

    bound = np.full(parameters, _LOG_BOUND)
    found: Floats = settled(minimum(leaning, np.zeros(parameters), (-bound, bound)))
    return found


def _arrays(*columns: ArrayLike) -> tuple[Floats, ...]:
    return tuple(np.atleast_1d(np.asarray(column, dtype=np.float64)) for column in columns)


def _checked(x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> tuple[Floats, ...]:
    frequency, recency, age = _arrays(x, t_x, T)
    if not len(frequency) or not (frequency > 0).any() or not age.max() > 0:
        raise FitError(
            f"none of {len(frequency)} customers has a repeat purchase:"
            " fit on more customers or more time"
        )
    broken = (frequency < 0) | (recency < 0) | (recency > age)
    if broken.any():
        first = int(np.argmax(broken))
        raise FitError(
            f"customer {first} has x {frequency[first]:g}, t_x {recency[first]:g},"
            f" T {age[first]:g}: 0 <= x and 0 <= t_x <= T must hold"
        )
    return frequency, recency, age
