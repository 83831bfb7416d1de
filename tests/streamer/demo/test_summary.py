"""What the demo says at its end."""

from __future__ import annotations

from features.times import day_of, instant_ms
from streamer.demo.call_list import call_lists
from streamer.demo.summary import RunFigures, summary
from tests.support.fakes import by_time, every, scorer, warned

FIGURES = RunFigures(69_659, 23_570, "2025-02-01", 65.0, 4.6, 615_622)


def test_the_summary_ends_with_who_left_by_the_warnings_and_by_the_best_simple_sort() -> None:
    orders = by_time(every("ada", 5, 8), every("ben", 5, 8))
    found = [each for each in warned(orders) if each.kind == "warning"]
    day = day_of(instant_ms(found[0].as_of))
    lists = call_lists(found, orders, day, scorer())
    said = summary(FIGURES, found * 5_000, 29_392, lists)
    lines = said.splitlines()
    assert max(map(len, lines)) < 80
    assert "Whom to call on" in said
    assert lines[-1] == "Left by the warnings: 1; by the best simple sort (longest silence): 1."


def test_without_a_day_to_look_back_on_the_summary_says_so() -> None:
    assert "Too few days" in summary(FIGURES, [], 0, None)
