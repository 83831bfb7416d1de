"""The commands of `python -m model`: train and evaluate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import numpy as np
from tqdm import tqdm

from features.buckets import day_of
from features.orders import Order, OrderRules
from model import artifact
from model.artifact import ArtifactRefused, ManifestFields
from model.clv import ClvModel, Floats
from model.evaluation import (
    Evaluation,
    EvaluationError,
    as_json,
    churn_quantiles,
    evaluate,
    iso_day,
    score_quantiles,
    table,
)
from model.orderlog import OrderLogError, RejectedRow, read_orders
from model.training import (
    TrainingConfig,
    TrainingError,
    default_cutoff_day,
    fit,
    population,
    sorted_orders,
    training_set,
)

_CANARIES = 8

_ORDERS = click.argument(
    "orders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="ORDERS..."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
def cli() -> None:
    """Train a CLV model on an order log, and see how good it is.

    ORDERS are files: CSV, JSON Lines or Parquet, the first two also as .gz, with
    order_id, user_id, ts, amount and, optionally, type and currency.
    """


def _currency(_: click.Context, __: click.Parameter, value: str) -> str:
    if not re.fullmatch("[A-Z]{3}", value):
        raise click.BadParameter(f"{value!r} is no ISO 4217 code; write three capitals, like USD")
    return value


def _day(_: click.Context, __: click.Parameter, value: datetime | None) -> int | None:
    if value is None:
        return None
    return day_of(int(value.replace(tzinfo=UTC).timestamp()) * 1000)


_CUTOFF = click.option(
    "--cutoff",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=_day,
    metavar="YYYY-MM-DD",
    help="Only what was known at 00:00 UTC of this day. Default: one horizon before the log ends.",
)


@cli.command("train")
@_ORDERS
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the model goes.")
@click.option("--horizon", default=90, show_default=True, help="Days that CLV looks ahead.")
@_CUTOFF
@click.option(
    "--currency", default="USD", show_default=True, callback=_currency, help="Of all amounts."
)
def train_command(
    orders: tuple[Path, ...], out: Path, horizon: int, cutoff: int | None, currency: str
) -> None:
    """Train a model, compare it on the time after the cutoff, and write it to --out.

    \b
    Example:
      python -m model train orders.csv.gz --out models/shop
    """
    with _one_line_errors():
        config = TrainingConfig(horizon_days=horizon, currency=currency)
        log = _read(orders, currency)
        cutoff_day = default_cutoff_day(log, horizon) if cutoff is None else cutoff
        with _step("training"):
            rows = training_set(log, config, cutoff_day)
            known = population(log, cutoff_day)
            model = fit(rows, config, known)
        report = _report(log, model, cutoff_day, horizon)
        text = _no_holdout(horizon) if report is None else table(report)
        scores = model.clv(known)
        manifest = artifact.save(
            out,
            model,
            ManifestFields(
                snapshot_every_days=config.snapshot_every_days,
                trained_from=iso_day(day_of(log[0].ts_ms)),
                cutoff=iso_day(cutoff_day),
                training_rows=len(rows.X),
                training_customers=rows.customers,
                score_quantiles=score_quantiles(scores),
                churn_quantiles=churn_quantiles(known, model),
                canary_features=_canaries(known, scores).tolist(),
                metrics={} if report is None else as_json(report),
                report=text,
            ),
        )
    click.echo(
        f"Model {manifest.model_version}: {manifest.training_rows:,} rows of"
        f" {manifest.training_customers:,} customers,\n"
        f"orders from {manifest.trained_from} to before {manifest.cutoff}\n"
        f"\n{text}\n\nWritten to {out}"
    )


@cli.command("evaluate")
@_ORDERS
@click.option("--model", "model_path", required=True, type=click.Path(path_type=Path))
@_CUTOFF
@click.option("--json", "as_json_", is_flag=True, help="Print the report as one JSON object.")
def evaluate_command(
    orders: tuple[Path, ...], model_path: Path, cutoff: int | None, as_json_: bool
) -> None:
    """Compare a trained model with two yardsticks on a time it has not seen.

    \b
    Example:
      python -m model evaluate orders.csv.gz --model models/shop --json
    """
    with _one_line_errors():
        loaded = artifact.load(model_path)
        manifest = loaded.manifest
        log = _read(orders, manifest.currency)
        cutoff_day = default_cutoff_day(log, manifest.horizon_days) if cutoff is None else cutoff
        if iso_day(cutoff_day) < manifest.cutoff:
            raise EvaluationError(
                f"cutoff {iso_day(cutoff_day)} lies before the model's own, {manifest.cutoff}:"
                " the model was trained on what happened in between, and would be judged by"
                f" answers that it has seen; use --cutoff {manifest.cutoff} or later"
            )
        with _step("evaluating"):
            report = evaluate(log, loaded.model, cutoff_day, manifest.horizon_days)
    if as_json_:
        document = {"model_version": manifest.model_version, **as_json(report)}
        click.echo(msgspec.json.encode(document))
    else:
        click.echo(f"Model {manifest.model_version}\n\n{table(report)}")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """What a person can mend ends as one line and exit code 1, never as a traceback."""
    try:
        yield
    except (OrderLogError, TrainingError, EvaluationError, ArtifactRefused, OSError) as error:
        raise click.ClickException(str(error)) from None


def _read(paths: Sequence[Path], currency: str) -> list[Order]:
    """The accepted orders in event time; says on stderr what was set aside."""
    accepted: list[Order] = []
    rejected: list[RejectedRow] = []
    count = 0
    rows = read_orders(paths, OrderRules(currency=currency))
    # disable=None: a bar on a terminal, nothing when piped.
    for row in tqdm(rows, desc="reading", unit=" rows", disable=None, leave=False):
        if isinstance(row, RejectedRow):
            count += 1
            if not rejected:
                rejected.append(row)
        else:
            accepted.append(row)
    if rejected:
        noun = "row" if count == 1 else "rows"
        click.echo(f"{count:,} {noun} set aside; the first: {rejected[0]}", err=True)
    return sorted_orders(accepted)


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Shows on a terminal that something long is going on."""
    with tqdm(total=1, desc=name, bar_format="{desc} … {elapsed}", disable=None, leave=False):
        yield


def _report(
    log: Sequence[Order], model: ClvModel, cutoff_day: int, horizon_days: int
) -> Evaluation | None:
    """The evaluation at the training's cutoff; None where the log ends before the horizon."""
    if cutoff_day + horizon_days > day_of(log[-1].ts_ms) + 1:
        return None
    with _step("evaluating"):
        return evaluate(log, model, cutoff_day, horizon_days)


def _no_holdout(horizon_days: int) -> str:
    return (
        f"Not evaluated: the log ends less than {horizon_days} days after the cutoff.\n"
        "Train with an earlier --cutoff to see how good such a model is."
    )


def _canaries(known: Floats, scores: Floats) -> Floats:
    """A few customers from the lowest score to the highest, for the manifest's golden vectors."""
    ranks = np.linspace(0, len(scores) - 1, min(_CANARIES, len(scores))).round().astype(int)
    canaries: Floats = known[np.argsort(scores, kind="stable")[ranks]]
    return canaries
