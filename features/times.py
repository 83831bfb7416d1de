"""Instants and days: read, counted and written in one way everywhere.

An instant is an integer of epoch milliseconds, a day an integer counted from 1970-01-01 in the
shop's own calendar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import UTC as _UTC
from datetime import date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from importlib import resources
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np

from features.arrays import Ints
from features.errors import FactsError

Instant: TypeAlias = str | date | datetime

MS_PER_DAY: Final = 86_400_000
MS_PER_HOUR: Final = 3_600_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=_UTC)
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_MILLISECOND: Final = timedelta(milliseconds=1)
_DATE_CHARS: Final = len("2026-03-01")
_YEAR_10000_MS: Final = 253_402_300_800_000
_LAST_ORDINAL: Final = date.max.toordinal()
# Integers outside of these are 1973 or 2100 in milliseconds, but a plausible present in other
# units: seconds, microseconds, 20240110100000.
_MIN_EPOCH_MS: Final = 100_000_000_000
_MAX_EPOCH_MS: Final = 4_102_444_800_000
# int() refuses thousands of digits; past twenty, only leading zeros could still be a time.
_MOST_DIGITS: Final = 20
# The dashes of a date, what follows it and the colon of a time, each where it belongs.
_SHAPES: Final = frozenset({("--", "", ""), *(("--", between, ":") for between in "Tt ")})
# Shopify and BigQuery leave a blank before the offset, or write UTC for it.
_BLANK_OFFSET: Final = re.compile(r"(.*\d) ?(?:UTC|GMT|([+-]\d\d:?\d\d))")
# How a stamp ends, from its seconds on.
_SECONDS: Final = tuple(f":{s:02}." for s in range(60))
_WHOLE_SECONDS: Final = tuple(f":{s:02}Z" for s in range(60))
_MILLISECONDS: Final = tuple(f"{ms:03}Z" for ms in range(1000))
_DECIMALS: Final = re.compile(r"(\d{1,20})\.(\d*)")


class Calendar:
    """The days of a shop: which day of its own zone an instant belongs to, and when a day begins.

    `name` is an IANA zone such as `America/Los_Angeles`; days of 23 and 25 hours are what they are.
    Transitions are those of the tzdata package, so that every machine has the same. Where clocks
    are put back over midnight, the day begins with its first midnight, and never goes back. Raises
    CalendarError for a name that there is not.
    """

    __slots__ = ("_start_ms", "_zone", "name")

    def __init__(self, name: str = "UTC") -> None:
        self.name = name
        self._zone: tzinfo = _UTC
        self._start_ms = None
        if name != "UTC":
            self._zone = zone_named(name)
            self._start_ms = lru_cache(maxsize=65_536)(_midnights(self._zone))

    def day_of(self, ts_ms: int) -> int:
        """The day, counted from 1970-01-01, of an instant in epoch milliseconds."""
        day = ts_ms // MS_PER_DAY
        if self._start_ms is None:
            return day
        if ts_ms < self._start_ms(day):
            return day - 1
        return day if ts_ms < self._start_ms(day + 1) else day + 1

    def start_ms(self, day: int) -> int:
        """The instant at which a day begins."""
        return day * MS_PER_DAY if self._start_ms is None else self._start_ms(day)

    def day_from(self, ts_ms: int) -> int:
        """The first day that begins at an instant or after it."""
        day = self.day_of(ts_ms)
        return day if self.start_ms(day) == ts_ms else day + 1

    def days_of(self, ts_ms: Ints) -> Ints:
        """`day_of` many instants."""
        day = ts_ms // MS_PER_DAY
        if self._start_ms is None:
            return day
        return np.asarray(day - (ts_ms < self.starts_ms(day)) + (ts_ms >= self.starts_ms(day + 1)))

    def starts_ms(self, days: Ints) -> Ints:
        """`start_ms` of many days."""
        return days * MS_PER_DAY if self._start_ms is None else _each(self.start_ms, days)

    def days_from(self, ts_ms: Ints) -> Ints:
        """`day_from` many instants."""
        if self._start_ms is None:
            return -(-ts_ms // MS_PER_DAY)
        day = self.days_of(ts_ms)
        return np.asarray(day + (self.starts_ms(day) != ts_ms))

    def wall_ms(self, when: datetime) -> int:
        """Epoch milliseconds of what the zone's clocks showed; the first of what they showed twice.
        Raises InstantError for what they never showed, other than a midnight: that is the day's
        begin."""
        first, second = self._offsets(when)
        if first >= second:
            return epoch_ms(when.replace(tzinfo=_UTC)) - first // _MILLISECOND
        if when.time() == time():
            return self.start_ms(day_of_date(when.date()))
        raise InstantError(f"is no time in {self.name}, whose clocks were put forward over it")

    def shows_twice(self, when: datetime) -> bool:
        """Whether the zone's clocks showed this time twice, as they were put back."""
        first, second = self._offsets(when)
        return first > second

    def steady_offset_ms(self, hour: int) -> int | None:
        """What an hour that clocks show, counted from 1970-01-01, is ahead of UTC; None: they were
        changed within it, or to it."""
        return _steady_offset_ms(self, hour)

    def _offsets(self, when: datetime) -> tuple[timedelta, timedelta]:
        """From UTC, at a time that clocks show: before a change of them, and after it."""
        both = (self._zone.utcoffset(when.replace(tzinfo=self._zone, fold=n)) for n in (0, 1))
        first, second = (offset or timedelta() for offset in both)
        return first, second

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Calendar) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[type[Calendar], tuple[str]]:
        return Calendar, (self.name,)

    def __repr__(self) -> str:
        return f"Calendar({self.name!r})"


