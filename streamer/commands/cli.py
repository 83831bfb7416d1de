"""The commands of `python -m streamer`.

Whatever brings scikit-learn with it is imported by the commands that need it, when they do: that
takes seconds, and a worker spends them better waiting for its partitions.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from features.orders import Order, Reason
from model.commands.shared import ORDERS
from model.data.order_log import RejectedRow, read_orders
from streamer.admin import outcomes
from streamer.admin import topic_orders as retrain
from streamer.admin.produce import Produced, produce
from streamer.clock import SystemClock
from streamer.commands.admin import COMMANDS as UPKEEP
from streamer.commands.reference import settings_page
from streamer.commands.shared import (
    KAFKA,
    MODEL,
    REDIS,
    counted,
    instant,
    loaded_pipeline,
    one_line_errors,
    progress_bar,
)
from streamer.http import customer_view as customer_view
from streamer.kafka import clients as servers
from streamer.metrics import metrics_table
from streamer.pipeline.messages import ChurnWarning
from streamer.pipeline.partition import Pipeline
from streamer.replay.files import LogFiles
from streamer.replay.replay import Pace, Replay, Replayed, replay_log
from streamer.settings import Settings, unknown_variables
from streamer.worker.run import run_worker, topics_to_make

_SPEED = click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="X times real time: 86400 makes a day a second. Default: as fast as it goes.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
def cli() -> None:
    """Orders in, churn warnings out.

    Settings come from the environment; README.md has the table.
    """


@cli.command("worker")
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
        click.echo(f"Note: {line}", err=True)
    run_worker(settings)


@cli.command("replay")
@ORDERS
@click.option(
    "--model", "model_path", type=click.Path(path_type=Path), help="Artifact; default: $CLV_MODEL."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("replayed"),
    show_default=True,
    help="Directory for warnings.jsonl, scores.jsonl and dead-letters.jsonl.",
)
@click.option(
    "--until",
    metavar="T",
    help="Leave out orders at T or later, and let time pass up to T: 2011-06-01 (UTC)"
    " or RFC 3339. Default: the end of the log.",
)
@_SPEED
def replay_command(
    orders: tuple[Path, ...],
    model_path: Path | None,
    out: Path,
    until: str | None,
    speed: float | None,
) -> None:
    """Run an order log through the worker's pipeline, without Kafka and Redis.

    The same log, model and settings give the same files, byte for byte.

    \b
    Example:
      python -m streamer replay orders.csv.gz --model models/shop --out replayed
    """
    with one_line_errors():
        environ = dict(os.environ)
        if model_path is not None:
            environ[MODEL] = str(model_path)
        settings, pipeline = loaded_pipeline(environ, needs=(MODEL,))
        replayed = _replay(orders, settings, pipeline, out, instant(until), speed)
    click.echo(_told(replayed, out))


@cli.command("produce")
@ORDERS
@_SPEED
def produce_command(orders: tuple[Path, ...], speed: float | None) -> None:
    """Send an order log into the orders topic.

    Rows that are no orders are left out and counted by reason.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m streamer produce orders.csv
    """
    with one_line_errors():
        settings = Settings.load(os.environ, needs=(KAFKA,))
        rejects = _Rejects()
        produced = asyncio.run(_produce(orders, settings, rejects, speed))
    rejects.tell()
    click.echo(f"{produced.orders:,} orders acknowledged by {settings.orders_topic}")


@cli.command("show")
@click.argument("user_id", metavar="USER")
@click.option("--as-of", metavar="T", help="Score as of T. Default: the last scoring; or 'now'.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show_command(user_id: str, as_of: str | None, as_json: bool) -> None:
    """Show a customer: what is known, CLV and churn probability, the last warning.

    The CLV comes as a sum: that of the model's typical customer, and what silence, baskets and so
    on add to it. With the extra "explain", models made of trees also say which features did it.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      CLV_MODEL=models/shop python -m streamer show alice
    """
    with one_line_errors():
        settings, pipeline = loaded_pipeline(dict(os.environ), needs=(KAFKA, REDIS, MODEL))
        as_of_ms = SystemClock().now_ms() if as_of == "now" else instant(as_of)
        partition, state, due_ms = asyncio.run(_found(user_id, settings))
        shown = customer_view.view(user_id, partition, state, due_ms, pipeline, as_of_ms)
        features = customer_view.features_of(user_id, state, pipeline, as_of_ms)
    if as_json:
        click.echo(msgspec.json.encode(msgspec.to_builtins(shown) | {"features": features}))
    else:
        click.echo(customer_view.text(shown, features))


for command in UPKEEP:
    cli.add_command(command)


@cli.command("demo")
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
    """Train on real orders, stream them through Kafka and Redis, and see who was warned of.

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


