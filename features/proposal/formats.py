"""Which format times and amounts are written in, as far as their texts tell. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from features.mapping.instants import TimeFormat, zone_of
from features.mapping.numbers import western
from features.proposal.names import WORDS
from features.times import InstantError, NaiveInstant

_DATES: Final = (
    (re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})"), "%Y-%m-%d"),
    (re.compile(r"\d{4}-W\d{2}-\d"), "%G-W%V-%u"),
    (re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})"), "%Y/%m/%d"),
    (re.compile(r"(\d{4})\.(\d{1,2})\.(\d{1,2})"), "%Y.%m.%d"),
    (re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})"), "%d.%m.%Y"),
    (re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{2})"), "%d.%m.%y"),
    (re.compile(r"(\d{1,2})([/-])(\d{1,2})\2(\d{4}|\d{2})"), ""),  # day or month first
    (re.compile(r"\d{1,2} [A-Za-z]{3} \d{4}"), "%d %b %Y"),
    (re.compile(r"\d{1,2}-[A-Za-z]{3}-\d{4}"), "%d-%b-%Y"),
    (re.compile(r"[A-Za-z]{3} \d{1,2}, \d{4}"), "%b %d, %Y"),
    (re.compile(r"(\d{4})年(\d{1,2})月(\d{1,2})日"), "%Y年%m月%d日"),
    (re.compile(r"\d{8}"), "%Y%m%d"),
)
_CLOCK: Final = re.compile(
    r"(?P<gap>T|,? +)(?P<hm>\d{1,2}:\d{2})(?P<s>:\d{2})?(?P<f>\.\d{1,6})?(?P<ap> ?[AaPp][Mm])?"
    r"(?P<z> ?(?:[+-]\d{2}:?\d{2}|Z))?"
)
_EPOCHS: Final = {10: "epoch-s", 13: "epoch-ms", 16: "epoch-us", 19: "epoch-ns"}
_SIGNS: Final = {"€": "EUR", "£": "GBP", "zł": "PLN", "₹": "INR", "₺": "TRY", "R$": "BRL"}
_CODE: Final = re.compile(r"(?<![A-Za-z])([A-Z]{3})(?![A-Za-z])")
_CODES: Final = frozenset(WORDS["codes"])
MOSTLY: Final = 0.98


@dataclass(frozen=True, slots=True)
class TimesFound:
    """Formats of times, whether they have no zone of their own, and whether day and month cannot be
    told apart (then `formats` are the two readings)."""

    formats: tuple[str, ...]
    naive: bool
    ambiguous: bool = False


def times_of(values: Sequence[Any], *, named: bool) -> TimesFound | None:
    """How times are written; None where they are none. `named`: the column's name speaks for
    times, without which no number is taken for one."""
    if all(isinstance(value, datetime | date) for value in values):
        naive = any(getattr(value, "tzinfo", None) is None for value in values)
        return TimesFound(("iso",), naive)
    texts = [western(str(value).strip()) for value in values]
    if _all_iso(texts):
        return TimesFound(("iso",), any(_is_naive(text) for text in texts))
    if named and (epoch := _epoch(texts)):
        return TimesFound((epoch,), epoch == "excel-days")
    found: Counter[str] = Counter()
    first_over = second_over = False
    slashed: Counter[str] = Counter()
    naive = False
    for text in texts:
        parts = _parts(text)
        if parts is None:
            continue
        pattern, rest, numbers, zoned = parts
        naive = naive or not zoned
        if pattern:
            found[pattern + rest] += 1
        else:
            mark, year = numbers[1], "%Y" if len(numbers[3]) == 4 else "%y"
            slashed[f"{mark}{year}{rest}"] += 1
            first_over = first_over or int(numbers[0]) > 12
            second_over = second_over or int(numbers[2]) > 12
    if found.total() + slashed.total() < MOSTLY * len(texts) or not texts:
        return None
    if any(form.startswith("%Y%m%d") for form in found) and not named:
        return None
    if not slashed:
        return TimesFound(tuple(form for form, _ in found.most_common(4)), naive)
    day_first = [_slashed("%d", "%m", rest) for rest in slashed]
    month_first = [_slashed("%m", "%d", rest) for rest in slashed]
    if first_over and second_over:
        return None
    if not first_over and not second_over:
        return TimesFound((day_first[0], month_first[0]), naive, ambiguous=True)
    return TimesFound((*(day_first if first_over else month_first), *found), naive)


def _slashed(first: str, second: str, rest: str) -> str:
    mark = rest[0]
    return f"{first}{mark}{second}{mark}{rest[1:]}"


def _all_iso(texts: Sequence[str]) -> bool:
    reader = TimeFormat(zone=zone_of("UTC"))
    fits = 0
    for text in texts:
        try:
            reader.ms(text)
        except InstantError:
            continue
        fits += 1
    return fits >= MOSTLY * len(texts) and bool(texts)


def _is_naive(text: str) -> bool:
    try:
        TimeFormat().ms(text)
    except NaiveInstant:
        return True
    except InstantError:
        return False
    return False


def _epoch(texts: Sequence[str]) -> str | None:
    """The unit of an epoch, by its number of digits; spreadsheets' days, by their size."""
    whole = [text.partition(".")[0] for text in texts]
    if not all(text.isascii() and text.isdigit() for text in whole):
        return None
    sizes = Counter(map(len, whole))
    size, times = sizes.most_common(1)[0]
    if size in _EPOCHS and times >= MOSTLY * len(whole):
        return _EPOCHS[size]
    if size == 5 and all(20_000 <= int(text) < 80_000 for text in whole):
        return "excel-days"
    return None