def _each(of: Callable[[int], int], values: Ints) -> Ints:
    """A function of many whole numbers, of which most are there several times."""
    different, place = np.unique(values, return_inverse=True)
    found = np.array([of(value) for value in different.tolist()], np.int64)[place]
    return found.reshape(values.shape)


def monday_of(day: int) -> int:
    """The Monday of the week that a day is in; day 0 was a Thursday."""
    return day - (day + 3) % 7


class CalendarError(FactsError):
    """There is no such zone: name one of the IANA database, such as Europe/Berlin."""


def zone_named(name: str) -> ZoneInfo:
    """The zone of an IANA name, as the tzdata package has it. Raises CalendarError."""
    folder, _, last = f"tzdata.zoneinfo/{name}".rpartition("/")
    try:
        with resources.files(folder.replace("/", ".")).joinpath(last).open("rb") as file:
            return ZoneInfo.from_file(file, name)
    except (ImportError, OSError, ValueError, TypeError):
        raise CalendarError(
            f"{name!r} is not a time zone; name one of the IANA database, such as Europe/Berlin"
        ) from None


def _midnights(zone: tzinfo) -> Callable[[int], int]:
    def start_ms(day: int) -> int:
        ordinal = min(day + _EPOCH_ORDINAL, _LAST_ORDINAL)
        start = epoch_ms(datetime.combine(date.fromordinal(ordinal), time(), zone))
        return start + (day + _EPOCH_ORDINAL - ordinal) * MS_PER_DAY

    return start_ms


@lru_cache(maxsize=65_536)
def _steady_offset_ms(zone: Calendar, hour: int) -> int | None:
    first = datetime(1970, 1, 1) + timedelta(hours=hour)
    ends = first, first + timedelta(hours=1) - _MILLISECOND
    found = {offset for when in ends for offset in zone._offsets(when)}
    return found.pop() // _MILLISECOND if len(found) == 1 else None


class InstantError(FactsError):
    """What was sent is not an instant; the message says how, without naming the field."""


class NaiveInstant(InstantError):
    """A time without an offset: append Z or +hh:mm."""


UTC: Final = Calendar()
day_of: Final = UTC.day_of


@lru_cache(maxsize=64)
def calendar_of(name: str) -> Calendar:
    """The calendar of a zone; the same object for the same name, which keeps its midnights."""
    return UTC if name == UTC.name else Calendar(name)


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
        parsed = parsed.replace(tzinfo=_UTC)
    return epoch_ms(parsed)


def wire_ms(value: object, zone: Calendar | None = None) -> int:
    """Epoch milliseconds of what an order or a request says: ISO 8601 with offset as text (RFC
    3339, and as usual exports have it: a blank before the offset, `UTC` for it), or an integer of
    epoch milliseconds. `zone`: that of texts without an offset; None: there is none. Raises
    InstantError.

    >>> wire_ms("1970-01-02T00:00:00.0009Z"), wire_ms(1_767_225_600_000)
    (86400000, 1767225600000)
    """
    if isinstance(value, str):
        when = _read(value)
        if when.tzinfo is not None:
            ts_ms = epoch_ms(when)
        elif zone is not None:
            ts_ms = zone.wall_ms(when)
        else:
            raise NaiveInstant("has no offset")
    elif isinstance(value, int) and not isinstance(value, bool):
        if not is_epoch_ms(value):
            raise InstantError(f"as epoch milliseconds lies before 1973 or after 2100{unit(value)}")
        ts_ms = value
    else:
        whole = int(value) if isinstance(value, float) and abs(value) < _YEAR_10000_MS else -1
        raise InstantError(f"is not a time{unit(whole)}")
    if not 0 <= ts_ms < _YEAR_10000_MS:
        raise InstantError("lies outside the years 1970 to 9999")
    return ts_ms


