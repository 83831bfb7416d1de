"""`python -m streamer worker` and `demo`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NoReturn

import click

from model.commands.shared import tell
from streamer.commands.shared import one_line_errors
from streamer.settings import Settings, unknown_variables
from streamer.worker.run import run_worker


@click.command("worker")
def worker_command() -> NoReturn:
    """Run the worker until it is told to end (SIGINT or SIGTERM).

    Exit code 0 when told to end, 70 when it cannot go on: the last line of its log says why.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      CLV_MODEL=models/shop python -m streamer worker
    """
    with one_line_errors():
        settings = Settings.load(os.environ)
    for line in unknown_variables(os.environ):
        tell(f"Note: {line}", err=True)
    run_worker(settings)


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the worker running until Ctrl-C.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".cache/demo"),
    show_default=True,
    help="For the order log, the model and the worker's log.",
)
def demo_command(keep: bool, directory: Path) -> None:
    """Train on real orders, stream them through Kafka and Redis, and see the warnings.

    Starts an embedded broker and Redis, unless KAFKA_BOOTSTRAP_SERVERS and REDIS_URL are set.

    \b
    Example:
      make demo
    """
    from streamer.demo import demo

    # Told to end, it ends the worker that it has started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        demo.run_demo(directory, keep=keep)
