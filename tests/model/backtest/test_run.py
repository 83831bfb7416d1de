"""The backtest against warnings counted by hand, and against the live path itself."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY, Calendar, day_of
from model.backtest.panel import CallList, calibration, first_of_each, quality, ranking
from model.backtest.result import Backtest, BacktestError
from model.backtest.run import BacktestPlan, backtest
from model.backtest.simulate import Simulation
from model.commands.cli import cli
from model.data.synthetic import Shop, generate
from model.decide.policy import Policy
from model.judge.judge import Judge
from model.report.backtest_page import page
from model.report.backtest_text import text
from streamer.records import MemoryPublisher
from streamer.store.memory import MemoryStore
from tests.support.fakes import (
    START_MS,
    TOPICS,
    an_order,
    by_time,
    claimed,
    done,
    every,
    judge,
    pipeline,
    records,
    scorer,
)
from tests.support.modelling import a_panel

DAY_0 = START_MS // MS_PER_DAY
# Nothing was learnt: every silence of half the horizon, 20 days, warns.
POLICY = Policy(floor_percentile=0)


def report(orders: list[Order], from_day: int = 0, **plan: object) -> Backtest:
    return backtest(orders, scorer(), BacktestPlan(DAY_0 + from_day, **({"policy": POLICY} | plan)))  # type: ignore[arg-type]


# --- the simulation ------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [None, 1, 3])
def test_the_walk_warns_of_whom_the_partition_warns(budget: int | None) -> None:
    shop = Shop(customers=120, days=300, arrival_days=150, seed=3)
    orders = by_time(generate(shop).orders)
    policy = Policy(floor_percentile=20, budget_per_day=budget)
    log, publisher = records(orders), MemoryPublisher()
    runner = claimed(log, MemoryStore(), publisher, pipeline(judge(policy)))
    done(runner.process(log))
    last_day = day_of(orders[-1].ts_ms)
    live = {
        (said["user_id"], said["as_of"][:10], said["trigger"])
        for message in publisher.of(TOPICS.warnings)
        if (said := msgspec.json.decode(message.value or b""))["kind"] == "warning"
    }
    by = scorer()
    simulation = Simulation(orders, Judge(by, by.rules(policy)))
    found = set()
    for day in range(day_of(orders[0].ts_ms), last_day + 1):
        raised = simulation.day(day).raised
        found |= {
            (s.user_id, str(np.datetime64(day, "D")), s.raised.trigger.value)
            for s in raised
            if s.raised
        }
    assert len(live) > 20
    assert found == live


def test_days_are_those_of_the_shop() -> None:
    # The same hours of the day, eight hours further west: every evening is another day in UTC.
    shop = Shop(customers=60, days=200, arrival_days=100, seed=3)
    orders = by_time(generate(shop).orders)
    later = [msgspec.structs.replace(o, ts_ms=o.ts_ms + 8 * 3_600_000) for o in orders]
    west = scorer(calendar=Calendar("Etc/GMT+8"))
    here, there = (
        backtest(log, by, BacktestPlan(day_of(orders[0].ts_ms) + 60, POLICY))
        for log, by in ((orders, scorer()), (later, west))
    )
    assert here.rule.churners
    assert there == here


# --- what is counted -----------------------------------------------------------------------------


def test_warnings_are_counted_as_the_definitions_say() -> None:
    orders = by_time(
        every("gone", 5, 5),  # last on day 20, warned of on day 40, never back
        [*every("back", 5, 5), an_order("back", 50.5)],  # silent 30 days: warned of, not a churn
        [
            *every("late", 5, 5),
            an_order("late", 70.5),
        ],  # 50 days: a churn, back within 40 of day 40
        every("loyal", 5, 40),  # never silent for long
    )
    found = report(orders)
    rule = found.rule
    # "back" and "late" fall silent again, are warned of again and do not return.
    assert (rule.warnings, rule.judged) == (5, 5)
    assert rule.strict_precision == pytest.approx(3 / 5)
    assert rule.episode_precision == pytest.approx(4 / 5)
    assert (rule.churners, rule.recall, rule.value_captured) == (4, 1.0, 1.0)
    assert rule.lead_days == (20.0,) * 5
    assert found.left_out == {}
    assert found.by_trigger["order"].judged == 0


def test_what_begins_before_the_period_or_ends_after_the_log_is_not_judged() -> None:
    orders = by_time(
        every("early", 5, 5), every("gone", 5, 5, first_day=60.5), every("loyal", 5, 30)
    )
    found = report(orders, from_day=30)
    assert (found.rule.warnings, found.rule.churners) == (1, 1)
    short = report(by_time(every("gone", 5, 5, first_day=60.5), every("loyal", 5, 23)), from_day=30)
    # Warned of on day 100; the log ends on day 110, so nobody knows.
    assert (short.rule.warnings, short.rule.judged, short.rule.churners) == (0, 0, 0)


def test_a_log_that_begins_after_the_model_was_trained_is_judged_from_its_first_day() -> None:
    orders = by_time(every("gone", 5, 5), every("loyal", 5, 40))
    whole, since = report(orders), report(orders, from_day=-30)
    assert since.rule == whole.rule
    assert since.panel_rule == whole.panel_rule
    assert (since.rule.churners, since.rule.recall) == (1, 1.0)


def test_an_order_that_was_taken_back_ends_no_silence() -> None:
    orders = by_time(
        [*every("gone", 5, 5), an_order("gone", 50.5, id="x")],
        [an_order("gone", 51.5, 0, OrderType.CANCELLATION, id="x")],
        every("loyal", 5, 40),
    )
    assert report(orders).rule.churners == 1


def test_whom_the_policy_leaves_out_is_counted_by_standing() -> None:
    orders = by_time([an_order("once", 20.5)], every("gone", 5, 5), every("loyal", 5, 40))
    found = report(orders, policy=Policy(floor_percentile=0, min_orders=2))
    assert found.left_out == {"one_time": 1}
    assert found.rule.churners == 1


def test_a_budget_is_kept_and_withholds() -> None:
    orders = by_time(*[every(f"gone-{n}", 5, 5) for n in range(6)], every("loyal", 5, 40))
    policy = Policy(floor_percentile=0, budget_per_day=2)
    found = report(orders, policy=policy)
    assert found.most_on_a_day == 2
    assert (found.rule.warnings, found.withheld) == (6, 4)
    (suggestion,) = found.suggestions
    assert suggestion.wish == "at most 2 warnings a day"
    assert suggestion.settings["CLV_BUDGET_PER_DAY"] == "2"


def test_silence_rules_are_read_off_at_the_same_lead() -> None:
    orders = by_time(*[every(f"gone-{n}", 5 + n, 5) for n in range(5)], every("loyal", 5, 40))
    found = report(orders)
    by_name = {baseline.name: baseline for baseline in found.baselines}
    assert by_name["silent for D days"].threshold == 20
    assert by_name["silent for D days"].quality == found.panel_rule


def test_a_precision_out_of_reach_is_said_to_be() -> None:
    orders = by_time([*every("back", 5, 5), an_order("back", 50.5)], every("loyal", 5, 40))
    (suggestion,) = report(orders, precision=0.99).suggestions
    assert suggestion.point is None
    assert suggestion.settings == {}


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ([], "no orders"),
        ([an_order("ada", 0)], r"1 days after .* its 1 days carry a horizon of 0"),
        (by_time([an_order("ada", 0, 0)], [an_order("ben", 100, 0)]), "no silence of a customer"),
    ],
)
def test_a_log_that_cannot_tell_is_refused_with_a_remedy(orders: list[Order], message: str) -> None:
    with pytest.raises(BacktestError, match=message):
        report(orders)


# --- the panel -----------------------------------------------------------------------------------


def test_only_the_first_row_of_a_silence_is_a_warning() -> None:
    panel = a_panel()
    assert first_of_each(panel, panel.churn >= 0.3).tolist() == [1, 5, 9]


def test_the_quality_of_a_rule_is_that_of_its_first_rows() -> None:
    panel = a_panel()
    rows = first_of_each(panel, panel.churn >= 0.3)
    silences = panel.silences
    found = quality(silences, panel.silence[rows], panel.day[rows], panel.strict[rows], 200)
    # On day 15: ada never returns, ben does after 15 days, cleo after 30, but 45 in all.
    assert found.strict_precision == pytest.approx(1 / 3)
    assert found.episode_precision == pytest.approx(2 / 3)
    assert (found.churners, found.recall, found.value_captured) == (2, 1.0, 1.0)
    assert found.median_lead_days == 25


def test_calibration_compares_what_was_said_with_what_happened() -> None:
    bins = calibration(a_panel(), bins=2)
    assert [one.rows for one in bins] == [6, 6]
    assert [one.predicted for one in bins] == pytest.approx([0.2, 0.6])
    assert [one.observed for one in bins] == pytest.approx([3 / 6, 2 / 6])


def test_a_ranking_is_worth_what_its_top_holds() -> None:
    panel = a_panel()
    # The better half are ada, who is gone, and ben, who comes back.
    best = ranking(panel, panel.reference, [15], 1 / 2)
    assert (best.precision, best.value_captured, best.clv_captured) == (1.0, 1.0, 1.0)
    worst = ranking(panel, -panel.reference, [15], 1 / 2)
    assert (worst.precision, worst.value_captured, worst.clv_captured) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("day", "top", "precision", "value", "clv"),
    [
        (5, 1 / 3, 1.0, 8 / 16, 100 / 110),  # cleo orders 40 days later, and is gone as well
        (15, 1 / 3, 1.0, 1.0, 1.0),
        (15, 2 / 3, 0.5, 1.0, 1.0),
        (5, 1.0, 2 / 3, 1.0, 1.0),
    ],
)
def test_value_is_what_those_who_are_gone_had_spent(
    day: int, top: float, precision: float, value: float, clv: float
) -> None:
    panel = a_panel()
    everybody = np.ones(len(panel.day), bool)
    found = ranking(panel, panel.reference, [day], top, everybody)
    assert found == CallList(precision, value, clv)
    nobody = ranking(panel, panel.reference, [], top)
    assert nobody == CallList(None, None, None)


# --- for people ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A synthetic shop's log, and a model trained on its first part."""
    directory = tmp_path_factory.mktemp("shop")
    log = directory / "orders.csv"
    log.write_text(
        "order_id,user_id,ts,amount,type\n"
        + "".join(
            f"{o.order_id},{o.user_id},{np.datetime64(o.ts_ms, 'ms')}Z,"
            f"{o.amount_minor / 100:.2f},{o.type.name.lower()}\n"
            for o in by_time(generate(Shop(customers=200, days=300, seed=11)).orders)
        )
    )
    ran = CliRunner().invoke(
        cli,
        [
            *("train", str(log), "--out", str(directory / "model"), "--horizon", "45"),
            *("--cutoff", cutoff(log)),
        ],
    )
    assert ran.exit_code == 0, ran.output
    return log, directory / "model"


