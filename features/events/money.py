"""Money as whole minor units, so that sums do not depend on the order of arrival."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Final, NamedTuple

from features.errors import FactsError

# ISO 4217 currencies whose minor unit is not a hundredth; every other code has two decimals.
_EXPONENTS: Final = (
    dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF"), 0)
    | dict.fromkeys(("UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0)
    | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
    | dict.fromkeys(("CLF", "UYW"), 4)
)

# Units of a currency that are about one US dollar, as a power of ten, where they are many: what is
# a typing error in dollars is an order among businesses in rupiah.
_PER_DOLLAR: Final = (
    dict.fromkeys(("AMD", "ARS", "CLP", "CRC", "HUF", "IQD", "JPY", "KMF", "KRW", "KZT", "LKR"), 3)
    | dict.fromkeys(("MWK", "NGN", "PKR", "RWF", "SSP", "SDG", "XAF", "XOF", "XPF", "YER"), 3)
    | dict.fromkeys(
        ("BIF", "COP", "GNF", "IDR", "KHR", "LAK", "MGA", "MMK", "MNT", "PYG", "IRR", "LBP"), 5
    )
    | dict.fromkeys(("SLE", "SLL", "STN", "SYP", "TZS", "UGX", "UZS", "VES", "VND", "ZWG"), 5)
    | dict.fromkeys(("IRR", "LBP"), 5)
)

# Beyond this much in US dollars, roughly, a single order is an error; in minor units of whatever
# currency it is less than a thousandth of what a customer's sums can hold.
MAX_AMOUNT_DOLLARS: Final = 10**9
# A rest this small is not money but the sum of floats.
_NOISE: Final = Decimal("1e-9")
_THOUSANDS: Final = re.compile(r"-?[1-9]\d{0,2}\.\d{3}")
# Of its own, so that no caller's decimal context changes an amount; 1e9 major units of the finest
# currency are 14 digits.
_CONTEXT: Final = Context(prec=28, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])


class AmountError(FactsError):
    """The amount cannot be kept; the message says what an amount must look like."""


class AmbiguousAmount(AmountError):
    """The amount may mean a thousand times as much: write it with as many decimals as its currency
    has, or with none."""


class Amount(NamedTuple):
    """Minor units, and whether the amount had more decimals than its currency, which are gone."""

    minor: int
    rounded: bool


def minor_exponent(currency: str) -> int:
    """Decimals of a currency's minor unit: 2 for USD, 0 for JPY, 3 for KWD (ISO 4217)."""
    return _EXPONENTS.get(currency, 2)


def amount_text(amount_minor: int, currency: str) -> str:
    """Minor units written in major units, exactly.

    >>> amount_text(1205, "USD"), amount_text(1205, "JPY"), amount_text(5, "KWD")
    ('12.05', '1205', '0.005')
    """
    exponent = minor_exponent(currency)
    if not exponent:
        return str(amount_minor)
    digits = str(amount_minor).rjust(exponent + 1, "0")
    return f"{digits[:-exponent]}.{digits[-exponent:]}"


def max_amount_major(currency: str) -> int:
    """The largest amount of one order, in major units: about 1e9 US dollars."""
    return int(MAX_AMOUNT_DOLLARS * 10 ** _PER_DOLLAR.get(currency, 0))


NO_CURRENCY: Final = "XXX"
"""ISO 4217 for no currency: what amounts are in where nothing names one."""


def currency_name(code: str) -> str:
    """What to call a currency before people."""
    return "currency units" if code == NO_CURRENCY else code


def money_text(major: float, currency: str, *, signed: bool = False) -> str:
    """An amount in major units for people: thousands grouped, the decimals of its currency; with
    a plus where it is above 0, if `signed`.

    >>> money_text(1234.5, "USD"), money_text(12.473, "KWD"), money_text(1234.5, "JPY")
    ('1,234.50', '12.473', '1,234')
    """
    return f"{major:{'+' if signed else ''},.{minor_exponent(currency)}f}"


def priced(major: float, currency: str) -> str:
    """`money_text`, and what the currency is called."""
    return f"{money_text(major, currency)} {currency_name(currency)}"


def read_amount(text: str, currency: str) -> Amount:
    """Minor units of a decimal number written in major units, sign kept.

    Read digit by digit, never through a float. What is finer than the minor unit is rounded once,
    half to even; the rest that a sum of floats leaves (0.30000000000000004) is not called rounding.
    Raises AmbiguousAmount for three decimals of a currency that has fewer, which may be thousands,
    and AmountError for text that is no finite number or more than `max_amount_major`.

    >>> read_amount("12.5", "USD"), read_amount("-7.999", "EUR")
    (Amount(minor=1250, rounded=False), Amount(minor=-800, rounded=True))
    """
    exponent = minor_exponent(currency)
    whole, _, fraction = text.partition(".")
    # The short way for what nearly every shop sends; anything unusual goes through Decimal.
    if len(whole) <= 9 and len(fraction) <= exponent and text.isascii():
        digits = whole + fraction
        if digits.isdigit():
            return Amount(int(digits) * 10 ** (exponent - len(fraction)), False)
    amount = _decimal(text)
    if exponent < len(fraction) == 3 and _THOUSANDS.fullmatch(text):
        raise AmbiguousAmount(
            f"is {whole}{fraction} or {text[:-1]} {currency}: write {exponent} decimals, or none"
        )
    # copy_abs, unlike abs, neither rounds nor overflows: 1e1000000 is simply more than the bound.
    if amount.copy_abs() > (most := max_amount_major(currency)):
        raise AmountError(f"is more than {most:.0e} {currency}".replace("+", "").replace("e0", "e"))
    kept = amount.quantize(Decimal(1).scaleb(-exponent, _CONTEXT), context=_CONTEXT)
    lost = _CONTEXT.abs(_CONTEXT.subtract(amount, kept))
    noise = _CONTEXT.multiply(_NOISE, max(kept.copy_abs(), Decimal(1)))
    return Amount(int(kept.scaleb(exponent, _CONTEXT)), lost > noise)


def _decimal(text: str) -> Decimal:
    # Decimal would read 1_000, and digits of any script.
    if not text.isascii() or "_" in text:
        raise AmountError("is not a decimal number")
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise AmountError("is not a decimal number") from None
    if not amount.is_finite():
        raise AmountError("is not finite")
    return amount
