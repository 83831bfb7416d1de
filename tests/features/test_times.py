from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.times import (
    MS_PER_DAY,
    InstantError,
    day_of,
    day_of_date,
    instant_ms,
    iso_day,
    rfc3339,
    text_ms,
    wire_ms,
)

_INSTANTS = st.integers(0, 253_402_300_799_999)


@pytest.mark.parametrize(
    ("ts_ms", "day"), [(0, 0), (86_399_999, 0), (86_400_000, 1), (1_735_689_600_000, 20_089)]
)
def test_a_day_begins_at_midnight_utc(ts_ms: int, day: int) -> None:
    assert day_of(ts_ms) == day


@given(ts_ms=_INSTANTS)
def test_a_day_and_its_date_are_the_same(ts_ms: int) -> None:
    day = day_of(ts_ms)
    assert iso_day(day) == rfc3339(ts_ms)[:10]
    assert day_of_date(iso_day(day)) == day


@pytest.mark.parametrize(
    ("ts_ms", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (852_076_800_000, "1997-01-01T00:00:00Z"),
        (852_076_800_120, "1997-01-01T00:00:00.120Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_has_milliseconds_only_where_there_are_any(ts_ms: int, text: str) -> None:
    assert rfc3339(ts_ms) == text


@given(ts_ms=_INSTANTS)
def test_an_instant_can_be_read_back_exactly(ts_ms: int) -> None:
    written = rfc3339(ts_ms), rfc3339(ts_ms, milliseconds=True)
    assert {instant_ms(text) for text in written} == {ts_ms}
    assert {wire_ms(text) for text in written} == {ts_ms}
    assert datetime.fromisoformat(written[0]).tzinfo == UTC


def test_an_instant_may_be_written_in_several_ways() -> None:
    ways = (
        "2026-03-01",
        date(2026, 3, 1),
        datetime(2026, 3, 1, tzinfo=UTC),
        "2026-03-01T02:00+02:00",
    )
    assert {instant_ms(way) for way in ways} == {day_of_date("2026-03-01") * MS_PER_DAY}


def test_an_instant_is_rounded_down_to_the_millisecond() -> None:
    almost = "1970-01-02T23:59:59.9999Z"
    assert wire_ms(almost) == instant_ms(almost) == 2 * MS_PER_DAY - 1


def test_digits_are_an_instant_in_a_column_and_not_in_json() -> None:
    assert text_ms("1767225600000") == wire_ms(1_767_225_600_000)
    with pytest.raises(InstantError):
        wire_ms("1767225600000")
