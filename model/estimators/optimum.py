"""The optimum of a fit, to the digits in which all processors agree.

Processors differ in the last bits of a logarithm and of a sum of products, and a search that ends
when it is near enough ends elsewhere for it. So a search (L-BFGS-B) only comes near, Newton's steps
go on to where nothing moves any more, and what is stored has as many digits as are then the same
everywhere: the same log gives the same model, by its version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from scipy.optimize import minimize

from features.arrays import Floats

# Value and gradient, for parameters of shape (k,).
Loss: TypeAlias = Callable[[Floats], tuple[float, Floats]]
Curvature: TypeAlias = Callable[[Floats], Floats]

# Of coefficients on standardised features, and of logarithms of parameters: two processors differ
# by 1e-12 or less, a minor unit of money by far more.
DECIMALS: Final = 7
_DIGITS: Final = 9
_STEPS: Final = 60
# Newton's error is the square of the last step, or that step times the error of the curvature.
_STILL: Final = 1e-9
_DIFFERENCE: Final = 1e-4


def settled(value: Any, decimals: int = DECIMALS) -> Any:
    """The number or numbers rounded to decimals; no zero is negative."""
    return np.round(value, decimals) + 0.0


def significant(value: Any) -> Any:
    """The number or numbers rounded to nine significant digits."""
    sizes = np.abs(value)
    # Below the least, units would be beyond what is finite.
    exponent = np.floor(np.log10(np.where(sizes > 1e-290, sizes, 1.0)))
    unit = 10.0 ** (_DIGITS - 1 - exponent)
    return np.round(value * unit) / unit


def minimum(
    loss: Loss, start: Floats, bounds: tuple[Floats, Floats], curvature: Curvature | None = None
) -> Floats:
    """Where `loss` is lowest between the lower and upper bounds, all of shape (k,).

    `curvature` gives second derivatives of shape (k, k); without it they are differences of the
    gradient.
    """
    lower, upper = bounds
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(lower, upper, strict=True)),
        options={"maxiter": 1_000, "ftol": 1e-11, "gtol": 1e-6},
    )
    x = np.clip(np.asarray(found.x, dtype=np.float64), lower, upper)
    second = curvature or (lambda at: _differences(loss, at))
    value, gradient = loss(x)
    for _ in range(_STEPS):
        # At a bound and pushed against it, a parameter stays there.
        free = ~(((x <= lower) & (gradient > 0)) | ((x >= upper) & (gradient < 0)))
        if not free.any():
            break
        step = np.zeros_like(x)
        step[free] = -_solved(second(x)[np.ix_(free, free)], gradient[free])
        before = x
        x, value, gradient = _descended(loss, x, step, value, bounds)
        if np.abs(x - before).max() < _STILL:
            break
    return x


def _descended(
    loss: Loss, x: Floats, step: Floats, value: float, bounds: tuple[Floats, Floats]
) -> tuple[Floats, float, Floats]:
    """A step, or a part of it, that does not lead upwards by more than a sum's last bits."""
    size = 1.0
    while True:
        there = np.clip(x + size * step, *bounds)
        new, gradient = loss(there)
        if new <= value + 1e-13 * abs(value) or size < 1e-8:
            return there, new, gradient
        size /= 4.0


def _solved(matrix: Floats, vector: Floats) -> Floats:
    """The Newton step; downhill too where the loss is not convex."""
    values, vectors = np.linalg.eigh(matrix)
    sizes = np.maximum(np.abs(values), 1e-12 * max(float(np.abs(values).max()), 1.0))
    return np.asarray(vectors @ ((vectors.T @ vector) / sizes), dtype=np.float64)


def _differences(loss: Loss, x: Floats) -> Floats:
    k = len(x)
    found = np.empty((k, k))
    for at in range(k):
        shift = np.zeros(k)
        shift[at] = _DIFFERENCE
        found[at] = (loss(x + shift)[1] - loss(x - shift)[1]) / (2 * _DIFFERENCE)
    return (found + found.T) / 2.0
