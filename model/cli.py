"""The commands of `python -m model`; those of a registry are in `model.registry_cli`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import numpy as np
from tqdm import tqdm

from features.buckets import day_of
from features.orders import Order, OrderRules
from model import artifact, registry_cli
from model.artifact import ArtifactRefused, ManifestFields
from model.backtest import BacktestError, Plan, backtest, scorer_of
from model.clv import ClvModel, Floats
from model.console import one_line_errors
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
from model.explain import typical
from model.orderlog import OrderLogError, RejectedRow, read_orders
from model.policy import Policy, PolicyError
from model.report import page, text
from model.scoring import Scorer
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
_TOLD = (
    ArtifactRefused,
    BacktestError,
    EvaluationError,
    OrderLogError,
    OSError,
    PolicyError,
    TrainingError,
)

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
                typical=typical(known).tolist(),
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


@cli.command("backtest")
@_ORDERS
@click.option("--model", "model_path", required=True, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "from_day",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=_day,
    metavar="YYYY-MM-DD",
    help="Judge from 00:00 UTC of this day. Default: the model's cutoff.",
)
@click.option(
    "--retrain-every",
    type=click.IntRange(min=1),
    metavar="DAYS",
    help="Train anew every so many days on what was known then. Default: never.",
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
    help="A setting of the policy, such as drop=0.3; may be repeated.",
)
@click.option("--json", "as_json_", is_flag=True, help="Print the report as one JSON object.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots.")
def backtest_command(
    orders: tuple[Path, ...],
    model_path: Path,
    from_day: int | None,
    retrain_every: int | None,
    budget: int | None,
    precision: float | None,
    settings: tuple[str, ...],
    as_json_: bool,
    html: Path | None,
) -> None:
    """See how good the warnings would have been on a log whose future is known.

    The log is walked day by day through the code that runs live.

    \b
    Example:
      python -m model backtest orders.csv.gz --model models/shop --html report.html
    """
    with _one_line_errors():
        manifest, log, scorer = _scorer(model_path, orders)
        cutoff_day = _days_from_iso(manifest.cutoff)
        if from_day is not None and from_day < cutoff_day:
            raise BacktestError(
                f"--from {iso_day(from_day)} lies before the model's cutoff, {manifest.cutoff}: the"
                " model has seen what it would be judged by; choose a later day or train with an"
                " earlier --cutoff"
            )
        start = cutoff_day if from_day is None else from_day
        last_day = day_of(log[-1].ts_ms) if log else start
        first_day = day_of(log[0].ts_ms) if log else start
        # disable=None: a bar on a terminal, nothing when piped.
        with tqdm(total=last_day + 1 - first_day, desc="days", disable=None, leave=False) as bar:
            report = backtest(
                log,
                scorer,
                Plan(
                    from_day=start,
                    policy=_policy(settings, budget),
                    retrain_every_days=retrain_every,
                    precision=precision,
                    progress=bar.update,
                ),
            )
        if html is not None:
            html.write_text(page(report), encoding="utf-8")
    if as_json_:
        click.echo(msgspec.json.encode(report))
    else:
        click.echo(text(report))
        if html is not None:
            click.echo(f"\nWritten to {html}")


for _command in registry_cli.COMMANDS:
    cli.add_command(_command)


def _scorer(path: Path, orders: tuple[Path, ...]) -> tuple[artifact.Manifest, list[Order], Scorer]:
    loaded = artifact.load(path)
    manifest = loaded.manifest
    scorer = scorer_of(
        loaded.model, manifest.model_version, manifest.score_quantiles, manifest.churn_quantiles
    )
    return manifest, _read(orders, manifest.currency), scorer


def _days_from_iso(date: str) -> int:
    return day_of(int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) * 1000)


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


@contextmanager
def _one_line_errors() -> Iterator[None]:
    with one_line_errors(*_TOLD):
        yield


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
