"""Money as whole minor units, so that sums do not depend on the order of arrival."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Final

from features.errors import FactsError

# ISO 4217 currencies whose minor unit is not a hundredth; every other code has two decimals.
_EXPONENTS: Final = (
    dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF"), 0)
    | dict.fromkeys(("UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0)
    | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
    | dict.fromkeys(("CLF", "UYW"), 4)
)

MAX_AMOUNT_MAJOR: Final = 10**9
# Of its own, so that no caller's decimal context changes an amount; 1e9 major units of the finest
# currency are 14 digits.
_CONTEXT: Final = Context(prec=28, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])


class AmountError(FactsError):
    """The amount cannot be kept; the message says what an amount must look like."""


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


def to_minor(text: str, exponent: int) -> int:
    """Minor units of a decimal number written in major units, sign kept.

    Read digit by digit, never through a float. What is finer than the minor unit (a shop that
    sums in floats sends 0.30000000000000004) is rounded once, half to even.
    Raises AmountError for text that is not a finite number and for more than 1e9 major units.

    >>> to_minor("12.5", 2), to_minor("0.30000000000000004", 2), to_minor("-7", 0)
    (1250, 30, -7)
    """
    whole, _, fraction = text.partition(".")
    # The short way for what nearly every shop sends; anything unusual goes through Decimal.
    if len(whole) <= 9 and len(fraction) <= exponent and text.isascii():
        digits = whole + fraction
        if digits.isdigit():
            scale: int = 10 ** (exponent - len(fraction))
            return int(digits) * scale
    return _to_minor_exactly(text, exponent)


def _to_minor_exactly(text: str, exponent: int) -> int:
    # Decimal would read 1_000, and digits of any script.
    if not text.isascii() or "_" in text:
        raise AmountError("is not a decimal number")
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise AmountError("is not a decimal number") from None
    if not amount.is_finite():
        raise AmountError("is not finite")
    # copy_abs, unlike abs, neither rounds nor overflows: 1e1000000 is simply more than 1e9.
    if amount.copy_abs() > MAX_AMOUNT_MAJOR:
        raise AmountError("is more than 1e9")
    minor_unit = Decimal(1).scaleb(-exponent, _CONTEXT)
    return int(amount.quantize(minor_unit, context=_CONTEXT).scaleb(exponent, _CONTEXT))
