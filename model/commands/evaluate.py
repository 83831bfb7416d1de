"""`python -m model evaluate`: how good a model is, or its kind over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from tqdm import tqdm

from features.events.orders import Order
from features.times import calendar_of, iso_day
from model.artifact import artifact
from model.artifact.manifest import Manifest
from model.artifact.signature import Trust
from model.commands.shared import (
    CUTOFF,
    ORDERS,
    Reading,
    known_customers,
    one_line_errors,
    report_options,
    step,
    tell,
    write_page,
)
from model.data.attributes import Attributes, attributes_for
from model.data.training_rows import TrainingConfig, default_cutoff_day
from model.evaluate import holdout as evaluation
from model.evaluate.holdout import EvaluationError
from model.evaluate.rolling import Rolled, as_it_is, cutoff_days, rolled
from model.report.evaluation_text import text


@click.command("evaluate")
@ORDERS
@click.option(
    "--model",
    "model_path",
    required=True,
    type=click.Path(path_type=Path),
    help="A model, or a registry of them.",
)
@CUTOFF
@click.option(
    "--cutoffs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Retrain its kind at N cutoffs, and judge each by what came next.",
)
@click.option(
    "--every",
    "every_days",
    type=click.IntRange(min=1),
    metavar="DAYS",
    help="How far the cutoffs lie apart. Default: the horizon.",
)
@report_options
def evaluate_command(
    orders: tuple[Path, ...],
    model_path: Path,
    cutoff: int | None,
    cutoffs: int | None,
    every_days: int | None,
    attributes: Path | None,
    as_json: bool,
    html: Path | None,
    trust: Trust,
    reading: Reading,
) -> None:
    """Compare a model with two baselines on a time it has not seen.

    Without --cutoffs the model is judged as it is. With it, its kind and options are: retrained
    at each cutoff, on what was known then. --cutoff is then the newest of them.

    \b
    Example:
      python -m model evaluate orders.csv.gz --model models/shop --json
      python -m model evaluate orders.csv.gz --model models/shop --cutoffs 3 \\
        --every 60 --html report.html
    """
    if every_days is not None and cutoffs is None:
        raise click.UsageError("--every goes with --cutoffs N")
    with one_line_errors():
        loaded = artifact.load(model_path, trust)
        manifest = loaded.manifest
        known = attributes_for(manifest.attributes, attributes)
        log = reading.load(orders, reading.rules_of(manifest)).orders
        known_customers(known, log)
        if cutoffs is None:
            found = _as_it_is(log, loaded, cutoff, known)
        else:
            config = _config(manifest, known)
            found = _rolled(log, config, cutoffs, every_days, cutoff)
        if html is not None:
            # It brings matplotlib and scikit-learn's inspection, which nothing else needs.
            from model.report.evaluation_page import page

            with step("plotting"):
                write_page(html, page(found, manifest.model_version))
    if as_json:
        tell(msgspec.json.encode(_document(found, manifest)))
        return
    tell(f"Model {manifest.model_version}\n\n{text(found.report)}")
    if html is not None:
        tell(f"\nWritten to {html}")


def _as_it_is(
    log: Sequence[Order],
    loaded: artifact.Artifact,
    cutoff: int | None,
    attributes: Attributes | None,
) -> Rolled:
    manifest = loaded.manifest
    calendar = calendar_of(manifest.timezone)
    newest = default_cutoff_day(log, manifest.horizon_days, calendar)
    cutoff_day = newest if cutoff is None else cutoff
    if cutoff is None and iso_day(cutoff_day) < manifest.cutoff:
        raise EvaluationError(
            f"the log ends {iso_day(calendar.day_of(log[-1].ts_ms))}, less than"
            f" {manifest.horizon_days} days after the model's cutoff, {manifest.cutoff}, so nothing"
            " can judge it yet: give the orders since, or --cutoffs 1 to train its kind anew"
            " further back"
        )
    if iso_day(cutoff_day) < manifest.cutoff:
        raise EvaluationError(
            f"cutoff {iso_day(cutoff_day)} lies before the model's own, {manifest.cutoff}:"
            " the model was trained on what happened in between, and would be judged by"
            f" answers that it has seen; use --cutoff {manifest.cutoff} or later, or --cutoffs 1"
            " to retrain its kind"
        )
    with step("evaluating"):
        return as_it_is(log, loaded.model, cutoff_day, attributes=attributes, risk=manifest.risk)


def _config(manifest: Manifest, attributes: Attributes | None) -> TrainingConfig:
    return TrainingConfig(
        horizon_days=manifest.horizon_days,
        snapshot_every_days=manifest.snapshot_every_days,
        currency=manifest.currency,
        kind=manifest.kind,
        options=manifest.options,
        attributes=attributes,
        calendar=calendar_of(manifest.timezone),
        free_orders=manifest.free_orders,
    )


def _rolled(
    log: Sequence[Order], config: TrainingConfig, count: int, every: int | None, newest: int | None
) -> Rolled:
    days = cutoff_days(log, config, count, every or config.horizon_days, newest)
    # disable=None: a bar on a terminal, nothing when piped.
    with tqdm(total=count, desc="cutoffs", disable=None, leave=False) as bar:
        return rolled(log, config, days, bar.update)


def _document(found: Rolled, manifest: Manifest) -> dict[str, object]:
    report = found.report
    named: dict[str, object] = {"model_version": manifest.model_version}
    if report.refitted:
        return {**named, **msgspec.to_builtins(report)}
    return {
        **named,
        **evaluation.as_json(report.cutoffs[0]),
        "differences": msgspec.to_builtins(report.differences),
        "resamples": report.resamples,
        "seed": report.seed,
    }
