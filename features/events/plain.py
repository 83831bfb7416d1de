"""Times and amounts read for many at once, as nearly all of them are written: plainly.

What is read here is what `features.times.text_ms` and `features.events.money.read_amount` read; all
else is left to them, one by one, so that strictness and messages are theirs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from features.arrays import Bools, Floats, Ints
from features.events.money import minor_exponent
from features.times import MS_PER_DAY, MS_PER_HOUR, UTC, Calendar

_LONGEST: Final = 32
_EPOCH_MS_DIGITS: Final = 13
_MOST_WHOLE_DIGITS: Final = 9
# Of a text of so many characters, how many are those of a date and time, and what follows them.
_DATES: Final = (10, 16, 19, 23, 26)
_SHAPES: Final = {
    size + len(offset): (size, offset)
    for offset, sizes in ((b"", _DATES), (b"Z", _DATES[1:]), (b"+00:00", _DATES[1:]))
    for size in sizes
}
_NO_DIGITS: Final = {4: b"-", 7: b"-", 10: b"Tt ", 13: b":", 16: b":", 19: b"."}
# First digit and most digits of year, month, day, hour, minute, second and milliseconds.
_FIELDS: Final = ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2), (20, 3))
_DAYS_OF_MONTH: Final = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])

_Bytes: TypeAlias = NDArray[np.uint8]


class Read(NamedTuple):
    """Whole numbers that were read, shape (n,), and which of them were: the others say nothing."""

    values: Ints
    plain: Bools


class _Texts(NamedTuple):
    """Texts as a matrix of their bytes, shape (n, `_LONGEST`), zeros after the end; their lengths,
    0 for those that are longer or no ASCII."""

    bytes: _Bytes
    length: Ints


def instants_ms(texts: Sequence[str], zone: Calendar | None = None) -> Read:
    """Epoch ms of dates, of dates with times in UTC or without an offset, and of digits that are
    epoch ms. `zone`: that of those without; None: they are not plain, as those are not that its
    clocks showed twice or never."""
    found = _texts(texts)
    return _first(_epoch(found), _civil(found, zone))


def civil_ms(texts: Sequence[str], zone: Calendar | None = None) -> Read:
    """The same without digits that are epoch ms."""
    return _civil(_texts(texts), zone)


def amounts_minor(texts: Sequence[str], currency: str) -> Read:
    """Minor units of amounts in major units, sign kept: digits with a point, and no more decimals
    than the currency has."""
    exponent = minor_exponent(currency)
    chars, length = _texts(texts)
    rows = np.arange(len(length))
    negative = chars[:, 0] == ord("-")
    digits = chars - np.uint8(48)
    is_digit = digits < 10
    is_point = chars == ord(".")
    points = is_point.sum(axis=1)
    at = np.where(points == 1, is_point.argmax(axis=1), length)
    whole = at - negative
    decimals = np.maximum(length - at - 1, 0)
    plain = (
        (is_digit.sum(axis=1) + points + negative == length)
        & (points <= 1)
        & (whole <= _MOST_WHOLE_DIGITS)
        & (decimals <= exponent)
        & (whole + decimals > 0)
    )
    minor = np.zeros(len(rows), np.int64)
    for place in range(int(length[plain].max(initial=0))):
        more = is_digit[:, place] & plain
        minor[more] = minor[more] * 10 + digits[more, place]
    minor *= 10 ** np.where(plain, exponent - decimals, 0)
    return Read(np.where(negative, -minor, minor), plain)


def _texts(texts: Sequence[str]) -> _Texts:
    length = np.fromiter(map(len, texts), np.int64, len(texts))
    if not "".join(texts).isascii():
        length[[not text.isascii() for text in texts]] = 0
    length[length > _LONGEST] = 0
    if not length.all():
        texts = [text if known else "" for text, known in zip(texts, length.tolist(), strict=True)]
    fixed = np.array(texts, f"S{_LONGEST}")
    return _Texts(fixed.view(np.uint8).reshape(len(texts), _LONGEST), length)


def _first(one: Read, other: Read) -> Read:
    return Read(np.where(one.plain, one.values, other.values), one.plain | other.plain)


def _epoch(texts: _Texts) -> Read:
    """Epoch ms of thirteen digits: 2001 to 2100, where the first is not above 4."""
    chars, length = texts
    digits = chars[:, :_EPOCH_MS_DIGITS] - np.uint8(48)
    plain = (length == _EPOCH_MS_DIGITS) & (digits < 10).all(axis=1)
    plain &= (digits[:, 0] > 0) & (digits[:, 0] < 4)
    values = np.zeros(len(length), np.int64)
    if plain.any():
        weights = 10 ** np.arange(_EPOCH_MS_DIGITS - 1, -1, -1, dtype=np.int64)
        values[plain] = digits[plain].astype(np.int64) @ weights
    return Read(values, plain)


def _civil(texts: _Texts, zone: Calendar | None) -> Read:
    """Epoch ms of what is written as a date, perhaps with a time of it."""
    values, plain = np.zeros(len(texts.length), np.int64), np.zeros(len(texts.length), bool)
    for length in np.unique(texts.length).tolist():
        size, offset = _SHAPES.get(length, (0, b""))
        if not size or (not offset and zone is None):
            continue
        at = np.flatnonzero(texts.length == length)
        chars = texts.bytes if len(at) == len(values) else texts.bytes[at]
        fits = (chars[:, size:length] == np.frombuffer(offset, np.uint8)).all(axis=1)
        ms, is_date = _shown(chars, size)
        if not offset and zone is not None:
            ms, steady = _from_zone(ms, zone)
            is_date &= steady
        values[at], plain[at] = ms, fits & is_date
    return Read(values, plain)


def _shown(chars: _Bytes, size: int) -> Read:
    """Ms from 1970 to dates and times as they are shown, of `size` characters each."""
    where, weights = _fields(size)
    digits = chars[:, where] - np.uint8(48)
    plain = (digits < 10).all(axis=1)
    for at, allowed in _NO_DIGITS.items():
        if at < size:
            plain &= (chars[:, at, None] == np.frombuffer(allowed, np.uint8)).any(axis=1)
    numbers = (digits.astype(np.float64) @ weights).astype(np.int64)
    year, month, day, hour, minute, second, ms = numbers.T
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last = _DAYS_OF_MONTH[np.clip(month, 0, 12)] - ((month == 2) & ~leap)
    plain &= (year >= 1970) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= last)
    plain &= (hour < 24) & (minute < 60) & (second < 60)
    months = np.where(plain, (year - 1970) * 12 + month - 1, 0).astype("M8[M]")
    days = months.astype("M8[D]").astype(np.int64) + day - 1
    return Read(days * MS_PER_DAY + ((hour * 60 + minute) * 60 + second) * 1000 + ms, plain)


@cache
def _fields(size: int) -> tuple[Ints, Floats]:
    """Where digits are in a date and time of so many characters, and what each counts in its year,
    month, day, hour, minute, second and milliseconds."""
    weights = np.zeros((size, len(_FIELDS)))
    for field, (first, width) in enumerate(_FIELDS):
        for at in range(first, min(first + width, size)):
            weights[at, field] = 10 ** (min(first + width, size) - 1 - at)
    where = np.array([at for at in range(size) if at not in _NO_DIGITS])
    return where, weights[where]


def _from_zone(shown_ms: Ints, zone: Calendar) -> Read:
    """Epoch ms of what the clocks of a zone showed, where that was once and near no change."""
    if zone == UTC:
        return Read(shown_ms, np.ones(len(shown_ms), bool))
    hours, which = np.unique(shown_ms // MS_PER_HOUR, return_inverse=True)
    offsets = [zone.steady_offset_ms(hour) for hour in hours.tolist()]
    steady = np.array([offset is not None for offset in offsets], bool)
    return Read(shown_ms - np.array([offset or 0 for offset in offsets])[which], steady[which])
