"""How good the warnings are on two public order logs: the tables of docs/warnings.md.

    python -m benchmarks.warnings_bar [--tune | --live]

Reads `online_retail_ii.csv.gz` and `cdnow.csv.gz` from the directory CLV_BENCH_DATA.

Method: each log is simulated day by day through the live judge, with a model trained on what was
known at the period's first day, and again every 30 days. The early period runs from day 180 of the
log to the split day; on it the defaults were chosen (`--tune` prints that choice). The late period
runs from the split day to the end; all figures of the tables are of it. Silences belong to the
period that they begin in, call lists to that of their day.

A call list: every 30 days, a tenth of the better half (by reference CLV) of the customers who
ordered within the last H days. `--live` sends as many warnings through the budget itself, a
thirtieth of them a day.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from features.orders import Order, OrderRules, OrderType
from features.times import day_of, iso_day
from model.backtest.baselines import SIMPLE, TOP_SHARE, budget_weight, rankings, silence_fires
from model.backtest.panel import CallList, Panel, Quality, quality_of, ranking
from model.backtest.result import Backtest
from model.backtest.run import BacktestPlan, BacktestRun, trained
from model.data.order_log import RejectedRow, read_orders
from model.data.training_rows import TrainingConfig, sorted_orders
from model.decide.policy import Policy, Stake


class Log(NamedTuple):
    """A log's file, the day that its late period begins on, the strict precision wanted, and what
    a call list must exceed beside every simple one: precision and value."""

    file: str
    split: int
    strict: float
    listed: tuple[float, float]


LOGS = {
    "Online Retail II": Log("online_retail_ii", 365, 0.34, (0.0, 0.0)),
    "CDNOW": Log("cdnow", 270, 0.58, (0.57, 0.24)),
}
FIRST_DAY = 180
RETRAIN_EVERY_DAYS = 30
NEARLY = 0.005
CERTAINTIES = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)


@dataclass(frozen=True)
class Period:
    """A part of a log that was simulated: its report, and the panel behind it."""

    run: BacktestRun
    report: Backtest

    @property
    def panel(self) -> Panel:
        assert self.run.panel is not None
        return self.run.panel

    @property
    def lists(self) -> dict[str, CallList]:
        """The call lists of the period."""
        return rankings(self.panel, Policy(), self.days)

    @property
    def lists_of_all(self) -> dict[str, CallList]:
        """The same of a tenth of all who are worth a warning, not only of the better half."""
        everybody = np.ones(len(self.panel.day), bool)
        return rankings(self.panel, Policy(), self.days, everybody)

    def list_by(self, policy: Policy) -> CallList:
        """The call list that a policy's budget would make."""
        return ranking(self.panel, budget_weight(self.panel, policy), self.days, TOP_SHARE)

    @property
    def days(self) -> range:
        return self.run.rank_days(self.panel)


def orders_of(name: str) -> list[Order]:
    """The log by that name."""
    directory = Path(os.environ.get("CLV_BENCH_DATA", "data"))
    rows = read_orders([directory / f"{name}.csv.gz"], OrderRules())
    return sorted_orders(row for row in rows if not isinstance(row, RejectedRow))


def simulated(
    orders: Sequence[Order], from_day: int, until_day: int | None, policy: Policy
) -> Period:
    """A period of a log, from one of its days (0 is that of the first order) to another."""
    started = time.process_time()
    first = day_of(orders[0].ts_ms)
    scorer = trained(orders, first + from_day, TrainingConfig())
    until = None if until_day is None else first + until_day
    run = BacktestRun(
        orders, scorer, BacktestPlan(first + from_day, policy, RETRAIN_EVERY_DAYS, until)
    )
    report = run.report()
    ends = iso_day(until) if until else report.end
    print(
        f"  {report.start} to {ends}: {report.customers:,} customers,"
        f" {time.process_time() - started:.0f} s of CPU time",
        flush=True,
    )
    return Period(run, report)


# --- the bar -------------------------------------------------------------------------------------


