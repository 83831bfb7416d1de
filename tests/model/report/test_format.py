"""Numbers for people: short, signed, and a dash where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.report.format import money, money_in, ratio, share, short, signed


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (12.0, "12"), (1200.0, "1,200"), (12_000.0, "12k"), (-3_400_000.0, "-3.4M")],
)
def test_numbers_on_axes_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_a_difference_has_its_sign_and_nothing_is_a_dash() -> None:
    assert (signed(0.0314), signed(-1_234.5, money_in("USD"))) == ("+0.031", "-1,234")
    assert {ratio(None), money(None, "USD"), share(None), ratio(float("nan"))} == {"-"}
    assert (share(0.4931), share(0.4931, 0)) == ("49.3%", "49%")


@pytest.mark.parametrize(
    ("currency", "text"), [("USD", "12.47"), ("KWD", "12.473"), ("JPY", "12"), ("CLF", "12.473")]
)
def test_money_has_the_decimals_of_its_currency(currency: str, text: str) -> None:
    assert money(12.4726, currency) == text
    assert signed(12.4726, money_in(currency)) == f"+{text}"


@given(st.floats(-1e12, 1e12), st.sampled_from(["USD", "KWD", "JPY", "CLF"]))
def test_a_columns_numbers_keep_to_its_width(value: float, currency: str) -> None:
    assert len(money(value, currency)) <= 8
    assert len(ratio(value)) <= 8
