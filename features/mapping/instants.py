"""Times as exports write them: a format, and a zone for those that have none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final

from features.mapping.numbers import western
from features.times import InstantError, NaiveInstant, epoch_ms, wire_ms, zone_named

ISO: Final = "iso"
# Milliseconds are so many times as much, divided by so much.
EPOCHS: Final = {
    "epoch-s": (1_000, 1),
    "epoch-ms": (1, 1),
    "epoch-us": (1, 1_000),
    "epoch-ns": (1, 1_000_000),
}
DAYS: Final = {"epoch-days": date(1970, 1, 1), "excel-days": date(1899, 12, 30)}
NAMED: Final = (ISO, *EPOCHS, *DAYS)
_MOST_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """How a field's times are written: `formats`, tried in turn, each one of NAMED or as strptime
    has them; `zone` is that of times without an offset (None: they are refused)."""

    formats: tuple[str, ...] = (ISO,)
    zone: tzinfo | None = None

    def ms(self, value: object) -> int:
        """Epoch milliseconds. Raises InstantError, and NaiveInstant where a zone is missing."""
        if isinstance(value, datetime):
            return _in_zone(value, self.zone)
        if isinstance(value, date):
            return _in_zone(datetime.combine(value, time()), self.zone)
        fault: InstantError | None = None
        for form in self.formats:
            try:
                return _read(value, form, self.zone)
            except NaiveInstant:
                raise
            except InstantError as error:
                fault = fault or error
        assert fault is not None
        raise fault


def zone_of(name: str) -> tzinfo:
    """The zone of an IANA name, or of an offset such as +02:00. Raises CalendarError."""
    if name in ("UTC", "Z"):
        return UTC
    if name[:1] in "+-" and (offset := _offset(name)) is not None:
        return offset
    return zone_named(name)


def _offset(name: str) -> tzinfo | None:
    try:
        return datetime.strptime(name, "%z").tzinfo
    except ValueError:
        return None


def _read(value: object, form: str, zone: tzinfo | None) -> int:
    if isinstance(value, str):
        value = western(value)
    if form == ISO:
        return _iso(value, zone)
    if form in EPOCHS:
        times, divided = EPOCHS[form]
        return _checked(int(_number(value, form) * times // divided))
    if form in DAYS:
        days = timedelta(days=_number(value, form))
        return _in_zone(datetime.combine(DAYS[form], time()) + days, zone)
    return _in_zone(_parsed(str(value).strip(), form), zone)


def _iso(value: object, zone: tzinfo | None) -> int:
    if not isinstance(value, str):
        wire_ms(value)  # says what an integer looks like
        raise InstantError('is a number; say format = "epoch-ms" if it is one of milliseconds')
    try:
        return wire_ms(value)
    except NaiveInstant:
        if zone is None:
            raise
    # Digits beyond microseconds are cut off by fromisoformat.
    return _in_zone(datetime.fromisoformat(value.strip()), zone)


@lru_cache(maxsize=4_096)
def _parsed(text: str, form: str) -> datetime:
    """strptime is slow, and exports by the day repeat their texts."""
    try:
        return datetime.strptime(text, form)
    except ValueError:
        raise InstantError(f"is not of the format {form!r}") from None


def _in_zone(when: datetime, zone: tzinfo | None) -> int:
    """Where clocks are put back, a time that comes twice is taken for the first one."""
    if when.tzinfo is None:
        if zone is None:
            raise NaiveInstant("has no zone")
        when = when.replace(tzinfo=zone)
    try:
        return _checked(epoch_ms(when))
    except OverflowError:
        raise InstantError("lies outside the years 1970 to 9999") from None


def _number(value: object, form: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InstantError(f"is not of the format {form!r}")
    try:
        # Whole numbers stay exact: nanoseconds have more digits than a float.
        text = str(value).strip()
        number = int(text) if text.isdigit() and len(text) <= _MOST_DIGITS else float(text)
    except ValueError:
        raise InstantError(f"is not of the format {form!r}") from None
    if not abs(number) < 1e20:
        raise InstantError(f"is not of the format {form!r}")
    return number


def _checked(ts_ms: int) -> int:
    if not 0 <= ts_ms < 253_402_300_800_000:
        raise InstantError("lies outside the years 1970 to 9999")
    return ts_ms
