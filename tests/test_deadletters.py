"""Limits of what may be set aside, as a pure policy."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streamer.deadletters import (
    CLEAN,
    NO_LIMITS,
    DeadLettersExceeded,
    Exceeded,
    Limits,
    Trail,
    decode,
    encode,
    follow,
)
from streamer.store import Partition

THREE = Limits(max_run=3, max_ratio=None)
HALF_OF_10 = Limits(max_run=None, max_ratio=0.5, window=10)


def walk(pattern: str, limits: Limits, trail: Trail = CLEAN, first: int = 0) -> list[int]:
    """Offsets set aside of a log in which `.` is good and `x` bad, up to where a limit stops it."""
    offsets = range(first, first + len(pattern))
    bad = {at: "bad_ts" for at, kind in zip(offsets, pattern, strict=True) if kind != "."}
    _, exceeded = follow(trail, offsets, bad, limits)
    return [at for at in bad if exceeded is None or at < exceeded.offset]


def test_a_run_up_to_the_limit_is_set_aside_and_the_next_is_not() -> None:
    trail, exceeded = follow(CLEAN, range(7, 10), dict.fromkeys(range(7, 10), "bad_ts"), THREE)
    assert exceeded is None
    after, exceeded = follow(trail, [10, 11], {10: "not_json", 11: "not_json"}, THREE)
    assert exceeded == Exceeded(
        10, "in a row (CLV_DEAD_LETTER_MAX_RUN=3)", 4, 7, "bad_ts", reason_count=3
    )
    assert after == trail


def test_a_good_record_ends_a_run() -> None:
    assert walk("xxx.xxx.xxx", THREE) == [0, 1, 2, 4, 5, 6, 8, 9, 10]


def test_the_ratio_is_one_of_the_last_records_however_they_are_mixed() -> None:
    assert walk(".x" * 20, HALF_OF_10) == list(range(1, 40, 2))
    assert walk(".xx" * 20, HALF_OF_10) == [1, 2, 4, 5, 7]
    assert walk("." * 30 + "x" * 10, HALF_OF_10) == [30, 31, 32, 33, 34]


def test_records_that_are_not_there_yet_count_as_good() -> None:
    assert walk("x" * 10, HALF_OF_10) == [0, 1, 2, 3, 4]


def test_without_limits_everything_is_set_aside() -> None:
    assert walk("x" * 50, NO_LIMITS) == list(range(50))


def test_what_passed_while_there_were_no_limits_is_not_held_against_later_records() -> None:
    trail, _ = follow(CLEAN, range(3), dict.fromkeys(range(3), "bad_ts"), THREE)
    trail, _ = follow(trail, range(3, 9), dict.fromkeys(range(3, 9), "bad_ts"), NO_LIMITS)
    assert walk("xxx", THREE, trail, first=9) == [9, 10, 11]


def test_a_limit_of_nothing_stops_at_the_first() -> None:
    assert walk("..x", Limits(max_run=0)) == []
    assert walk("..x", Limits(max_run=None, max_ratio=0.0)) == []


def test_the_same_trail_meets_the_same_limit_again() -> None:
    trail, _ = follow(CLEAN, range(3), dict.fromkeys(range(3), "bad_ts"), THREE)
    for _ in range(5):
        trail, exceeded = follow(decode(encode(trail)), [3], {3: "bad_ts"}, THREE)
        assert exceeded is not None
    more = replace(THREE, max_run=4)
    assert follow(trail, [3], {3: "bad_ts"}, more)[1] is None


def test_the_message_names_the_limit_the_first_offset_the_reason_and_the_remedy() -> None:
    exceeded = Exceeded(1500, "in a row (CLV_DEAD_LETTER_MAX_RUN=500)", 501, 1000, "not_json", 480)
    text = str(DeadLettersExceeded(Partition("orders", 3), exceeded))
    assert text.startswith(
        "orders-3: offset 1500 would be the 501st bad record in a row"
        " (CLV_DEAD_LETTER_MAX_RUN=500), the first at 1000, 480 of them not_json"
    )
    assert "redrive" in text
    assert "\n" not in text


def test_bytes_that_are_no_trail_are_a_clean_one() -> None:
    assert decode(None) == decode(b"") == decode(b"\xc1") == decode(b"\x01") == CLEAN


KINDS = st.sampled_from([None, "bad_ts", "not_json", "empty"])


@given(
    st.lists(KINDS, max_size=60),
    st.integers(0, 6) | st.none(),
    st.sampled_from([0.0, 0.2, 0.5, 1.0, None]),
    st.integers(1, 12),
    st.data(),
)
def test_batches_make_no_difference_and_no_limit_is_ever_passed(
    log: list[str | None],
    max_run: int | None,
    max_ratio: float | None,
    window: int,
    data: st.DataObject,
) -> None:
    limits = Limits(max_run, max_ratio, window)
    bad = {at: why for at, why in enumerate(log) if why is not None}
    whole, exceeded = follow(CLEAN, range(len(log)), bad, limits)
    trail, at, stopped = CLEAN, 0, None
    while at < len(log) and stopped is None:
        upto = data.draw(st.integers(at + 1, len(log)))
        part = {place: bad[place] for place in range(at, upto) if place in bad}
        trail, stopped = follow(trail, range(at, upto), part, limits)
        trail, at = decode(encode(trail)), upto
    assert stopped == exceeded
    assert trail.run == whole.run
    taken = [place in bad for place in range(exceeded.offset if exceeded else len(log))]
    runs = "".join("x" if one else "." for one in taken).split(".")
    assert max_run is None or max(map(len, runs)) <= max_run
    if limits.max_in_window is not None:
        windows = [sum(taken[max(0, end - window) : end]) for end in range(1, len(taken) + 1)]
        assert max(windows, default=0) <= limits.max_in_window
