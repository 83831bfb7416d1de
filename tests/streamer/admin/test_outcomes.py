"""Outcomes from the records of the warnings topic, against what became of the customers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from features.events.orders import OrderType
from features.times import calendar_of
from streamer.admin.outcomes import OutcomesRefused, by_week, endings, read_file, text, value_drops
from streamer.commands.cli import cli
from tests.support.fakes import (
    an_order,
    at,
    by_time,
    every,
    warned,
)


@pytest.mark.parametrize(
    ("back_on", "now", "expected"),
    [
        (40.5, 200, "kept"),  # 26 days silent
        (54.5, 200, "kept"),  # 40 days silent, no more than H
        (55.5, 200, "recovered"),
        (73.9, 200, "recovered"),
        (74.0, 200, "lost"),  # 40 days after the warning of day 34
        (90.5, 200, "lost"),
        (None, 200, "lost"),
        (None, 74, "lost"),
        (None, 73.9, "open"),
        (60.5, 50, "open"),
    ],
)
def test_an_episode_ends_in_one_of_three_ways(
    back_on: float | None, now: float, expected: str
) -> None:
    orders = every("ada", 7, 3)
    if back_on is not None:
        orders.append(an_order("ada", back_on))
    (sent, *_) = endings(warned(orders), at(now))
    assert sent.warning.as_of == "2025-02-04T00:00:00Z"
    assert sent.ending.value == expected


def test_the_answer_names_the_warning_and_the_outcome() -> None:
    warning, answer, *_ = warned([*every("ada", 7, 3), an_order("ada", 60.5)], until_day=61)
    assert (answer.kind, answer.closes, answer.outcome) == (
        "recovered",
        warning.warning_id,
        "recovered",
    )
    assert answer.summary == (
        "Ordered again 26 days after the warning and 46 days after the order before:"
        " recovered, after a silence longer than the horizon."
    )
    assert answer.reasons == ()
    assert answer.reference_clv == warning.reference_clv


def test_value_drops_are_counted_apart_from_warnings(tmp_path: Path) -> None:
    orders = every("ada", 7, 3, 15_000)
    back = [
        an_order("ada", 15.5 + n / 10, 15_000, OrderType.REFUND, id=order.order_id)
        for n, order in enumerate(orders)
    ]
    records_ = warned([*orders, *back, an_order("ada", 16.5, 100)])
    assert value_drops(records_ * 2) == {"order": 1, "refund": 1}
    assert value_drops(records_, at(16)) == {"refund": 1}
    assert all(one.warning.kind == "warning" for one in endings(records_))
    file = tmp_path / "warnings.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records_))
    said = CliRunner().invoke(cli, ["outcomes", str(file)]).output
    assert "Value drops, which are no warnings: 1 order and 1 refund lowered a CLV." in said


def test_a_redelivered_record_counts_once() -> None:
    records_ = warned([*every("ada", 7, 3), an_order("ada", 60.5)], until_day=61)
    assert endings(records_ * 2) == endings(records_)


def test_weeks_have_precision_apart_for_the_held_out() -> None:
    orders = by_time(*[every(f"user-{n}", 7, 3) for n in range(20)], [an_order("user-3", 40.5)])
    weeks = by_week(endings(warned(orders, until_day=80)))
    first = [week for week in weeks if week.week == "2025-02-03"]
    assert [week.holdout for week in first] == [False, True]
    assert sum(week.warnings for week in first) == 20
    assert sum(week.kept for week in first) == 1
    assert sum(week.lost + week.open for week in first) == 19
    (kept,) = [week for week in first if week.kept]
    ended = kept.kept + kept.lost
    assert kept.strict_precision == (kept.lost / ended if ended else None)


def test_weeks_are_those_of_the_shops_own_days() -> None:
    at_midnight = endings(warned(every("ada", 7, 3)))  # at 00:00 UTC of Tuesday, 2025-02-04
    shifted = [
        replace(sent, warning=msgspec.structs.replace(sent.warning, as_of="2025-02-03T02:00:00Z"))
        for sent in at_midnight
    ]
    assert [week.week for week in by_week(shifted)] == ["2025-02-03"]
    chicago = calendar_of("America/Chicago")
    assert [week.week for week in by_week(shifted, chicago)] == ["2025-01-27"]


def test_the_command_reads_what_replay_writes(tmp_path: Path) -> None:
    file = tmp_path / "warnings.jsonl"
    lines = [msgspec.json.encode(record) for record in warned(every("ada", 7, 3))]
    file.write_bytes(b"\n".join(lines) + b"\n")
    ran = CliRunner().invoke(cli, ["outcomes", str(file), "--as-of", "2025-04-01"])
    assert ran.exit_code == 0, ran.output
    assert "2025-02-03" in ran.output
    assert "100.0%" in ran.output
    assert max(map(len, ran.output.splitlines())) <= 80
    ran = CliRunner().invoke(cli, ["outcomes", str(file), "--json"])
    assert msgspec.json.decode(ran.output)["weeks"][0]["warnings"] == 1


def test_a_line_that_is_no_warning_is_named(tmp_path: Path) -> None:
    file = tmp_path / "warnings.jsonl"
    file.write_bytes(b'{"a": 1}\n')
    with pytest.raises(OutcomesRefused, match=r"warnings\.jsonl:1: no record of a warning"):
        list(read_file(file))
    ran = CliRunner().invoke(cli, ["outcomes", str(file)])
    assert ran.exit_code == 1
    assert "Traceback" not in ran.output


def test_nothing_is_said_of_no_warnings() -> None:
    assert text([]) == "No warnings yet."
    assert by_week(endings([])) == []
