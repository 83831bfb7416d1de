"""`python -m model retrain`."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import click
import msgspec

from features.orders import Order
from model.artifact.signature import Trust
from model.commands.shared import ATTRIBUTES, one_line_errors, read_log, step
from model.commands.signing import trust_options
from model.data.order_log import Rejections
from model.estimators.kinds import KINDS
from model.training.retrain import Asked, Busy, Read, retrain, text

EXIT_BUSY: Final = 75
"""EX_TEMPFAIL of sysexits.h: another retraining is running, come again."""


class _BusyNow(click.ClickException):
    exit_code = EXIT_BUSY


@click.command("retrain")
@click.argument("root", type=click.Path(path_type=Path), metavar="ROOT")
@click.option(
    "--orders",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An order log, from its start; may be repeated.",
)
@click.option(
    "--topic",
    metavar="TOPIC",
    help="The orders topic from its start, at KAFKA_BOOTSTRAP_SERVERS.",
)
@click.option("--horizon", type=click.IntRange(min=1), help="Default: the current model's, or 90.")
@click.option("--currency", help="Default: the current model's, or USD.")
@click.option(
    "--kind", type=click.Choice(list(KINDS)), help="Default: the current model's, and its options."
)
@ATTRIBUTES
@click.option("--key", type=click.Path(path_type=Path), help="Private key to sign with.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@trust_options
def retrain_command(
    root: Path,
    orders: tuple[Path, ...],
    topic: str | None,
    horizon: int | None,
    currency: str | None,
    kind: str | None,
    attributes: Path | None,
    key: Path | None,
    as_json: bool,
    trust: Trust,
) -> None:
    """Train anew, compare with the current model, and promote what is better.

    Trained is on what was before the last horizon of the log; both models are judged by
    that horizon. A candidate is promoted that is better in normalized Gini, MAE or RMSE
    and worse in none, beyond the noise of a paired bootstrap.

    Meant for a timer: the same orders are judged once, and a run that was cut off is
    made up for by the next. Exit code 0 whatever the verdict, 1 on errors, 75 while
    another one runs.

    \b
    Example:
      python -m model retrain models --orders orders.csv.gz
      python -m model retrain models --topic orders
    """
    if bool(orders) == (topic is not None):
        raise click.UsageError("say where the orders are: --orders FILE, or --topic TOPIC")
    if topic is not None:
        _by_streamer(topic)
    asked = Asked(horizon, currency, kind, trust, key, attributes, step=step)
    run(root, partial(_files, orders), asked, as_json=as_json)


def run(root: Path, read: Read, asked: Asked, *, as_json: bool) -> None:
    """Retrains and prints the verdict; ends with an exit code of the command otherwise."""
    with one_line_errors():
        try:
            outcome = retrain(root, read, asked)
        except Busy as busy:
            raise _BusyNow(str(busy)) from None
    click.echo(msgspec.json.encode(outcome) if as_json else text(outcome))


COMMANDS = (retrain_command,)


def _files(paths: Sequence[Path], currency: str) -> tuple[Sequence[Order], Counter[str]]:
    with Rejections() as rejections:
        log = read_log(paths, currency, rejections)
    return log, rejections.counts


def _by_streamer(topic: str) -> NoReturn:
    """Becomes `python -m streamer retrain`, which knows Kafka, with the same options."""
    given = click.get_current_context().params
    options = [
        f"--{name}={given[name]}" for name in ("horizon", "currency", "kind", "key") if given[name]
    ]
    options += ["--json"] if given["as_json"] else []
    environ = {**os.environ, "CLV_ORDERS_TOPIC": topic}
    if given["attributes"] is not None:
        environ["CLV_ATTRIBUTES"] = str(given["attributes"])
    if given["keys"] is not None:
        environ["CLV_MODEL_KEYS"] = str(given["keys"])
    if given["require_signature"] is not None:
        environ["CLV_REQUIRE_SIGNATURE"] = "on" if given["require_signature"] else "off"
    command = [sys.executable, "-m", "streamer", "retrain", *options, "--", str(given["root"])]
    sys.stdout.flush()
    os.execve(sys.executable, command, environ)
