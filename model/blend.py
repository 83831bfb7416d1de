"""The default value model: a Poisson regression and a lifetime model together.

The weighted geometric mean of a Poisson regression, which ranks customers best, and of BG/NBD with
Gamma-Gamma, which keeps the level when a cohort ages and follows the largest customers further
than any regression on logarithms does. `docs/model.md` has the measurements.
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np

from model.estimator import Examples, Floats
from model.lifetime import LifetimeValue, fitted_lifetime
from model.loglinear import PoissonValue

# Strength of the L2 penalty on the Poisson regression.
POISSON_ALPHA: Final = 0.03
# Weight of BG/NBD with Gamma-Gamma in the logarithm of the CLV.
LIFETIME_WEIGHT: Final = 0.4
# Major units; a customer whom BG/NBD holds for gone keeps a logarithm.
_LEAST: Final = 1e-6


class Blend:
    """A ValueModel. After fit: `regression`, and `lifetime`, which is None where the population
    has no repeat purchases; the value is then left to the regression."""

    lifetime: LifetimeValue | None

    def __init__(
        self, alpha: float = POISSON_ALPHA, lifetime_weight: float = LIFETIME_WEIGHT
    ) -> None:
        self.regression = PoissonValue(alpha)
        self.lifetime_weight = lifetime_weight

    def fit(self, examples: Examples) -> Self:
        self.regression.fit(examples)
        self.lifetime = fitted_lifetime(examples)
        return self

    def predict(self, X: Floats) -> Floats:
        linear = self.regression.log_value(X)
        if self.lifetime is not None:
            lifetime = np.log(np.maximum(self.lifetime.predict(X), _LEAST))
            # Where the lifetime model has no number, the regression stands alone.
            lifetime = np.where(np.isfinite(lifetime), lifetime, linear)
            linear = (1.0 - self.lifetime_weight) * linear + self.lifetime_weight * lifetime
        return np.exp(linear)
