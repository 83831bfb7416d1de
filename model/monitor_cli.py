"""`python -m model monitor`: whether a model still fits, over the weeks of a log."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from tqdm import tqdm

from features.buckets import day_of
from model import artifact
from model.attributes import AttributesError
from model.console import ATTRIBUTES, ORDERS, day_option, one_line_errors, read_log
from model.evaluation import iso_day
from model.files import ArtifactRefused
from model.monitor import MonitorError, of_everybody, weeks
from model.monitor_page import page, text
from model.monitored import Monitored
from model.monitoring import WINDOW_DAYS
from model.orderlog import OrderLogError
from model.signature import Trust
from model.signing_cli import trust_options

ALARM: int = 3
"""The exit code where the newest week rings."""

_TOLD = (ArtifactRefused, AttributesError, MonitorError, OrderLogError, OSError)


@click.command("monitor")
@ORDERS
@click.option("--model", "model_path", required=True, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "from_day",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=day_option,
    metavar="YYYY-MM-DD",
    help="The weeks from this day on. Default: the model's cutoff.",
)
@ATTRIBUTES
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots.")
@trust_options
def monitor_command(
    orders: tuple[Path, ...],
    model_path: Path,
    from_day: int | None,
    attributes: Path | None,
    as_json: bool,
    html: Path | None,
    trust: Trust,
) -> None:
    """See whether a model still fits, week by week of a log that goes on after it.

    Exit code 3 where the newest week rings an alarm, so that cron can tell somebody.

    \b
    Example:
      python -m model monitor orders.csv.gz --model models/shop --html drift.html
    """
    with one_line_errors(*_TOLD):
        loaded = artifact.load(model_path, trust)
        manifest, scorer = loaded.manifest, loaded.scorer(attributes)
        if manifest.reference is None:
            raise MonitorError(
                f"model {model_path} has no reference to compare with: it was made by an older"
                " version, or from too few customers; train it anew"
            )
        log = read_log(orders, manifest.currency)
        start = _day(manifest.cutoff) if from_day is None else from_day
        last = day_of(log[-1].ts_ms) if log else start
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
        report = Monitored(manifest.model_version, manifest.cutoff, list(bar))
        if html is not None:
            html.write_text(page(report), encoding="utf-8")
    click.echo(msgspec.json.encode(report) if as_json else text(report))
    if html is not None and not as_json:
        click.echo(f"\nWritten to {html}")
    sys.exit(ALARM if report.weeks and report.weeks[-1].alarms else 0)


def _day(iso: str) -> int:
    return day_of(int(datetime.fromisoformat(iso).replace(tzinfo=UTC).timestamp()) * 1000)


COMMANDS = (monitor_command,)
