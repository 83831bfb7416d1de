"""The commands of `python -m model` that make a model: train, kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from model import artifact
from model.console import CURRENCY, CUTOFF, ORDERS, one_line_errors, read_log, step
from model.evaluation import EvaluationError
from model.making import made
from model.orderlog import OrderLogError
from model.training import TrainingConfig, TrainingError, default_cutoff_day
from model.zoo import DEFAULT, KINDS, Option, OptionError, options_of

_TOLD = (EvaluationError, OptionError, OrderLogError, OSError, TrainingError)


@click.command("train")
@ORDERS
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the model goes.")
@click.option("--horizon", default=90, show_default=True, help="Days that CLV looks ahead.")
@CUTOFF
@CURRENCY
@click.option(
    "--kind", default=DEFAULT, show_default=True, metavar="KIND", help="See python -m model kinds."
)
@click.option("--select", type=int, metavar="N", help="Keep the best N features only.")
@click.option(
    "--select-by",
    type=click.Choice(["kbest", "importance"]),
    help="Best by correlation (kbest), or to a small forest.",
)
@click.option("--pca", type=int, metavar="N", help="Rotate features into N components.")
@click.option(
    "--option",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another option of the kind; may be repeated.",
)
def train_command(
    orders: tuple[Path, ...],
    out: Path,
    horizon: int,
    cutoff: int | None,
    currency: str,
    kind: str,
    given: tuple[str, ...],
    **columns: Any,
) -> None:
    """Train a model, compare it on the time after the cutoff, and write it to --out.

    \b
    Example:
      python -m model train orders.csv.gz --out models/shop
      python -m model train orders.csv.gz --out models/boosted --kind boosting \\
        --select 12 --option learning_rate=0.1
    """
    with one_line_errors(*_TOLD):
        options = options_of(kind, _given(given, columns))
        config = TrainingConfig(horizon, currency=currency, kind=kind, options=options)
        log = read_log(orders, currency)
        cutoff_day = default_cutoff_day(log, horizon) if cutoff is None else cutoff
        with step("training"):
            result = made(log, config, cutoff_day)
        manifest = artifact.save(out, result.model, result.fields)
    click.echo(
        f"Model {manifest.model_version}: {manifest.training_rows:,} rows of"
        f" {manifest.training_customers:,} customers,\n"
        f"orders from {manifest.trained_from} to before {manifest.cutoff}\n"
        f"\n{result.fields.report}\n\nWritten to {out}"
    )


@click.command("kinds")
def kinds_command() -> None:
    """List the kinds of model that can be trained, and the options of each.

    \b
    Example:
      python -m model kinds
    """
    for name, kind in KINDS.items():
        click.echo(f"{name:<10}{kind.summary}")
        for option, what in kind.options.items():
            click.echo(f"  {option:<18}{_described(what)}")


COMMANDS = (train_command, kinds_command)


def _described(option: Option) -> str:
    values = f" ({', '.join(map(str, option.candidates))})" if option.default in ("kbest",) else ""
    return f"{option.summary}{values}; default {option.default}"


def _given(settings: Sequence[str], columns: dict[str, Any]) -> dict[str, object]:
    """Options by name, as texts where they were given as NAME=VALUE."""
    options = {name: value for name, value in columns.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--option {setting}: write NAME=VALUE, such as alpha=0.1")
        options[name] = value
    return options
