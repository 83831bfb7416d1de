"""`python -m model backtest`: how good the warnings would have been on a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import click
from tqdm import tqdm

from features.events.orders import Order
from features.times import calendar_of, day_of_date, iso_day
from model.artifact import artifact
from model.artifact.files import JUDGED
from model.artifact.signature import Trust
from model.backtest.result import BacktestError
from model.backtest.run import BacktestPlan, backtest
from model.commands.shared import (
    MODEL,
    ORDERS,
    Reading,
    from_option,
    known_customers,
    one_line_errors,
    report_options,
    say,
    tell,
    write_page,
)
from model.decide.policy import Policy
from model.report.backtest_text import text


@click.command("backtest")
@ORDERS
@MODEL
@from_option("Judge from 00:00 of this day, in the shop's zone.")
@click.option(
    "--retrain-every",
    type=click.IntRange(min=1),
    metavar="DAYS",
    help="Retrain every so many days on what was known then. Default: never.",
)
@click.option("--budget", type=click.IntRange(min=1), metavar="N", help="At most N warnings a day.")
@click.option(
    "--precision",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="P",
    help="Suggest settings for a strict precision of P, such as 0.5.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the policy, such as early=0.6; may be repeated.",
)
@report_options
def backtest_command(
    orders: tuple[Path, ...],
    model_path: Path,
    from_day: int | None,
    retrain_every: int | None,
    budget: int | None,
    precision: float | None,
    settings: tuple[str, ...],
    attributes: Path | None,
    as_json: bool,
    html: Path | None,
    trust: Trust,
    reading: Reading,
) -> None:
    """See how good the warnings would have been on a log whose future is known.

    The log is walked day by day through the code that runs live.

    \b
    Example:
      python -m model backtest orders.csv.gz --model models/shop --html report.html
    """
    with one_line_errors():
        loaded = artifact.load(model_path, trust)
        log = reading.load(orders, reading.rules_of(loaded.manifest)).orders
        if from_day is None:
            loaded = _judged(loaded, model_path, log, trust)
        manifest, scorer = loaded.manifest, loaded.scorer(attributes)
        known_customers(scorer.attributes, log)
        cutoff_day = day_of_date(manifest.cutoff)
        if from_day is not None and from_day < cutoff_day:
            raise BacktestError(
                f"--from {iso_day(from_day)} lies before the model's cutoff, {manifest.cutoff}: the"
                " model has seen what it would be judged by; choose a later day or train with an"
                " earlier --cutoff"
            )
        start = cutoff_day if from_day is None else from_day
        day_of = scorer.calendar.day_of
        last_day = day_of(log[-1].ts_ms) if log else start
        first_day = day_of(log[0].ts_ms) if log else start
        # disable=None: a bar on a terminal, nothing when piped.
        with tqdm(total=last_day + 1 - first_day, desc="days", disable=None, leave=False) as bar:
            report = backtest(
                log,
                scorer,
                BacktestPlan(
                    from_day=start,
                    policy=_policy(settings, budget),
                    retrain_every_days=retrain_every,
                    precision=precision,
                    progress=bar.update,
                ),
            )
        if html is not None:
            from model.report.backtest_page import page

            write_page(html, page(report))
    say(report, lambda: text(report), html, as_json=as_json)


def _judged(
    loaded: artifact.Artifact, path: Path, log: Sequence[Order], trust: Trust
) -> artifact.Artifact:
    """The model, or its twin where the log ends too soon after the model's own cutoff."""
    manifest = loaded.manifest
    end_day = calendar_of(manifest.timezone).day_of(log[-1].ts_ms) + 1
    known = end_day - day_of_date(manifest.cutoff)
    if known > manifest.horizon_days or not (path / JUDGED).is_dir():
        return loaded
    twin = artifact.load(path / JUDGED, trust)
    tell(
        f"The log ends {known} days after the model's cutoff, so its twin is judged, trained up to"
        f" {twin.manifest.cutoff}",
        err=True,
    )
    return twin


def _policy(settings: Sequence[str], budget: int | None) -> Policy:
    """The default policy with some settings changed. Raises PolicyError or a usage error."""
    given: dict[str, object] = {} if budget is None else {"budget_per_day": budget}
    kinds = {field.name: str(field.type) for field in fields(Policy)}
    for setting in settings:
        name, equals, value = setting.partition("=")
        kind = kinds.get(name, "")
        if not equals or not kind or kind.startswith("tuple"):
            known = ", ".join(name for name, kind in kinds.items() if not kind.startswith("tuple"))
            raise click.UsageError(f"--set {setting}: write NAME=VALUE with a NAME of: {known}")
        try:
            given[name] = _value(kind, value)
        except ValueError:
            raise click.UsageError(f"--set {setting}: {value!r} is no {kind}") from None
    return replace(Policy(), **given)  # type: ignore[arg-type]  # checked by the policy itself


def _value(kind: str, text: str) -> object:
    """A setting's value, read as its field's type."""
    if kind.endswith("None") and text.lower() in ("none", "off", ""):
        return None
    if kind.startswith("int"):
        return int(text)
    return float(text) if kind.startswith("float") else text
