import pickle
from datetime import UTC as UTC_ZONE
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.times import (
    MS_PER_DAY,
    UTC,
    Calendar,
    CalendarError,
    InstantError,
    calendar_of,
    day_of,
    day_of_date,
    instant_ms,
    iso_day,
    rfc3339,
    rfc3339_of,
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


@given(instants=st.lists(st.integers(0, 4_102_444_800_000), max_size=4))
@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "America/Sao_Paulo"])
def test_many_days_are_as_each_is(zone: str, instants: list[int]) -> None:
    calendar, many = calendar_of(zone), np.array(instants, np.int64)
    days = calendar.days_of(many)
    assert days.tolist() == [calendar.day_of(ts_ms) for ts_ms in instants]
    assert calendar.starts_ms(days).tolist() == [calendar.start_ms(day) for day in days.tolist()]
    assert calendar.days_from(many).tolist() == [calendar.day_from(ts_ms) for ts_ms in instants]


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


@given(st.sets(_INSTANTS, max_size=5))
def test_many_instants_are_written_as_each_is(instants: set[int]) -> None:
    assert rfc3339_of(instants) == {ts_ms: rfc3339(ts_ms) for ts_ms in instants}


@given(ts_ms=_INSTANTS)
def test_an_instant_can_be_read_back_exactly(ts_ms: int) -> None:
    written = rfc3339(ts_ms), rfc3339(ts_ms, milliseconds=True)
    assert {instant_ms(text) for text in written} == {ts_ms}
    assert {wire_ms(text) for text in written} == {ts_ms}
    assert datetime.fromisoformat(written[0]).tzinfo == UTC_ZONE


def test_an_instant_may_be_written_in_several_ways() -> None:
    ways = (
        "2026-03-01",
        date(2026, 3, 1),
        datetime(2026, 3, 1, tzinfo=UTC_ZONE),
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


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2024-03-31", 23),
        ("Europe/Berlin", "2024-10-27", 25),
        ("Europe/Berlin", "2024-06-01", 24),
        ("Australia/Lord_Howe", "2024-10-06", 23.5),
        ("America/Sao_Paulo", "2018-11-04", 23),  # its midnight does not exist
        ("Pacific/Apia", "2011-12-30", 0),  # nor does this day
    ],
)
def test_a_day_of_the_shop_is_as_long_as_its_clocks_make_it(
    zone: str, day: str, hours: float
) -> None:
    calendar, number = calendar_of(zone), day_of_date(day)
    start_ms, end_ms = calendar.start_ms(number), calendar.start_ms(number + 1)
    assert end_ms - start_ms == hours * 3_600_000
    assert calendar.day_of(end_ms) == number + 1
    assert calendar.day_of(end_ms - 1) == (number if hours else number - 1)


@given(
    st.sampled_from(["America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"]),
    st.integers(day_of_date("2008-01-01") * MS_PER_DAY, day_of_date("2030-01-01") * MS_PER_DAY),
)
def test_days_follow_one_another_without_a_gap(zone: str, ts_ms: int) -> None:
    calendar = Calendar(zone)
    day = calendar.day_of(ts_ms)
    assert calendar.start_ms(day) <= ts_ms < calendar.start_ms(day + 1)
    assert calendar.start_ms(calendar.day_from(ts_ms) - 1) < ts_ms
    assert calendar.start_ms(calendar.day_from(ts_ms)) >= ts_ms


@pytest.mark.parametrize("name", ["Mars/Phobos", "", "../../etc/passwd", "Europe", "europe/berlin"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(CalendarError, match="is not a time zone; name one of the IANA database"):
        Calendar(name)


def test_a_calendar_is_its_zone_also_in_another_process() -> None:
    berlin = Calendar("Europe/Berlin")
    again = pickle.loads(pickle.dumps(berlin))
    assert again == berlin != UTC
    assert hash(again) == hash(berlin)


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("20240110100000", "YYYYMMDDhhmmss"),
        ("20240110", "YYYYMMDD"),
        ("1704880800", "seconds"),
        ("1704880800.0", "seconds"),
        ("1704880800000000", "microseconds"),
        ("1704880800000000000", "nanoseconds"),
        ("45301", "a spreadsheet's day number"),
        ("45301.4167", "a spreadsheet's day number"),
        ("0", "no date at all"),
    ],
)
def test_digits_of_another_unit_are_refused_by_its_name(text: str, looks: str) -> None:
    with pytest.raises(InstantError, match=f"it looks like {looks}"):
        text_ms(text)


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-10 05:00:00 -0500",
        "2024-01-10 10:00:00 UTC",
        "2024-01-10 10:00:00+00",
        " 2024-01-10T10:00:00Z",
        "2024-01-10T10:00Z",
        "2024-01-10t10:00:00z",
        "1704880800000",
    ],
)
def test_the_times_of_usual_exports_are_read(text: str) -> None:
    assert rfc3339(text_ms(text)) == "2024-01-10T10:00:00Z"


@given(
    st.sampled_from(["America/Los_Angeles", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"]),
    st.datetimes(datetime(2008, 1, 1), datetime(2030, 1, 1)),
)
def test_what_clocks_showed_is_shown_by_them_at_that_instant(zone: str, when: datetime) -> None:
    calendar = calendar_of(zone)
    try:
        found_ms = calendar.wall_ms(when)
    except InstantError:
        assert not any(shown(at_ms, zone) == when for at_ms in around(when))
        return
    assert shown(found_ms, zone) == when.replace(microsecond=when.microsecond // 1000 * 1000)
    twice = {at_ms for at_ms in around(when) if shown(at_ms, zone) == shown(found_ms, zone)}
    assert found_ms == min(twice)
    assert calendar.shows_twice(when) == (len(twice) > 1)


def around(when: datetime) -> list[int]:
    """Every instant, half an hour apart, at which some clock could show a time."""
    as_utc_ms = (when - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
    return [as_utc_ms + half * 1_800_000 for half in range(-30, 31)]


def shown(at_ms: int, zone: str) -> datetime:
    """What clocks show, by the standard library alone."""
    seconds, ms = divmod(at_ms, 1000)
    when = datetime.fromtimestamp(seconds, ZoneInfo(zone)).replace(microsecond=ms * 1000)
    return when.replace(tzinfo=None, fold=0)


def test_a_midnight_that_clocks_skipped_is_the_begin_of_its_day() -> None:
    sao_paulo = calendar_of("America/Sao_Paulo")
    assert text_ms("2018-11-04", sao_paulo) == sao_paulo.start_ms(day_of_date("2018-11-04"))
    with pytest.raises(InstantError, match="is no time in America/Sao_Paulo"):
        text_ms("2018-11-04 00:30", sao_paulo)
