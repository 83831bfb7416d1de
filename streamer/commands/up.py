"""`python -m streamer up`: one's own orders in servers and a worker that end with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from features.errors import FactsError
from features.times import calendar_of
from model.commands.shared import one_line_errors as refusals_as_lines
from model.intake.intake import Told, understood
from streamer.commands.files import asking_options, read, tell_read, training_of
from streamer.commands.shared import one_line_errors
from streamer.settings import Settings


@click.command("up")
@click.option(
    "--orders",
    "first",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE...",
    help="The files, as `try` reads them.",
)
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A model that there is. Default: one is trained on the orders.",
)
@click.option("--horizon", type=click.IntRange(min=1), help="Days ahead. Default: by the log.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".cache/up"),
    show_default=True,
    help="For the model and the worker's log.",
)
@asking_options
def up_command(
    first: tuple[Path, ...],
    more: tuple[Path, ...],
    model: Path | None,
    horizon: int | None,
    directory: Path,
    asked: Told,
) -> None:
    """A place to play: Kafka, Redis and a worker on one's own orders, until Ctrl-C.

    Starts an embedded broker and Redis, unless KAFKA_BOOTSTRAP_SERVERS and REDIS_URL are set, and
    a worker that is started again when it ends. What the embedded ones hold is gone at the end.

    \b
    Example:
      clv-streamer up --orders orders_export.csv --preset shopify
    """
    if model is not None and horizon is not None:
        raise click.UsageError("--horizon is the model's own; leave it out, or leave out --model")
    files = (*first, *more)
    # Told to end, it ends what it has started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors(), refusals_as_lines(FactsError):
        trust = Settings.load(os.environ, needs=()).trust
        found = understood(files, asked)
        loaded = read(found, asked, files)
        calendar = calendar_of(asked.answers.timezone or "UTC")
        tell_read(loaded, found, calendar)
        # Servers and training take a second to import.
        from streamer.demo import up

        directory.mkdir(parents=True, exist_ok=True)
        if model is None:
            config = training_of(loaded, found, calendar, horizon)
            model = up.train(loaded.orders, config, directory / "model")
        up.run_up(directory, loaded.orders, found.currency, model, trust)