def cutoff(log: Path) -> str:
    first = min(line.split(",")[2] for line in log.read_text().splitlines()[1:])
    return str(np.datetime64(first[:10]) + 200)


def test_the_command_prints_a_table_and_writes_a_page(
    shop_files: tuple[Path, Path], tmp_path: Path
) -> None:
    log, model = shop_files
    html = tmp_path / "report.html"
    arguments = ["backtest", str(log), "--model", str(model), "--html", str(html)]
    ran = CliRunner().invoke(cli, [*arguments, "--retrain-every", "60", "--precision", "0.5"])
    assert ran.exit_code == 0, ran.output
    assert max(map(len, ran.stdout.splitlines()[:-1])) <= 80  # the last names a path
    for part in (
        "strict",
        "silent for ",
        "CLV_PRECISION",
        "CLV_MONEY=2",
        "Warnings per 1,000",
        "Learned on",
        "same mean lead",
        "For strict",
    ):
        assert part in ran.output
    written = html.read_text()
    assert written.count("<svg") == 4
    for part in ("points", "95 % interval", "CLV_EARLY", "CLV_MONEY", "month of the warning"):
        assert part in written
    assert re.findall(r'(?:src|href)="?https?:', written) == []
    assert "nan" not in written.lower().replace("finance", "")


