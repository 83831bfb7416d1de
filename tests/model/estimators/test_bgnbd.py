"""BG/NBD and Gamma-Gamma against the published estimates and a slow numeric twin."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import beta, gamma

from model.estimators.bgnbd import BGNBD, FitError, GammaGamma, clv

_SAMPLE = Path(__file__).parents[2] / "data" / "cdnow_sample_summary.csv"
# Fader, Hardie & Lee (2005), table 2; Fader & Hardie (2013), p. 7.
_PUBLISHED = BGNBD(r=0.243, alpha=4.414, a=0.793, b=2.426, log_likelihood=-9582.4)


def _sample() -> NDArray[np.float64]:
    """Columns x, t_x, T (weeks) and mean repeat purchase of the CDNOW 1/10 sample, (2357, 4)."""
    with _SAMPLE.open() as file:
        rows = [
            [float(row[name]) for name in ("x", "t_x", "T", "zbar")]
            for row in csv.DictReader(file)
            for _ in range(int(row["customers"]))
        ]
    return np.array(rows)


def test_fit_reproduces_the_published_bgnbd_estimates_on_the_cdnow_sample() -> None:
    x, t_x, T, _ = _sample().T
    assert len(x) == 2357
    fitted = BGNBD.fit(x, t_x, T)
    assert round(fitted.r, 3) == 0.243
    assert fitted.alpha == pytest.approx(4.414, abs=0.001)
    assert round(fitted.a, 3) == 0.793
    assert round(fitted.b, 3) == 2.426
    assert round(fitted.log_likelihood, 1) == -9582.4


def test_fit_reproduces_the_published_gamma_gamma_estimates() -> None:
    x, _, _, value = _sample().T
    fitted = GammaGamma.fit(x, value)
    assert fitted.p == pytest.approx(6.25, abs=0.01)
    assert fitted.q == pytest.approx(3.74, abs=0.01)
    assert fitted.gamma == pytest.approx(15.44, abs=0.02)
    assert fitted.log_likelihood == pytest.approx(-4055.92, abs=0.01)


def test_the_published_example_customer_is_expected_to_buy_1_226_times_in_39_weeks() -> None:
    expected = _PUBLISHED.expected_purchases(39.0, 2, 30.43, 38.86)
    assert expected[0] == pytest.approx(1.226, abs=0.001)


@pytest.mark.parametrize(
    ("x", "t_x", "T"), [(0, 0.0, 38.86), (1, 1.71, 38.86), (2, 30.43, 38.86), (9, 20.0, 30.0)]
)
def test_formulas_agree_with_integrals_over_all_rates_and_dropout_probabilities(
    x: int, t_x: float, T: float
) -> None:
    alive, expected = _by_integration(_PUBLISHED, 39.0, x, t_x, T)
    assert _PUBLISHED.probability_alive(x, t_x, T)[0] == pytest.approx(alive, rel=1e-5)
    assert _PUBLISHED.expected_purchases(39.0, x, t_x, T)[0] == pytest.approx(expected, rel=1e-5)


def _by_integration(m: BGNBD, t: float, x: int, t_x: float, T: float) -> tuple[float, float]:
    """P(alive) and expected purchases in (T, T + t] by the model's definition, no closed forms.

    A customer of rate u and dropout probability p who is alive buys (1 - exp(-p u t)) / p times
    (Fader, Hardie & Lee 2005, eq. 2). Everything is integrated over u and p by Gauss quadrature.
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    quantiles, weights = (nodes + 1) / 2, weights / 2
    p = beta.ppf(quantiles, m.a, m.b)[None, :]

    def given_rate(u: float) -> NDArray[np.float64]:
        still = (1 - p) ** x * u**x * np.exp(-u * T)
        gone = p * (1 - p) ** (x - 1) * u**x * np.exp(-u * t_x) if x else np.zeros_like(p)
        future = still * (1 - np.exp(-p * u * t)) / p
        return np.array([(weights * part).sum() for part in (still, gone, future)])

    prior = gamma(m.r, scale=1 / m.alpha)
    # In u**r the gamma prior's pole at 0 is gone.
    parts = [
        quad(
            lambda s, part=part: float(
                given_rate(s ** (1 / m.r))[part]
                * prior.pdf(s ** (1 / m.r))
                * s ** (1 / m.r - 1)
                / m.r
            ),
            1e-12,
            6.0**m.r,
            limit=400,
            epsrel=1e-9,
        )[0]
        for part in range(3)
    ]
    still, gone, future = parts
    return still / (still + gone), future / (still + gone)