def _parts(text: str) -> tuple[str, str, tuple[str, ...], bool] | None:
    """Format of the date (empty: day or month first), format of the rest, the date's numbers, and
    whether it has a zone."""
    for pattern, form in _DATES:
        found = pattern.match(text)
        if found is None:
            continue
        rest = text[found.end() :]
        if not rest:
            return form, "", found.groups(), False
        clock = _CLOCK.fullmatch(rest)
        if clock is None:
            continue
        hours = "%I:%M" if clock["ap"] else "%H:%M"
        after = clock["gap"] + hours + ("%S".rjust(3, ":") if clock["s"] else "")
        after += ".%f" if clock["f"] else ""
        if clock["ap"]:
            after += " %p" if clock["ap"].startswith(" ") else "%p"
        if clock["z"]:
            after += " %z" if clock["z"].startswith(" ") else "%z"
        return form, after, found.groups(), bool(clock["z"])
    return None


@dataclass(frozen=True, slots=True)
class AmountsFound:
    """How amounts are written: the decimal mark (None: their texts leave it open), the currency
    beside them (`currencies`: all of them, where there are several), and whether some are below 0
    and all are whole."""

    decimal: str | None
    currency: str | None
    negative: bool
    whole: bool
    example: str = ""
    currencies: tuple[str, ...] = ()


def amounts_of(values: Sequence[Any]) -> AmountsFound | None:
    """How amounts are written; None where the values are no amounts."""
    says: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    unclear, example = 0, ""
    negative, whole, fits = False, True, 0
    for value in values:
        text = western(str(value).strip())
        digits = re.sub(r"[^\d.,]", "", text).strip(".,")
        letters = re.sub(r"[\d.,\s'’()+-]", "", text).replace("\u2212", "")
        if not digits or len(letters) > 4 or not re.search(r"\d", digits):
            continue
        fits += 1
        negative = negative or text.startswith(("-", "(", "\u2212")) or text.endswith("-")
        code = _SIGNS.get(letters) or (letters if letters in _CODES else None)
        codes[code or ("$" if "$" in letters else "")] += 1
        mark = _decimal_mark(digits)
        whole = whole and mark == "" and not re.search(r"[.,]", digits)
        if mark == "?":
            unclear, example = unclear + 1, example or text
        elif mark:
            says[mark] += 1
    if not values or fits < MOSTLY * len(values):
        return None
    code = codes.most_common(1)[0][0]
    currency = code if code and code != "$" else None
    several = tuple(code for code, _ in codes.most_common() if code)
    several = several if len(several) > 1 else ()
    if says[","] and says["."]:
        return AmountsFound(None, currency, negative, False, example, several)
    if not says and unclear:
        return AmountsFound(None, currency, negative, False, example, several)
    decimal = "," if says[","] else "."
    return AmountsFound(decimal, currency, negative, whole, "", several)


def _decimal_mark(digits: str) -> str:
    """The decimal mark of one number; "" where it needs none, "?" where it may be either."""
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        return "." if digits.rfind(".") > digits.rfind(",") else ","
    if not points and not commas:
        return ""
    mark = "." if points else ","
    if points + commas > 1:  # only thousands come twice
        return "," if mark == "." else "."
    head, _, tail = digits.partition(mark)
    if len(tail) != 3 or len(head) > 3 or head.startswith("0"):
        return mark
    return "?"


def signs_of(code: str) -> tuple[str, ...]:
    """What stands for a currency beside amounts."""
    return (code, *(sign for sign, of in _SIGNS.items() if of == code))


def code_in(name: str) -> str | None:
    """The currency that a column's name has: `Betrag (EUR)`, `amount_usd`."""
    for found in _CODE.findall(name.replace("_", " ").upper()):
        if found in _CODES:
            return str(found)
    return next((code for sign, code in _SIGNS.items() if sign in name and len(sign) == 1), None)
