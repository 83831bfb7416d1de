"""`python -m model retrain`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from features.events.orders import Order, OrderRules
from features.times import UTC
from model.artifact.signature import Trust
from model.commands.shared import (
    ATTRIBUTES,
    Reading,
    one_line_errors,
    reading_options,
    step,
    tell,
    trust_options,
)
from model.estimators.kinds import KINDS
from model.training.retrain import Busy, Read, RetrainRequest, retrain
from model.training.retrain_text import text

EXIT_BUSY: Final = 75
"""EX_TEMPFAIL of sysexits.h: another retraining is running, come again."""


class _BusyNow(click.ClickException):
    exit_code = EXIT_BUSY


@click.command("retrain")
@click.argument("root", type=click.Path(path_type=Path), metavar="ROOT")
@click.option(
    "--orders",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An order log, from its start; may be repeated.",
)
@click.option("--horizon", type=click.IntRange(min=1), help="Default: the current model's, or 90.")
@click.option("--currency", help="Default: the current model's, or USD.")
@click.option(
    "--kind", type=click.Choice(list(KINDS)), help="Default: the current model's, and its options."
)
@ATTRIBUTES
@click.option("--key", type=click.Path(path_type=Path), help="Private key to sign with.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@reading_options
@trust_options
def retrain_command(
    root: Path,
    orders: tuple[Path, ...],
    horizon: int | None,
    currency: str | None,
    kind: str | None,
    attributes: Path | None,
    key: Path | None,
    as_json: bool,
    trust: Trust,
    reading: Reading,
) -> None:
    """Retrain, compare with the current model, and promote what is better.

    Trains on everything before the last horizon of the log, and compares both models on
    that horizon. A candidate is promoted if it is better in normalized Gini, MAE or RMSE
    and worse in none, beyond the noise of a paired bootstrap.

    For the orders topic there is python -m streamer retrain.

    Meant for a timer: the same orders are judged once, and a run that was cut off is
    made up for by the next. Exit code 0 whatever the verdict, 1 on errors, 75 while
    another one runs.

    \b
    Example:
      python -m model retrain models --orders orders.csv.gz
    """
    with one_line_errors():
        reading, currency = reading.understood(orders, currency)
    asked = RetrainRequest(
        horizon,
        currency,
        kind,
        trust,
        key,
        attributes,
        reading.free_orders,
        reading.zone or UTC,
        step=step,
    )
    run(root, partial(_files, orders, reading), asked, as_json=as_json)


def run(root: Path, read: Read, asked: RetrainRequest, *, as_json: bool) -> None:
    """Retrains and prints the verdict; ends with an exit code of the command otherwise."""
    with one_line_errors():
        try:
            outcome = retrain(root, read, asked)
        except Busy as busy:
            raise _BusyNow(str(busy)) from None
    tell(msgspec.json.encode(outcome) if as_json else text(outcome))


def _files(
    paths: Sequence[Path], reading: Reading, rules: OrderRules
) -> tuple[Sequence[Order], Counter[str]]:
    loaded = reading.load(paths, rules)
    return loaded.orders, Counter(loaded.summary.set_aside)
