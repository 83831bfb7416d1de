"""Amounts are exact: what a shop writes is what is kept, to the minor unit."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.money import MAX_AMOUNT_MAJOR, AmountError, minor_exponent, to_minor


@pytest.mark.parametrize(
    ("text", "exponent", "minor"),
    [
        ("0", 2, 0),
        ("0.1", 2, 10),
        ("0.2", 2, 20),
        (repr(0.1 + 0.2), 2, 30),
        ("-0.0", 2, 0),
        ("1e-400", 2, 0),
        ("-1e-400", 2, 0),
        ("1e-99999999", 2, 0),
        ("0e99999999", 2, 0),
        ("1E3", 2, 100_000),
        ("12.5", 2, 1_250),
        ("-12.5", 2, -1_250),
        ("0.005", 2, 0),
        ("0.015", 2, 2),
        ("0.005" + "0" * 60 + "1", 2, 1),
        ("0." + "3" * 5_000, 2, 33),
        ("1" + "0" * 8 + ".999", 3, 100_000_000_999),
        ("1000000000", 2, 100_000_000_000),
        ("1000000000", 4, 10_000_000_000_000),
        ("999999999.9999", 4, 9_999_999_999_999),
        ("7", 0, 7),
        ("7.5", 0, 8),
        ("6.5", 0, 6),
        (".5", 2, 50),
        ("5.", 2, 500),
    ],
)
def test_an_amount_is_read_digit_by_digit(text: str, exponent: int, minor: int) -> None:
    assert to_minor(text, exponent) == minor


@pytest.mark.parametrize(
    "text",
    ["1000000000.01", "-1000000000.01", "1e10", "1e18", "1e999", "1e1000000", "9" * 5_000],
)
def test_an_amount_beyond_a_billion_is_refused(text: str) -> None:
    with pytest.raises(AmountError, match="more than 1e9"):
        to_minor(text, 2)


@pytest.mark.parametrize("text", ["NaN", "-nan", "sNaN", "Infinity", "-inf"])
def test_an_amount_that_is_not_finite_is_refused(text: str) -> None:
    with pytest.raises(AmountError, match="not finite"):
        to_minor(text, 2)


@pytest.mark.parametrize(
    "text",
    ["", ".", "-", "e5", "1,50", "1_000", "0x10", "1 2", "١٢", "\uff11", "1.2.3", "$5", "\ud800"],
)
def test_what_is_no_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(AmountError, match="not a decimal number"):
        to_minor(text, 2)


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [("USD", 2), ("EUR", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("CLF", 4)],
)
def test_each_currency_has_the_decimals_of_iso_4217(currency: str, decimals: int) -> None:
    assert minor_exponent(currency) == decimals


_EXPONENTS = st.sampled_from([0, 2, 3, 4])


@given(st.integers(-MAX_AMOUNT_MAJOR * 100, MAX_AMOUNT_MAJOR * 100), _EXPONENTS)
def test_whole_minor_units_survive_being_written_and_read(minor: int, exponent: int) -> None:
    minor = min(minor, MAX_AMOUNT_MAJOR * 10**exponent)
    minor = max(minor, -MAX_AMOUNT_MAJOR * 10**exponent)
    assert to_minor(f"{Decimal(minor).scaleb(-exponent):f}", exponent) == minor


@given(
    st.decimals(-MAX_AMOUNT_MAJOR, MAX_AMOUNT_MAJOR, allow_nan=False, allow_infinity=False),
    _EXPONENTS,
)
def test_rounding_is_half_to_even_and_happens_once(amount: Decimal, exponent: int) -> None:
    exact = Fraction(amount) * 10**exponent
    assert to_minor(str(amount), exponent) == round(exact)


@given(st.text(max_size=30), _EXPONENTS)
def test_text_of_any_kind_is_an_amount_or_an_amount_error(text: str, exponent: int) -> None:
    try:
        minor = to_minor(text, exponent)
    except AmountError:
        return
    assert abs(minor) <= MAX_AMOUNT_MAJOR * 10**exponent


def test_the_callers_decimal_context_changes_no_amount() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps[decimal.Inexact] = True
        assert to_minor("123456.7849", 2) == 12_345_678
