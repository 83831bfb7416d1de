"""The scorer: CLV from a regression and a lifetime model together, P(churn) from a regression.

CLV is the weighted geometric mean of a Poisson regression, which ranks customers best, and of
BG/NBD with Gamma-Gamma, which keeps the level when a cohort ages and follows the largest
customers further than any regression on logarithms does. `docs/model.md` has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from features.money import minor_exponent
from model.bgnbd import BGNBD, FitError, GammaGamma
from model.bgnbd import clv as lifetime_clv
from model.regression import SignedPoissonRegressor
from model.transform import SignedLogClip, signed_log

Floats: TypeAlias = NDArray[np.float64]

# Strength of the L2 penalty on the Poisson regression, whose target is scaled to mean 1 so that
# the same strength means the same in any currency.
POISSON_ALPHA: Final = 0.03
LOGISTIC_C: Final = 1.0
CHURN_DECIMALS: Final = 6

# Weight of BG/NBD with Gamma-Gamma in the logarithm of the CLV.
LIFETIME_WEIGHT: Final = 0.4
# Major units; a customer whom BG/NBD holds for gone keeps a logarithm.
_LEAST_CLV: Final = 1e-6
# Four parameters need no more, and a larger shop no more time.
_LIFETIME_CUSTOMERS: Final = 100_000

_RFM_FEATURES: Final = ("frequency", "recency_days", "T_days", "monetary_value_minor")
_STEPS: Final = ("range", "scale", "regression")


class FeatureError(ValueError):
    """A feature matrix is not one that the model was trained on, or is not finite. This is a fault
    in the program that made it, never in an order."""


class ClvModel:
    """CLV and churn probability over one horizon, for feature vectors of shape (n, k).

    Holds two fitted scikit-learn pipelines (signed logarithm clipped to the training range,
    standardisation, regression). A row's result never depends on the rows around it: regressions
    are added up feature by feature, because BLAS sums in an order that depends on the batch.
    """

    def __init__(
        self,
        clv: Pipeline,
        churn: Pipeline,
        lifetime: tuple[BGNBD, GammaGamma] | None,
        feature_names: Sequence[str],
        horizon_days: int,
        currency: str,
        top: float,
    ) -> None:
        """`lifetime` None leaves the CLV to the regression; `top` is the most it may be."""
        self.clv_pipeline = clv
        self.churn_pipeline = churn
        self.lifetime = lifetime
        self.feature_names = tuple(feature_names)
        self.horizon_days = horizon_days
        self.currency = currency
        self.top = top
        self._prepare()

    @classmethod
    def fit(
        cls,
        X: Floats,
        revenue: Floats,
        churned: NDArray[np.bool_],
        feature_names: Sequence[str],
        horizon_days: int,
        currency: str,
        population: Floats,
        weight: Floats | None = None,
    ) -> ClvModel:
        """The model of n >= 2 training rows; `revenue` in major units, both labels of shape (n,).

        Needs some revenue, and both a customer who churned and one who did not. `population` are
        the feature vectors of the customers known at the end of training, on whom the lifetime
        model is fitted; a population without repeat purchases does without. `weight` says how much
        a row counts, shape (n,); None is the same for all.
        """
        mean = float(np.average(revenue, weights=weight))
        regression = SignedPoissonRegressor(POISSON_ALPHA, [sign_of(n) for n in feature_names])
        clv = _pipeline(regression)
        clv.fit(X, revenue / mean, regression__sample_weight=weight)
        clv["regression"].intercept_ += float(np.log(mean))
        churn = _pipeline(LogisticRegression(C=LOGISTIC_C, solver="newton-cholesky"))
        churn.fit(X, churned, regression__sample_weight=weight)
        # No prediction above what any customer was seen to bring: features are clipped one by one,
        # but a combination of them may still be one that training never saw.
        lifetime = _lifetime(population, feature_names, minor_exponent(currency))
        top = float(revenue.max())
        return cls(clv, churn, lifetime, feature_names, horizon_days, currency, top)

    def clv(self, X: Floats) -> Floats:
        """Net revenue expected in the horizon, major units, >= 0, finite, shape (n,).

        Rounded to the currency's minor unit: nothing finer is money, and the last bits of a
        logarithm differ between processors.
        """
        linear = self._linear(X, self._clv_weights, self._clv_bias)
        if self.lifetime is not None:
            lifetime = np.log(np.maximum(self._lifetime_clv(X, *self.lifetime), _LEAST_CLV))
            # Where the hypergeometric function fails (never seen), the regression stands alone.
            lifetime = np.where(np.isfinite(lifetime), lifetime, linear)
            linear = (1.0 - LIFETIME_WEIGHT) * linear + LIFETIME_WEIGHT * lifetime
        revenue = np.minimum(np.exp(np.minimum(linear, 700.0)), self.top)
        return np.asarray(np.round(revenue, minor_exponent(self.currency)), dtype=np.float64)

    def churn(self, X: Floats) -> Floats:
        """P(no order in the horizon), in [0, 1] to six decimals, shape (n,)."""
        linear = self._linear(X, self._churn_weights, self._churn_bias)
        return np.round(1.0 / (1.0 + np.exp(-np.clip(linear, -700.0, 700.0))), CHURN_DECIMALS)

    def parameters(self) -> tuple[Floats, ...]:
        """All numbers that decide a score: equal parameters mean an equal model."""
        return (
            self._low,
            self._high,
            self._clv_weights,
            np.array([self._clv_bias, self.top]),
            self._churn_weights,
            np.array([self._churn_bias]),
            np.array([value for fitted in self.lifetime or () for value in astuple(fitted)]),
        )

    def _prepare(self) -> None:
        limits = self.clv_pipeline["range"]
        self._low, self._high = limits.low_, limits.high_
        self._clv_weights, self._clv_bias = _on_logs(self.clv_pipeline)
        self._churn_weights, self._churn_bias = _on_logs(self.churn_pipeline)

    def _lifetime_clv(self, X: Floats, purchases: BGNBD, spend: GammaGamma) -> Floats:
        """Major units, shape (n,); from the RFM that are among the features."""
        x, t_x, T, value_minor = _rfm_columns(X, self.feature_names)
        value = value_minor / 10.0 ** minor_exponent(self.currency)
        return lifetime_clv(purchases, spend, self.horizon_days, x, t_x, T, value)

    def _linear(self, X: Floats, weights: Floats, bias: float) -> Floats:
        """bias + logs @ weights, added up in the order of the features for every row."""
        k = len(self.feature_names)
        if X.ndim != 2 or X.shape[1] != k:
            raise FeatureError(f"a feature matrix of shape {X.shape}; the model needs (n, {k})")
        # One feature after another, each contiguous: element by element, as IEEE 754 has it.
        columns = np.ascontiguousarray(X.T, dtype=np.float64)
        if not np.isfinite(columns).all():
            at = int(np.argmin(np.isfinite(columns).all(axis=1)))
            raise FeatureError(f"feature {self.feature_names[at]} is not finite")
        logs = signed_log(columns)
        np.clip(logs, self._low[:, None], self._high[:, None], out=logs)
        logs *= weights[:, None]
        total = np.full(len(X), bias)
        for column in logs:
            total += column
        return total

    def __getstate__(self) -> dict[str, Any]:
        # What begins with an underscore is derived from the rest, and made anew.
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()


def _lifetime(
    population: Floats, feature_names: Sequence[str], exponent: int
) -> tuple[BGNBD, GammaGamma] | None:
    """The lifetime model of a population; None where it has no repeat purchases to learn from."""
    # Every k-th customer of a large shop says the same in a fraction of the time.
    step = 1 + (len(population) - 1) // _LIFETIME_CUSTOMERS
    x, t_x, T, value_minor = _rfm_columns(population[::step], feature_names)
    try:
        return BGNBD.fit(x, t_x, T), GammaGamma.fit(x, value_minor / 10.0**exponent)
    except FitError:
        return None


def _rfm_columns(X: Floats, feature_names: Sequence[str]) -> list[Floats]:
    return [X[:, feature_names.index(name)] for name in _RFM_FEATURES]


def sign_of(feature: str) -> int:
    """The sign that a feature's weight in the CLV may have; 0 for either.

    While a customer is silent, what is counted in a window can only fall and ages can only grow.
    With these signs so does the CLV, and silence alone never looks like a recovery.
    """
    if feature in ("T_days", "days_since_last_order", "silence_in_gaps"):
        return -1
    windowed = feature.startswith(("orders_", "net_minor_", "aov_minor_", "decayed_"))
    if feature == "purchase_rate_per_day" or (windowed and "lifetime" not in feature):
        return 1
    return 0


def _pipeline(regression: Any) -> Pipeline:
    return Pipeline(list(zip(_STEPS, (SignedLogClip(), StandardScaler(), regression), strict=True)))


def _on_logs(pipeline: Pipeline) -> tuple[Floats, float]:
    """Weights and bias on clipped logarithms: standardisation multiplied into the regression."""
    scaler, regression = pipeline["scale"], pipeline["regression"]
    weights = np.ravel(regression.coef_) / scaler.scale_
    bias = float(np.ravel(regression.intercept_)[0]) - float(np.sum(weights * scaler.mean_))
    return np.asarray(weights, dtype=np.float64), bias
