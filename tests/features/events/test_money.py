"""Amounts are exact: what a shop writes is what is kept, to the minor unit."""

from __future__ import annotations

import decimal
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from features.events.money import (
    AmbiguousAmount,
    AmountError,
    max_amount_major,
    minor_exponent,
    money_text,
    read_amount,
)

# A currency of each exponent.
_OF = {0: "VUV", 2: "USD", 3: "KWD", 4: "CLF"}


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
        ("0.0050", 2, 0),
        ("0.0150", 2, 2),
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
    assert read_amount(text, _OF[exponent]).minor == minor


@pytest.mark.parametrize(
    "text",
    ["1000000000.01", "-1000000000.01", "1e10", "1e18", "1e999", "1e1000000", "9" * 5_000],
)
def test_an_amount_beyond_a_billion_is_refused(text: str) -> None:
    with pytest.raises(AmountError, match="more than 1e9"):
        read_amount(text, "USD")


@pytest.mark.parametrize("text", ["NaN", "-nan", "sNaN", "Infinity", "-inf"])
def test_an_amount_that_is_not_finite_is_refused(text: str) -> None:
    with pytest.raises(AmountError, match="not finite"):
        read_amount(text, "USD")


@pytest.mark.parametrize(
    "text",
    ["", ".", "-", "e5", "1,50", "1_000", "0x10", "1 2", "١٢", "\uff11", "1.2.3", "$5", "\ud800"],
)
def test_what_is_no_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(AmountError, match="not a decimal number"):
        read_amount(text, "USD")


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [("USD", 2), ("EUR", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("CLF", 4)],
)
def test_each_currency_has_the_decimals_of_iso_4217(currency: str, decimals: int) -> None:
    assert minor_exponent(currency) == decimals


_MOST = 10**9
_EXPONENTS = st.sampled_from([0, 2, 3, 4])


@given(st.integers(-_MOST * 100, _MOST * 100), _EXPONENTS)
def test_whole_minor_units_survive_being_written_and_read(minor: int, exponent: int) -> None:
    minor = min(minor, _MOST * 10**exponent)
    minor = max(minor, -_MOST * 10**exponent)
    assert read_amount(f"{Decimal(minor).scaleb(-exponent):f}", _OF[exponent]).minor == minor


@pytest.mark.parametrize(
    ("text", "currency"),
    [("1.234", "EUR"), ("12.500", "EUR"), ("-999.000", "USD"), ("1.234", "JPY"), ("19.990", "USD")],
)
def test_what_may_be_thousands_is_ambiguous(text: str, currency: str) -> None:
    with pytest.raises(AmbiguousAmount):
        read_amount(text, currency)


@pytest.mark.parametrize(
    ("text", "currency", "rounded"),
    [
        ("0.125", "USD", True),
        ("1.2345", "USD", True),
        ("1.5", "JPY", True),
        ("1.2345", "KWD", True),
        ("1.234", "KWD", False),
        ("1.2300", "USD", False),
        ("1250.00", "JPY", False),
        (repr(0.1 + 0.2), "USD", False),
        ("123456789.10000001", "USD", False),
    ],
)
def test_an_amount_is_rounded_where_money_is_lost(text: str, currency: str, rounded: bool) -> None:
    assert read_amount(text, currency).rounded is rounded


@pytest.mark.parametrize(
    ("text", "currency"), [("1250000000", "VND"), ("1.5e9", "IDR"), ("1e12", "IRR")]
)
def test_the_largest_amount_is_about_the_same_money_in_every_currency(
    text: str, currency: str
) -> None:
    assert read_amount(text, currency).minor == Decimal(text) * 10 ** minor_exponent(currency)
    most = max_amount_major(currency)
    # Nine hundred of the largest orders fit into the sums of a customer.
    assert most * 10 ** minor_exponent(currency) * 900 < 2**63
    with pytest.raises(AmountError, match="more than"):
        read_amount(str(most + 1), currency)


def test_money_in_print_has_the_decimals_of_its_currency() -> None:
    assert [money_text(1234.5, code) for code in ("USD", "KWD", "JPY")] == [
        "1,234.50",
        "1,234.500",
        "1,234",
    ]


@given(
    st.decimals(-_MOST, _MOST, allow_nan=False, allow_infinity=False),
    _EXPONENTS,
)
def test_rounding_is_half_to_even_and_happens_once(amount: Decimal, exponent: int) -> None:
    assume(not re.fullmatch(r"-?[1-9]\d{0,2}\.\d{3}", str(amount)) or exponent > 2)
    exact = Fraction(amount) * 10**exponent
    assert read_amount(str(amount), _OF[exponent]).minor == round(exact)


@given(st.text(max_size=30), _EXPONENTS)
def test_text_of_any_kind_is_an_amount_or_an_amount_error(text: str, exponent: int) -> None:
    try:
        minor = read_amount(text, _OF[exponent]).minor
    except AmountError:
        return
    assert abs(minor) <= _MOST * 10**exponent


def test_the_callers_decimal_context_changes_no_amount() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps[decimal.Inexact] = True
        assert read_amount("123456.7849", "USD").minor == 12_345_678
