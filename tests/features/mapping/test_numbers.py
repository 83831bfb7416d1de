"""Amounts as people write them: exact, or refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.money import AmountError
from features.mapping.numbers import major, number_of, plain, product, total


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("12.50", ".", "12.50"),
        (".5", ".", "0.5"),
        ("1,234.50", ".", "1234.50"),
        ("1,23,456.00", ".", "123456.00"),
        ("1'234.50", ".", "1234.50"),
        ("$1,234.50", ".", "1234.50"),
        ("-$12.50", ".", "-12.50"),
        ("$-12.50", ".", "-12.50"),
        ("(12.50)", ".", "-12.50"),
        ("12.50-", ".", "-12.50"),
        ("\u221212.50", ".", "-12.50"),
        ("US$ 12.50", ".", "12.50"),
        ("12.50 USD", ".", "12.50"),
        ("1e-05", ".", "0.00001"),
        ("12,50", ",", "12.50"),
        ("1.234,50 €", ",", "1234.50"),
        ("1 234,50 zł", ",", "1234.50"),
        ("1\u202f234,50\u00a0€", ",", "1234.50"),
        ("CHF 12,50", ",", "12.50"),
        ("R$ 1.234,50", ",", "1234.50"),
        ("-1.234", ",", "-1234"),
        ("kr. 99,00", ",", "99.00"),
        ("٣", ".", "3"),
        ("۱٬۲۳۴٫۵۰", ".", "1234.50"),
    ],
)
def test_an_amount_is_read_as_it_is_meant(text: str, decimal: str, value: str) -> None:
    assert number_of(text, decimal) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "decimal"),
    [
        ("12,50", "."),
        ("12.50", ","),
        ("1.234.50", "."),
        ("1,2,3", "."),
        ("12.5.0", ","),
        ("--5", "."),
        ("(-5)", "."),
        ("", "."),
        ("NaN", "."),
        ("Infinity", "."),
        ("1e999999", "."),
        ("twelve", "."),
        ("12.50 per piece", "."),
        ("9" * 65, "."),
    ],
)
def test_what_may_mean_something_else_is_refused(text: str, decimal: str) -> None:
    with pytest.raises(AmountError):
        number_of(text, decimal)


def test_an_amount_with_the_other_mark_is_told_the_option() -> None:
    with pytest.raises(AmountError, match='decimal = ","'):
        number_of("12,50", ".")


@given(st.decimals(-(10**9), 10**9, places=2), st.sampled_from([".", ","]))
def test_grouped_and_plain_are_one_number(amount: Decimal, decimal: str) -> None:
    grouped = f"{amount:,.2f}"
    if decimal == ",":
        grouped = grouped.translate(str.maketrans(",.", ".,"))
    assert number_of(grouped, decimal) == amount


def test_sums_products_and_minor_units_are_exact() -> None:
    assert total([Decimal("0.1")] * 3) == Decimal("0.3")
    assert product([Decimal("3"), Decimal("0.1")]) == Decimal("0.3")
    assert major(Decimal(1250), "USD", {}) == Decimal("12.50")
    assert major(Decimal(1250), "JPY", {}) == Decimal("1250")
    assert major(Decimal(1250), "ISK", {"ISK": 2}) == Decimal("12.50")


def test_a_computed_amount_of_three_decimals_is_not_taken_for_thousands() -> None:
    assert plain(Decimal("1.045"), computed=True) == "1.0450"
    assert plain(Decimal("1.045")) == "1.045"