def test_time_may_be_in_any_unit() -> None:
    x, t_x, T, _ = _sample().T
    weeks, days = BGNBD.fit(x, t_x, T), BGNBD.fit(x, t_x * 7, T * 7)
    np.testing.assert_allclose(
        weeks.expected_purchases(39, x, t_x, T),
        days.expected_purchases(273, x, t_x * 7, T * 7),
        rtol=1e-3,
    )


def test_a_customer_without_a_repeat_purchase_is_alive_for_ever() -> None:
    assert _PUBLISHED.probability_alive([0, 0], [0, 0], [1, 10_000]).tolist() == [1.0, 1.0]


@given(
    x=st.integers(0, 2_000),
    T=st.floats(1.0, 3_000.0),
    share=st.floats(0.0, 1.0),
    a=st.sampled_from([0.01, 0.793, 1.0, 1.5, 40.0]),
    b=st.sampled_from([0.05, 2.426, 60.0]),
)
def test_expectations_are_finite_and_never_negative(
    x: int, T: float, share: float, a: float, b: float
) -> None:
    model = BGNBD(0.243, 4.414, a, b, 0.0)
    t_x = T * share if x else 0.0
    expected = model.expected_purchases(90.0, x, t_x, T)[0]
    assert np.isfinite(expected)
    assert expected >= -1e-9
    # Nobody is expected to buy more than their own posterior rate allows.
    assert expected <= 90.0 * (model.r + x) / (model.alpha + T) * (1 + 1e-6)


def test_a_dropout_probability_that_is_the_same_for_all_is_no_end_of_the_formula() -> None:
    """The likelihood may have its maximum at infinite a and b with a constant a / (a + b)."""
    expected = [
        BGNBD(0.77, 28.9, 0.2224 * scale, 0.7776 * scale, 0.0).expected_purchases(
            60, [3, 9, 0], [200, 284, 0], [292, 289, 15]
        )
        for scale in (5e3, 2e4, 1e6)
    ]
    np.testing.assert_allclose(expected[1], expected[0], rtol=2e-3)
    np.testing.assert_allclose(expected[2], expected[1], rtol=4e-4)


@given(st.floats(0.01, 1e6), st.integers(1, 500))
def test_expected_value_lies_between_the_customers_mean_and_everybodys(
    own: float, purchases: int
) -> None:
    model = GammaGamma(6.25, 3.74, 15.44, 0.0)
    everybody = model.expected_value(0, 0)[0]
    low, high = sorted((own, everybody))
    assert low * (1 - 1e-9) <= model.expected_value(purchases, own)[0] <= high * (1 + 1e-9)


def test_clv_is_purchases_times_value() -> None:
    spend = GammaGamma(6.25, 3.74, 15.44, 0.0)
    value = clv(_PUBLISHED, spend, 39.0, 2, 30.43, 38.86, 22.35)[0]
    assert value == pytest.approx(1.226 * 24.66, rel=0.001)


def test_fit_refuses_customers_who_never_came_back() -> None:
    with pytest.raises(FitError, match="none of 2 customers has a repeat purchase"):
        BGNBD.fit([0, 0], [0, 0], [10, 20])


def test_fit_refuses_a_last_purchase_after_the_present() -> None:
    with pytest.raises(FitError, match="customer 1 has x 2, t_x 30, T 20"):
        BGNBD.fit([1, 2], [5, 30], [10, 20])


def test_spend_cannot_be_fitted_on_one_customer() -> None:
    with pytest.raises(FitError, match="at least 2"):
        GammaGamma.fit([3, 0], [10.0, 0.0])