def bar(name: str, log: Log, period: Period) -> list[str]:
    """The rows of one log: what is wanted, what was found."""
    report, found = period.report, period.report.rule
    silent = report.baselines[0]
    strict = found.strict_precision or 0.0
    gain = 100 * (strict - (silent.quality.strict_precision or 0.0))
    rows = [
        _at_least("recall", 0.95, found.recall),
        _row("median lead, days", ">= 25", f"{found.median_lead_days:.0f}", _lead(found) >= 25),
        _at_least("strict precision", log.strict, strict),
        _row(
            f"over silent >= {silent.threshold:.0f} days, same median lead, points",
            ">= 2",
            f"{gain:.1f}",
            gain >= 2,
        ),
    ]
    mean = report.mean_baseline
    if mean is not None:
        panel_strict = report.panel_rule.strict_precision or 0.0
        gain = 100 * (panel_strict - (mean.quality.strict_precision or 0.0))
        lead = report.panel_rule.mean_lead_days
        what = f"over silent >= {mean.threshold:.0f} days, same mean lead ({lead:.0f}), points"
        rows.append(_row(what, ">= 2", f"{gain:.1f}", gain >= 2))
    rows += _listed(log, period.lists)
    swapped = report.swap_warnings_share or 0.0
    rows.append(
        _row("warnings on days with a new model", "<= 5 %", _share(swapped), swapped <= 0.05)
    )
    order_only = report.order_only_recall or 0.0
    times = (found.recall or 0.0) / order_only if order_only else np.inf
    what = f"churners found, over order-only scoring ({_share(order_only)})"
    rows.append(_row(what, ">= 4 x", f"{times:.0f} x", times >= 4))
    return [f"| {name} | {row}" for row in rows]


def _listed(log: Log, lists: dict[str, CallList]) -> list[str]:
    """The call list of the budget against the best simple one, in precision and in value."""
    ours = next(iter(lists.values()))
    rows = []
    for what, of, least in (
        ("precision", lambda r: r.precision or 0.0, log.listed[0]),
        ("value", lambda r: r.value_captured or 0.0, log.listed[1]),
    ):
        best = max(SIMPLE, key=lambda name: of(lists[name]))
        wanted = max(of(lists[best]), least)
        said = f"> {wanted:.1%}" + (f" ({best})" if wanted > least else "")
        rows.append(
            _row(f"call list of the budget: {what}", said, _share(of(ours)), of(ours) > wanted)
        )
    return rows


def _at_least(what: str, least: float, found: float | None) -> str:
    return _row(what, f">= {least:.0%}", _share(found), (found or 0.0) >= least)


def _row(what: str, wanted: str, found: str, met: bool) -> str:
    return f"{what} | {wanted} | {found} | {'met' if met else '**missed**'} |"


def _lead(found: Quality) -> float:
    return found.median_lead_days or 0.0


def list_rows(name: str, lists: dict[str, CallList]) -> list[str]:
    """The rows of a table of call lists."""
    return [
        f"| {name} | {by} | {_share(r.precision)} | {_share(r.value_captured)} |"
        f" {_share(r.clv_captured)} |"
        for by, r in lists.items()
    ]


LISTS_HEAD = (
    "| log | a tenth by | precision | value | value in CLV |",
    "| --- | --- | ---: | ---: | ---: |",
)


def frontier(period: Period) -> dict[str, CallList]:
    """The call lists of all certainties, by what was spent and by the reference."""
    return {
        f"P(churn)^{certainty:g} x {value.value}": period.list_by(
            Policy(budget_value=value, budget_certainty=certainty)
        )
        for value in Stake
        for certainty in CERTAINTIES
    }


# --- the budget itself ---------------------------------------------------------------------------


def live(name: str, orders: Sequence[Order], log: Log) -> list[str]:
    """What the budget sends, day by day, when it may send as many as the call lists name."""
    per_day = max(1, round(active(orders, log.split) / 2 * TOP_SHARE / RETRAIN_EVERY_DAYS))
    rows = []
    for policy in (Policy(), Policy(budget_value=Stake.REFERENCE, budget_certainty=1.0)):
        done = simulated(orders, log.split, None, replace(policy, budget_per_day=per_day))
        rule = done.report.rule
        fits = f"P(churn)^{policy.budget_certainty:g} x {policy.budget_value.value}"
        rows.append(
            f"| {name} | {per_day} a day | {fits} | {rule.warnings} |"
            f" {_share(rule.strict_precision)} | {_share(rule.value_captured)} |"
        )
    return rows


def active(orders: Sequence[Order], from_day: int) -> float:
    """How many customers ordered within the horizon before the days of the call lists: the mean."""
    horizon = TrainingConfig().horizon_days
    ordered = np.array([day_of(o.ts_ms) for o in orders if o.type is OrderType.ORDER])
    users = np.array([o.user_id for o in orders if o.type is OrderType.ORDER])
    days = range(int(ordered[0]) + from_day, int(ordered[-1]) + 2 - horizon, RETRAIN_EVERY_DAYS)
    return float(np.mean([len(set(users[(ordered < d) & (ordered >= d - horizon)])) for d in days]))