def is_epoch_ms(value: int) -> bool:
    """Whether an integer is taken for epoch milliseconds: of 1973 to 2099."""
    return _MIN_EPOCH_MS <= value < _MAX_EPOCH_MS


def text_ms(text: str | int, zone: Calendar | None = None) -> int:
    """The same of a column of a file or a part of a URL, where integers are digits too; one that is
    no text was read already."""
    if isinstance(text, int):
        return text
    text = text.strip()
    if text.isascii() and text.isdigit():
        return wire_ms(int(text) if len(text) <= _MOST_DIGITS else _YEAR_10000_MS)
    if decimals := _DECIMALS.fullmatch(text):
        if not decimals[2].strip("0"):  # an integer of a program that has no others but floats
            return wire_ms(int(decimals[1]))
        raise InstantError(f"is not a time{unit(int(decimals[1]))}")
    return wire_ms(text, zone)


def comes_twice(text: str, zone: Calendar) -> bool:
    """Whether a text that `text_ms` reads has no offset, and the zone's clocks showed it twice."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return False
    when = _read(text)
    return when.tzinfo is None and zone.shows_twice(when)


def _read(text: str) -> datetime:
    """The datetime of a text; digits beyond microseconds are cut off, never rounded up."""
    text = text.strip()
    # fromisoformat reads weeks, and days without dashes; nobody sends those, nor other scripts.
    shape = text[4:8:3], text[10:11], text[13:14]
    if shape not in _SHAPES or not text.isascii():
        raise InstantError("is not a time")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        text = text.upper()
        found = _BLANK_OFFSET.fullmatch(text)
        text = found[1] + (found[2] or "Z") if found else text
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InstantError("is not a time") from None


def unit(value: int) -> str:
    """What an integer that is no epoch millisecond of ours looks like, with the remedy; or nothing.

    >>> unit(1_704_880_800)
    '; it looks like seconds: multiply by 1000'
    """
    digits = str(value)
    if len(digits) in (8, 12, 14) and _is_compact(digits):
        return f"; it looks like {'YYYYMMDDhhmmss'[: len(digits)]}: write it out, with an offset"
    for low, high, looks in (
        (0, 1, "no date at all: leave the row out"),
        (20_000, 80_000, "a spreadsheet's day number: export it as a date"),
        (10**8, 10**11, "seconds: multiply by 1000"),
        (10**14, 10**16, "microseconds: divide by 1000"),
        (10**17, 10**19, "nanoseconds: divide by 1000000"),
    ):
        if low <= value < high:
            return f"; it looks like {looks}"
    return ""


def _is_compact(digits: str) -> bool:
    try:
        when = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return False
    return 1900 <= when.year < 2200


@lru_cache(maxsize=4096)
def rfc3339(ts_ms: int, *, milliseconds: bool | None = None) -> str:
    """An instant in epoch milliseconds as RFC 3339 in UTC; with its milliseconds where there are
    any, or as told.

    >>> rfc3339(852_076_800_000), rfc3339(852_076_800_000, milliseconds=True)
    ('1997-01-01T00:00:00Z', '1997-01-01T00:00:00.000Z')
    """
    seconds, ms = divmod(ts_ms, 1000)
    stamp = datetime.fromtimestamp(seconds, _UTC).isoformat()[:19]
    with_ms = bool(ms) if milliseconds is None else milliseconds
    return f"{stamp}.{ms:03d}Z" if with_ms else f"{stamp}Z"


def rfc3339_of(ts_ms: Collection[int]) -> dict[int, str]:
    """`rfc3339` of many instants, by instant.

    >>> rfc3339_of({852_076_800_000})
    {852076800000: '1997-01-01T00:00:00Z'}
    """
    instants = list(ts_ms)
    minute, rest = np.divmod(np.array(instants, np.int64), 60_000)
    second, ms = np.divmod(rest, 1000)
    minutes, which = np.unique(minute, return_inverse=True)
    begins = minutes.astype("M8[m]").astype("U16").tolist()
    return {
        at_ms: begins[at] + (_SECONDS[s] + _MILLISECONDS[m] if m else _WHOLE_SECONDS[s])
        for at_ms, at, s, m in zip(
            instants, which.tolist(), second.tolist(), ms.tolist(), strict=True
        )
    }
