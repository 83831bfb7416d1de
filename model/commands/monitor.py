"""`python -m model monitor`: whether a model still fits, over the weeks of a log."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from tqdm import tqdm

from features.times import calendar_of, day_of_date, iso_day
from model.artifact import artifact
from model.artifact.signature import Trust
from model.commands.shared import (
    MODEL,
    ORDERS,
    Reading,
    from_option,
    known_customers,
    one_line_errors,
    report_options,
    say,
    write_page,
)
from model.monitor.drift import WINDOW_DAYS
from model.monitor.result import Monitored, age_at
from model.monitor.weekly import MonitorError, of_everybody, weeks
from model.report.monitor_text import text

ALARM: int = 3
"""The exit code where the newest week raises an alarm."""


@click.command("monitor")
@ORDERS
@MODEL
@from_option("The weeks from this day on.")
@report_options
def monitor_command(
    orders: tuple[Path, ...],
    model_path: Path,
    from_day: int | None,
    attributes: Path | None,
    as_json: bool,
    html: Path | None,
    trust: Trust,
    reading: Reading,
) -> None:
    """See whether a model still fits, week by week of a log that goes on after it.

    Exit code 3 where the newest week raises an alarm, so that cron can tell somebody.

    \b
    Example:
      python -m model monitor orders.csv.gz --model models/shop --html drift.html
    """
    with one_line_errors():
        loaded = artifact.load(model_path, trust)
        manifest, scorer = loaded.manifest, loaded.scorer(attributes)
        if manifest.reference is None:
            raise MonitorError(
                f"model {model_path} has no reference to compare with: it was made by an older"
                " version, or from too few customers; retrain it"
            )
        log = reading.load(orders, reading.rules_of(manifest)).orders
        known_customers(scorer.attributes, log)
        start = day_of_date(manifest.cutoff) if from_day is None else from_day
        last = calendar_of(manifest.timezone).day_of(log[-1].ts_ms) if log else start
        if last < start + WINDOW_DAYS:
            raise MonitorError(
                f"the log ends {iso_day(last)}, less than a week after {iso_day(start)}: give the"
                " orders since, or an earlier --from"
            )
        bar = tqdm(
            weeks(log, scorer, of_everybody(manifest.reference), start),
            total=(last - start) // WINDOW_DAYS,
            desc="weeks",
            disable=None,
            leave=False,
        )
        age = age_at(manifest.cutoff, manifest.horizon_days, last)
        report = Monitored(manifest.model_version, manifest.cutoff, list(bar), age)
        if html is not None:
            from model.report.monitor_page import page

            write_page(html, page(report))
    say(report, lambda: text(report), html, as_json=as_json)
    sys.exit(ALARM if report.weeks and report.weeks[-1].alarms else 0)