def test_the_command_prints_json_that_is_the_report(shop_files: tuple[Path, Path]) -> None:
    log, model = shop_files
    ran = CliRunner().invoke(
        cli,
        [
            "backtest",
            str(log),
            "--model",
            str(model),
            "--json",
            "--budget",
            "1",
            "--set",
            "money=2",
        ],
    )
    assert ran.exit_code == 0, ran.output
    found = msgspec.json.decode(ran.stdout, type=Backtest)
    policy = Policy(budget_per_day=1, money=2)
    assert found.policy_version == policy.version
    assert found.ranked_by == "budget: P(churn) x (1 + 2 spend)"
    assert found.most_on_a_day == 1
    assert text(found)
    assert page(found) == page(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "2000-01-01"], "lies before the model's cutoff"),
        (["--set", "early=2"], "early is 2.0; it must be a share between 0 and 1"),
        (["--set", "dorp=0.2"], "write NAME=VALUE with a NAME of: floor_percentile"),
        (["--set", "early=low"], "'low' is no float"),
        (["--budget", "0"], "--budget"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(
    shop_files: tuple[Path, Path], arguments: list[str], message: str
) -> None:
    log, model = shop_files
    ran = CliRunner().invoke(cli, ["backtest", str(log), "--model", str(model), *arguments])
    assert ran.exit_code != 0
    assert message in ran.output
    assert "Traceback" not in ran.output


def test_a_log_without_orders_is_one_clear_line(
    shop_files: tuple[Path, Path], tmp_path: Path
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("order_id,user_id,ts,amount\n")
    ran = CliRunner().invoke(cli, ["backtest", str(empty), "--model", str(shop_files[1])])
    assert ran.exit_code == 1
    assert "it has no rows below its header" in ran.output


def test_how_rows_stand_in_a_file_and_repeats_change_nothing(
    shop_files: tuple[Path, Path], tmp_path: Path
) -> None:
    log, model = shop_files
    header, *rows = log.read_text().splitlines()
    mixed = tmp_path / "mixed.csv"
    mixed.write_text("\n".join([header, *reversed(rows), *rows[::7]]) + "\n")
    ran = [
        CliRunner().invoke(cli, ["backtest", str(path), "--model", str(model), "--json"])
        for path in (log, mixed)
    ]
    assert [one.exit_code for one in ran] == [0, 0]
    assert ran[0].stdout == ran[1].stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("order_id,user_id,amount\n1,ada,5\n", "has no column ts"),
        ("order_id,user_id,ts,amount\n1,ada,yesterday,5\n", "line 2: bad_ts: ts 'yesterday'"),
        ("order_id,user_id,ts,amount\n1,ada,2026-01-01T00:00:00Z,5\n", "no silence of a customer"),
    ],
)
def test_a_log_that_cannot_be_used_is_told_of_in_a_line(
    shop_files: tuple[Path, Path], tmp_path: Path, content: str, message: str
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(content)
    ran = CliRunner().invoke(cli, ["backtest", str(bad), "--model", str(shop_files[1])])
    assert ran.exit_code == 1
    assert message in ran.output
    assert "Traceback" not in ran.output
