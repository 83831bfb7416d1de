"""Instants and days: read, counted and written in one way everywhere.

An instant is an integer of epoch milliseconds, a day an integer counted from 1970-01-01, in UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec

from features.errors import FactsError

Instant: TypeAlias = str | date | datetime

MS_PER_DAY: Final = 86_400_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_MILLISECOND: Final = timedelta(milliseconds=1)
_DATE_CHARS: Final = len("2026-03-01")
_YEAR_10000_MS: Final = 253_402_300_800_000
# An integer below this is 1973 in milliseconds but a plausible present in seconds.
_MIN_EPOCH_MS: Final = 100_000_000_000
# int() refuses thousands of digits; past twenty, only leading zeros could still be a time.
_MOST_DIGITS: Final = 20


class InstantError(FactsError):
    """What was sent is not an instant; the message says how, without naming the field."""


class NaiveInstant(InstantError):
    """A time without an offset: append Z or +hh:mm."""


def day_of(ts_ms: int) -> int:
    """The UTC day, counted from 1970-01-01, of an instant in epoch milliseconds."""
    return ts_ms // MS_PER_DAY


def day_of_date(day: str | date) -> int:
    """The day of a date, or of an ISO date as text. Raises ValueError.

    >>> day_of_date("1970-01-02")
    1
    """
    return (date.fromisoformat(day) if isinstance(day, str) else day).toordinal() - _EPOCH_ORDINAL


def iso_day(day: int) -> str:
    """The ISO date of a day."""
    return date.fromordinal(day + _EPOCH_ORDINAL).isoformat()


def epoch_ms(when: datetime) -> int:
    """Epoch milliseconds of a datetime with an offset; what is finer is cut off, so that no instant
    moves to the next day."""
    return (when - _EPOCH) // _MILLISECOND


def instant_ms(when: Instant) -> int:
    """Epoch milliseconds of a date (00:00 UTC of it) or of a time with an offset. Raises
    ValueError with the remedy.

    >>> instant_ms("2026-03-01") == instant_ms("2026-03-01T01:00:00+01:00")
    True
    """
    try:
        parsed = datetime.fromisoformat(when) if isinstance(when, str) else when
    except ValueError:
        raise ValueError(
            f"{when!r} is not a time; write 2026-03-01 or 2026-03-01T12:00:00Z"
        ) from None
    if not isinstance(parsed, datetime):
        return day_of_date(parsed) * MS_PER_DAY
    if parsed.tzinfo is None:
        if not isinstance(when, str) or len(when) > _DATE_CHARS:
            raise ValueError(f"{str(when)!r} has no offset; append Z or +hh:mm")
        parsed = parsed.replace(tzinfo=UTC)
    return epoch_ms(parsed)


def wire_ms(value: object) -> int:
    """Epoch milliseconds of what an order or a request says: RFC 3339 with offset (text, or a
    datetime read from it), or an integer of epoch milliseconds. Raises InstantError.

    >>> wire_ms("1970-01-02T00:00:00.0009Z"), wire_ms(1_767_225_600_000)
    (86400000, 1767225600000)
    """
    if isinstance(value, str):
        try:
            value = msgspec.convert(value, datetime, strict=True)
        except (msgspec.ValidationError, UnicodeEncodeError):
            raise InstantError("is not a time") from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise NaiveInstant("has no offset")
        ts_ms = epoch_ms(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < _MIN_EPOCH_MS:
            raise InstantError(
                "as epoch milliseconds lies before 1973; it looks like seconds: multiply by 1000"
            )
        ts_ms = value
    else:
        raise InstantError("is not a time")
    if not 0 <= ts_ms < _YEAR_10000_MS:
        raise InstantError("lies outside the years 1970 to 9999")
    return ts_ms


def text_ms(text: str) -> int:
    """The same of a column of a file or a part of a URL, where integers are digits too."""
    if text.isascii() and text.isdigit():
        return wire_ms(int(text) if len(text) <= _MOST_DIGITS else _YEAR_10000_MS)
    return wire_ms(text)


@lru_cache(maxsize=4096)
def rfc3339(ts_ms: int, *, milliseconds: bool | None = None) -> str:
    """An instant in epoch milliseconds as RFC 3339 in UTC; with its milliseconds where there are
    any, or as told.

    >>> rfc3339(852_076_800_000), rfc3339(852_076_800_000, milliseconds=True)
    ('1997-01-01T00:00:00Z', '1997-01-01T00:00:00.000Z')
    """
    seconds, ms = divmod(ts_ms, 1000)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    with_ms = bool(ms) if milliseconds is None else milliseconds
    return f"{stamp}.{ms:03d}Z" if with_ms else f"{stamp}Z"