@cli.command("outcomes")
@click.argument(
    "files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False), metavar="[WARNINGS...]"
)
@click.option(
    "--as-of",
    metavar="T",
    help="Event time has come to T. Default: to the newest record; or 'now'.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array of weeks.")
def outcomes_command(files: tuple[Path, ...], as_of: str | None, as_json: bool) -> None:
    """Show how warnings ended, week by week: kept, recovered or lost.

    From the warnings topic, or from WARNINGS: files as `replay` writes them.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m streamer outcomes
      python -m streamer outcomes replayed/warnings.jsonl
    """
    as_of_ms = SystemClock().now_ms() if as_of == "now" else instant(as_of)
    with one_line_errors():
        if files:
            records = [record for path in files for record in outcomes.read_file(path)]
        else:
            settings = Settings.load(os.environ, needs=(KAFKA,))
            records = asyncio.run(_warnings(settings))
        weeks = outcomes.by_week(outcomes.endings(records, as_of_ms))
    click.echo(msgspec.json.encode(weeks) if as_json else outcomes.text(weeks))


async def _warnings(settings: Settings) -> list[ChurnWarning]:
    counts = await servers.ensure_topics(settings, topics_to_make(settings))
    return await outcomes.read_topic(settings, counts[settings.warnings_topic])


