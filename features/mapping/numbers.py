"""Amounts as people and spreadsheets write them, read exactly or not at all."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Final

from features.events.money import AmountError, minor_exponent

# Of its own, so that no caller's decimal context changes an amount; what lies behind 60 digits is
# far below the finest unit of any that is taken.
_CONTEXT: Final = Context(prec=60, traps=[InvalidOperation])
_BLANKS: Final = re.compile(r"[\s\u00a0\u2007\u2009\u202f]+")
# A currency before or behind the digits: its sign, its code, or a short word such as kr. or zł.
_SIGN: Final = r"(?:[$€£¥₹₽₩₫₺₴₪₦฿₱₡₲₸₼₾]|[^\W\d_]{1,3}[$.]?|[^\W\d_]{2}\.?)"
_MONEY: Final = re.compile(rf"([-+]?){_SIGN}{{0,2}}([-+]?)([0-9.,'’]+)([-+]?){_SIGN}{{0,2}}")
# Groups of three, the last one always; of two before it, as in India.
_GROUPED: Final = {
    ".": re.compile(r"\d{1,3}(?:(?:,\d{2,3})*,\d{3}|(?:['’]\d{3})+)?(\.\d+)?|\d+(\.\d*)?|\.\d+"),
    ",": re.compile(r"\d{1,3}(?:(?:\.\d{2,3})*\.\d{3}|(?:['’]\d{3})+)?(,\d+)?|\d+(,\d*)?|,\d+"),
}
_PLAIN: Final = re.compile(r"-?\d+(\.\d+)?")
_MOST_CHARS: Final = 64


def number_of(value: object, decimal: str) -> Decimal:
    """The number in a JSON value or a cell: a sign before or behind it, or parentheses, a currency
    beside it and thousands grouped by the other mark than `decimal`. Raises AmountError.

    >>> number_of("1.234,50 €", ","), number_of("($12.50)", "."), number_of(7, ".")
    (Decimal('1234.50'), Decimal('-12.50'), Decimal('7'))
    """
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return Decimal(value)
    if isinstance(value, float):
        value = repr(value)
        decimal = "."
    if not isinstance(value, str):
        raise AmountError("is not a number")
    text = western(value.strip())
    if len(text) > _MOST_CHARS:
        raise AmountError("is not a number")
    if decimal == "." and _PLAIN.fullmatch(text) and text.isascii():
        return Decimal(text)
    negative = text.startswith("(") and text.endswith(")")
    if negative:
        text = text[1:-1]
    if _scientific(text):
        return Decimal(text)
    found = _MONEY.fullmatch(_BLANKS.sub("", text).replace("\u2212", "-"))
    signs = [] if found is None else [sign for sign in (found[1], found[2], found[4]) if sign]
    if found is None or len(signs) + negative > 1 or not _GROUPED[decimal].fullmatch(found[3]):
        remedy = "" if found is None else _other(found[3], decimal)
        raise AmountError(f"is not a number with a decimal {_name(decimal)}{remedy}")
    other = "," if decimal == "." else "."
    digits = re.sub(rf"['’{re.escape(other)}]", "", found[3]).replace(",", ".")
    number = Decimal(digits)
    return -number if negative or signs == ["-"] else number


def western(text: str) -> str:
    """A text with the digits and the marks of other scripts as Europe has them.

    >>> western("۱٬۲۳۴٫۵۰")
    '1,234.50'
    """
    if text.isascii():
        return text
    digits = (str(unicodedata.decimal(mark)) if mark.isdecimal() else mark for mark in text)
    return "".join(digits).replace("٬", ",").replace("٫", ".")


def _scientific(text: str) -> bool:
    """Whether a program wrote the number: 1e-05."""
    return re.fullmatch(r"-?\d(\.\d+)?[eE][-+]?\d{1,3}", text) is not None and text.isascii()


def _name(decimal: str) -> str:
    return "point" if decimal == "." else "comma"


def _other(digits: str, decimal: str) -> str:
    """The remedy where the number would be one with the other mark."""
    other = "," if decimal == "." else "."
    if not _GROUPED[other].fullmatch(digits):
        return ""
    return f'; it is one with a decimal {_name(other)}: say decimal = "{other}"'


def product(numbers: list[Decimal]) -> Decimal:
    """Numbers multiplied, to 60 digits."""
    found = Decimal(1)
    for number in numbers:
        found = _CONTEXT.multiply(found, number)
    return found


def total(numbers: list[Decimal]) -> Decimal:
    """Numbers added up, to 60 digits."""
    found = Decimal(0)
    for number in numbers:
        found = _CONTEXT.add(found, number)
    return found


def major(minor: Decimal, currency: str, decimals: Mapping[str, int]) -> Decimal:
    """Minor units as major ones; `decimals` are those of currencies that a provider counts
    otherwise than ISO 4217 does."""
    exponent = decimals.get(currency, minor_exponent(currency))
    return _CONTEXT.scaleb(minor, -exponent)


def plain(number: Decimal, *, computed: bool = False) -> str:
    """The number as JSON has it. One that was computed gets a fourth decimal behind three, for it
    cannot be a number of thousands.

    >>> plain(Decimal("1E+3")), plain(Decimal("1.045"), computed=True)
    ('1000', '1.0450')
    """
    text = format(number, "f")
    if computed and len(text.partition(".")[2]) == 3:
        return text + "0"
    return text
