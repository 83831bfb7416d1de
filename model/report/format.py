"""Numbers for people, written the same way in every table, page and card; a dash for None."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

from features.events.money import minor_exponent

NONE: Final = "-"
Shown: TypeAlias = Callable[[float | None], str]


def ratio(value: float | None, decimals: int = 3) -> str:
    """A number without a unit: 0.493. From 1,000 on without its digits, 4e+03, so that a column
    keeps its width."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.{decimals}f}" if abs(value) < 1_000 else f"{value:.0e}"


def share(value: float | None, decimals: int = 1) -> str:
    """A share as a percentage: 49.3%."""
    return NONE if value is None else f"{value:.{decimals}%}"


def money(value: float | None, currency: str) -> str:
    """An amount in major units, with the decimals of its currency: 12.34 USD, 12.345 KWD, 12 JPY;
    12,345, 1.23M; never more than 8 characters."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) < 1_000:
        return f"{value:.{min(minor_exponent(currency), 3)}f}"
    return f"{value:,.0f}" if abs(value) < 999_999.5 else short(value)


def money_in(currency: str) -> Shown:
    """`money` of one currency."""
    return lambda value: money(value, currency)


def short(value: float) -> str:
    """A number in a few characters, as on an axis: 0.25, 12, 1,200, 12k, 3.4M."""
    rounded = float(f"{value:.3g}")
    for least, unit, name in ((1e12, 1.0, ""), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(rounded) >= least:
            return f"{rounded / unit:.3g}{name}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def signed(value: float, shown: Shown = ratio) -> str:
    """A difference with its sign, +0.031 or -0.031."""
    return ("-" if value < 0 else "+") + shown(abs(value))