@cli.command("retrain")
@click.argument("root", type=click.Path(path_type=Path), metavar="ROOT")
@click.option("--horizon", type=click.IntRange(min=1), help="Default: the current model's, or 90.")
@click.option("--currency", help="Default: the current model's, or CLV_CURRENCY.")
@click.option("--kind", help="Default: the current model's, and its options.")
@click.option("--key", type=click.Path(path_type=Path), help="Private key to sign with.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def retrain_command(
    root: Path,
    horizon: int | None,
    currency: str | None,
    kind: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Train anew on the orders topic, and promote in the registry ROOT what is better.

    Reads the topic from its start to its present end; workers are not disturbed. For the
    rest see python -m model retrain --help.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m streamer retrain models
    """
    from model.commands.retrain import run
    from model.training.retrain import Asked

    with one_line_errors():
        settings = Settings.load(os.environ, needs=(KAFKA,))
        if currency is None and os.environ.get("CLV_CURRENCY"):
            currency = settings.currency
        asked = Asked(horizon, currency, kind, settings.trust, key, settings.attributes)
        run(root, partial(_topic_orders, settings), asked, as_json=as_json)


def _topic_orders(settings: Settings, currency: str) -> tuple[list[Order], Counter[str]]:
    """The orders of the topic, and counts of what is none; says both on stderr, and what is
    missing."""
    with progress_bar("reading") as bar:
        log = asyncio.run(
            retrain.read_orders_topic(settings, topics_to_make(settings), currency, bar.update)
        )
    for number, start in log.cut.items():
        click.echo(
            f"{settings.orders_topic}-{number} begins at offset {start}: its first orders are gone",
            err=True,
        )
    for reason, count in log.rejected.most_common():
        click.echo(f"{counted(count, 'record')} set aside ({reason})", err=True)
    return log.orders, Counter({str(reason): count for reason, count in log.rejected.items()})


@cli.command("settings")
def settings_command() -> None:
    """Print every environment variable with its default and meaning, as Markdown.

    \b
    Example:
      python -m streamer settings > docs/configuration.md
    """
    click.echo(settings_page(), nl=False)


@cli.command("metrics")
def metrics_command() -> None:
    """Print every metric that a worker exposes, as Markdown.

    \b
    Example:
      python -m streamer metrics
    """
    click.echo(metrics_table(), nl=False)


@cli.command("openapi")
def openapi_command() -> None:
    """Print the OpenAPI document of the worker's prediction API.

    \b
    Example:
      python -m streamer openapi > docs/openapi.json
    """
    from streamer.http.openapi import document

    click.echo(document(), nl=False)


class _Rejects:
    """Counts rows that are no orders; keeps the first of each reason to show."""

    def __init__(self) -> None:
        self._counts: Counter[Reason] = Counter()
        self._first: dict[Reason, RejectedRow] = {}

    def __call__(self, row: RejectedRow) -> None:
        reason = row.rejected.reason
        self._counts[reason] += 1
        self._first.setdefault(reason, row)

    def tell(self) -> None:
        """Says on stderr what was left out and why."""
        for reason, count in self._counts.most_common():
            click.echo(
                f"{counted(count, 'row')} left out ({reason}), the first: {self._first[reason]}",
                err=True,
            )


def _replay(
    orders: tuple[Path, ...],
    settings: Settings,
    pipeline: Pipeline,
    out: Path,
    until_ms: int | None,
    speed: float | None,
) -> Replayed:
    rejects = _Rejects()
    rows = read_orders(orders, settings.order_rules)
    with LogFiles(out, pipeline.topics) as files, progress_bar("replaying") as bar:
        replayed = asyncio.run(
            replay_log(
                rows,
                Replay(pipeline, files, partitions=settings.partitions, pace=Pace(speed)),
                files,
                reject=rejects,
                until_ms=until_ms,
                progress=bar.update,
            )
        )
    rejects.tell()
    if replayed.late:
        click.echo(
            f"{counted(replayed.late, 'order')} came more than CLV_ALLOWED_LATENESS after newer"
            " ones: they count, but fire no warning; sort the log by ts",
            err=True,
        )
    return replayed


def _told(replayed: Replayed, out: Path) -> str:
    tally = replayed.tally
    aside = tally.dead_letters + replayed.rejected
    return "\n".join(
        [
            f"{counted(tally.orders, 'order')} of {counted(replayed.customers, 'customer')}"
            f" ({counted(tally.repeats, 'repeat')})",
            f"{tally.warnings:>10,} warnings   {out / 'warnings.jsonl'}",
            f"{tally.scores:>10,} scores     {out / 'scores.jsonl'}",
            f"{aside:>10,} set aside  {out / 'dead-letters.jsonl'}",
        ]
    )


async def _produce(
    orders: tuple[Path, ...], settings: Settings, rejects: _Rejects, speed: float | None
) -> Produced:
    rows = read_orders(orders, settings.order_rules)
    await servers.ensure_topics(settings, topics_to_make(settings))
    publisher = servers.kafka_publisher(settings)
    await publisher.start()
    try:
        with progress_bar("producing") as bar:
            return await produce(
                rows,
                publisher,
                settings.orders_topic,
                settings.currency,
                reject=rejects,
                speed=speed,
                progress=bar.update,
            )
    finally:
        await publisher.close()


async def _found(user_id: str, settings: Settings) -> customer_view.Found:
    counts = await servers.ensure_topics(settings, topics_to_make(settings))
    store = servers.redis_store(settings, await servers.cluster_id(settings))
    try:
        topic = settings.orders_topic
        return await customer_view.find_customer(user_id, store, topic, counts[topic])
    finally:
        await store.close()