# --- the choice ----------------------------------------------------------------------------------


def tuned(periods: dict[str, Period]) -> list[str]:
    """What each setting gives on the early periods, and the default: of those that keep recall and
    lead on both logs and come within NEARLY of the best mean gain, the one that warns earliest."""
    lines = [
        "| drop | percentile of P(churn) | log | strict | recall | lead | gain over silence |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    settings: list[tuple[float, float, str]] = []
    for drop in (0.1, 0.2, 0.3):
        for percentile in (0, 30, 40, 45, 50, 60):
            gains, leads, recalls = [], [], []
            for name, period in periods.items():
                panel, rules = period.panel, period.run.rules
                fires = silence_fires(panel, Policy(drop=drop), rules, percentile, late=True)
                found = quality_of(panel, fires)
                gains.append(_gain(panel, found))
                leads.append(found.median_lead_days or 0.0)
                recalls.append(found.recall or 0.0)
                lines.append(
                    f"| {drop:g} | {percentile} | {name} | {_share(found.strict_precision)} |"
                    f" {_share(found.recall)} | {leads[-1]:.0f} | {100 * gains[-1]:+.1f} |"
                )
            if min(recalls) >= 0.95 and min(leads) >= 25:
                setting = f"drop {drop:g}, percentile {percentile}"
                settings.append((sum(gains) / len(gains), sum(leads), setting))
    best = max(gain for gain, _, _ in settings)
    chosen = max((s for s in settings if s[0] >= best - NEARLY), key=lambda s: (s[1], s[0]))
    return [*lines, "", f"Chosen: {chosen[2]}"]


def _gain(panel: Panel, found: Quality) -> float:
    """Strict precision over that of plain silence with the same median lead."""
    days = panel.silences.horizon_days - round(found.median_lead_days or 0)
    plain = quality_of(panel, panel.silent_days >= days)
    return (found.strict_precision or 0) - (plain.strict_precision or 0)


def certainties(periods: dict[str, Period]) -> list[str]:
    """How far the budget's call list is above every simple one on the early periods, by its
    certainty, and the default: that with the largest margin where the margin is smallest."""
    lines = [
        "| certainty | log | precision | value | margin in precision | margin in value |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    margins: dict[float, float] = {}
    simple = {name: period.lists for name, period in periods.items()}
    for certainty in CERTAINTIES:
        least = []
        for name, period in periods.items():
            found = period.list_by(Policy(budget_certainty=certainty))
            lists = [simple[name][by] for by in SIMPLE]
            precision = (found.precision or 0) - max(r.precision or 0 for r in lists)
            value = (found.value_captured or 0) - max(r.value_captured or 0 for r in lists)
            least += [precision, value]
            lines.append(
                f"| {certainty:g} | {name} | {_share(found.precision)} |"
                f" {_share(found.value_captured)} | {100 * precision:+.1f} | {100 * value:+.1f} |"
            )
        margins[certainty] = min(least)
    chosen = max(margins, key=lambda certainty: margins[certainty])
    return ["", *lines, "", f"Chosen: certainty {chosen:g}"]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def main() -> None:
    """Prints the tables."""
    tune, through = ("--tune" in sys.argv[1:], "--live" in sys.argv[1:])
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    periods: dict[str, Period] = {}
    sent: list[str] = []
    for name, log in LOGS.items():
        print(name, flush=True)
        orders = orders_of(log.file)
        if through:
            sent += live(name, orders, log)
            continue
        days = (FIRST_DAY, log.split) if tune else (log.split, None)
        periods[name] = simulated(orders, *days, Policy())
    if through:
        head = "| log | budget | ranked by | warnings | strict | value in CLV |"
        print("\n".join([head, "| --- | --- | --- | ---: | ---: | ---: |", *sent]))
    elif tune:
        print("\n".join([*tuned(periods), *certainties(periods)]))
    else:
        _print_late(periods)


def _print_late(periods: dict[str, Period]) -> None:
    print("| log | what | wanted | found | |\n| --- | --- | --- | ---: | --- |")
    for name, period in periods.items():
        print("\n".join(bar(name, LOGS[name], period)))
    for title, table in (
        ("Call lists", lambda period: period.lists),
        ("Certainty against money", frontier),
        ("Call lists of a tenth of all worth a warning", lambda period: period.lists_of_all),
    ):
        print("\n".join(["", f"{title}:", "", *LISTS_HEAD]))
        for name, period in periods.items():
            print("\n".join(list_rows(name, table(period))))


if __name__ == "__main__":
    main()
