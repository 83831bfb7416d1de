"""Times as exports write them become the instants that they mean, or are asked about."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from features.mapping.instants import TimeFormat, zone_of
from features.times import CalendarError, InstantError, NaiveInstant, rfc3339

BERLIN = zone_of("Europe/Berlin")


@pytest.mark.parametrize(
    ("value", "form", "instant"),
    [
        ("2024-11-27 06:01:49 +0100", "iso", "2024-11-27T05:01:49Z"),
        ("2024-11-27 05:01:49 UTC", "iso", "2024-11-27T05:01:49Z"),
        ("2024-11-27T06:01:49", "iso", "2024-11-27T05:01:49Z"),
        ("2024-11-27", "iso", "2024-11-26T23:00:00Z"),
        ("27/11/2024 06:01", "%d/%m/%Y %H:%M", "2024-11-27T05:01:00Z"),
        ("27/11/2024 06:01 +0300", "%d/%m/%Y %H:%M %z", "2024-11-27T03:01:00Z"),
        (1732683709, "epoch-s", "2024-11-27T05:01:49Z"),
        ("1732683709", "epoch-s", "2024-11-27T05:01:49Z"),
        ("1732683709.5", "epoch-s", "2024-11-27T05:01:49.500Z"),
        (1732683709123, "epoch-ms", "2024-11-27T05:01:49.123Z"),
        ("1732683709123999", "epoch-us", "2024-11-27T05:01:49.123Z"),
        (1732683709123999999, "epoch-ns", "2024-11-27T05:01:49.123Z"),
        (45623.25, "excel-days", "2024-11-27T05:00:00Z"),
        (20054, "epoch-days", "2024-11-26T23:00:00Z"),
        (datetime(2024, 11, 27, 6, 1, 49), "iso", "2024-11-27T05:01:49Z"),
        (datetime(2024, 11, 27, 5, 1, 49, tzinfo=UTC), "iso", "2024-11-27T05:01:49Z"),
        (date(2024, 11, 27), "iso", "2024-11-26T23:00:00Z"),
    ],
)
def test_a_time_is_read_by_its_format_and_zone(value: object, form: str, instant: str) -> None:
    assert rfc3339(TimeFormat((form,), BERLIN).ms(value)) == instant


@pytest.mark.parametrize(
    ("value", "form"), [("2024-11-27 06:01", "iso"), ("27.11.2024", "%d.%m.%Y")]
)
def test_a_time_without_a_zone_is_refused_where_none_is_said(value: str, form: str) -> None:
    with pytest.raises(NaiveInstant):
        TimeFormat((form,)).ms(value)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("27/11/2024", "iso"),
        (1732683709, "iso"),
        ("yesterday", "%d/%m/%Y"),
        ("13/13/2024", "%d/%m/%Y"),
        (True, "epoch-s"),
        ("9" * 400, "epoch-s"),
        ("nan", "epoch-s"),
        (-5, "epoch-s"),
    ],
)
def test_what_is_no_time_of_the_format_is_refused(value: object, form: str) -> None:
    with pytest.raises(InstantError):
        TimeFormat((form,), BERLIN).ms(value)


def test_formats_are_tried_in_turn() -> None:
    both = TimeFormat(("iso", "%b %d, %Y %I:%M:%S %p"), BERLIN)
    assert both.ms("Nov 27, 2024 6:01:49 AM") == both.ms("2024-11-27 06:01:49")


def test_where_clocks_are_put_back_the_first_of_two_instants_is_taken() -> None:
    assert rfc3339(TimeFormat(zone=BERLIN).ms("2024-10-27 02:30")) == "2024-10-27T00:30:00Z"


def test_a_zone_is_a_name_or_an_offset() -> None:
    assert TimeFormat(zone=zone_of("+02:00")).ms("2024-01-01") == 1_704_060_000_000
    with pytest.raises(CalendarError, match="Europe/Berlin"):
        zone_of("Berlin")
