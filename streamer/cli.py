"""The commands of `python -m streamer`.

Whatever brings scikit-learn with it is imported by the commands that need it, when they do: that
takes seconds, and a worker spends them better waiting for its partitions.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from tqdm import tqdm

from features.orders import MAX_ID_CHARS, Order, Reason
from features.state import StateError
from model.orderlog import OrderLogError, RejectedRow, read_orders
from streamer import outcomes, redrive, repartition, retrain, servers, upkeep
from streamer import show as customer_view
from streamer.app import pipeline_of
from streamer.clock import SystemClock
from streamer.config import Settings, SettingsRefused, settings_page, unknown_variables
from streamer.deadletters import DeadLettersExceeded
from streamer.embedded import EmbeddedUnavailable
from streamer.forget import NotForgottenYet
from streamer.messages import ChurnWarning
from streamer.metrics import metrics_table
from streamer.partition import Fenced, Pipeline
from streamer.produce import Produced, produce
from streamer.publisher import PublishFailed
from streamer.rebuild import LogUnavailable
from streamer.redrive import Choice
from streamer.repartition import PARTITIONERS, RepartitionRefused
from streamer.replay import LogFiles, Pace, Replay, Replayed, replay_log
from streamer.sample import SampleRefused
from streamer.show import UnknownCustomer
from streamer.store import StoreError
from streamer.topics import TopicsError
from streamer.worker import run_worker, topics_to_make

_TOLD: tuple[type[Exception], ...] = (
    EmbeddedUnavailable,
    OrderLogError,
    OSError,
    PublishFailed,
    SampleRefused,
    SettingsRefused,
    StateError,
    StoreError,
    TopicsError,
    UnknownCustomer,
)
_KAFKA, _REDIS, _MODEL = "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "CLV_MODEL"

_ORDERS = click.argument(
    "orders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="ORDERS..."
)
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
    with _one_line_errors():
        settings = Settings.load(os.environ)
    for line in unknown_variables(os.environ):
        click.echo(f"Note: {line}", err=True)
    run_worker(settings)


@cli.command("replay")
@_ORDERS
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
    with _one_line_errors():
        environ = dict(os.environ)
        if model_path is not None:
            environ[_MODEL] = str(model_path)
        settings, pipeline = _pipeline(environ, needs=(_MODEL,))
        replayed = _replay(orders, settings, pipeline, out, _instant(until), speed)
    click.echo(_told(replayed, out))


@cli.command("produce")
@_ORDERS
@_SPEED
def produce_command(orders: tuple[Path, ...], speed: float | None) -> None:
    """Send an order log into the orders topic.

    Rows that are no orders are left out and counted by reason.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m streamer produce orders.csv
    """
    with _one_line_errors():
        settings = Settings.load(os.environ, needs=(_KAFKA,))
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
    with _one_line_errors():
        settings, pipeline = _pipeline(dict(os.environ), needs=(_KAFKA, _REDIS, _MODEL))
        as_of_ms = SystemClock().now_ms() if as_of == "now" else _instant(as_of)
        shown = asyncio.run(_show(user_id, settings, pipeline, as_of_ms))
    if as_json:
        click.echo(msgspec.json.encode(shown.as_dict()))
    else:
        click.echo(customer_view.text(shown))


@cli.command("forget")
@click.argument("user_id", metavar="USER")
@click.option(
    "--wait",
    "within_s",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait until workers have applied it.",
)
def forget_command(user_id: str, within_s: float) -> None:
    """Forget a customer: erased everywhere, and left out of a log that is read again.

    Workers go on meanwhile; one of them does it. docs/erasure.md says what Kafka cannot delete.
    Exit code 1 when no worker has applied it yet.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      python -m streamer forget alice
    """
    if not 1 <= len(user_id) <= MAX_ID_CHARS:
        raise click.UsageError(f"USER has {len(user_id)} characters; ids have 1 to {MAX_ID_CHARS}")
    with _one_line_errors(NotForgottenYet, LogUnavailable):
        settings = Settings.load(os.environ, needs=(_KAFKA, _REDIS))
        count = asyncio.run(
            upkeep.forget_customer(
                settings,
                topics_to_make(settings),
                user_id,
                SystemClock().now_ms(),
                within_s=within_s,
            )
        )
    click.echo(f"forgotten in {_counted(count, 'partition')} of {settings.orders_topic}")


@cli.command("redrive")
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice([reason.value for reason in Reason]),
    help="Only dead letters of this reason; may be given again.",
)
@click.option("--since", metavar="T", help="Only dead letters set aside at T or later.")
@click.option("--until", metavar="T", help="Only dead letters set aside before T.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N of them.")
@click.option(
    "--max-times",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Leave those that have come back so often.",
)
@click.option("--again", is_flag=True, help="Also those that were redriven before.")
@click.option(
    "--to",
    type=click.Choice(["key", "source"]),
    default="key",
    show_default=True,
    help="The partition that the key belongs to, or the one that the record came from.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
def redrive_command(
    reasons: tuple[str, ...],
    since: str | None,
    until: str | None,
    limit: int | None,
    max_times: int,
    again: bool,
    to: str,
    dry_run: bool,
) -> None:
    """Send dead letters back into the orders topic, each once.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      python -m streamer redrive --reason beyond_id_memory --dry-run
    """
    choice = Choice(
        reasons=frozenset(map(Reason, reasons)),
        since_ms=_instant(since),
        until_ms=_instant(until),
        limit=limit,
        max_times=max_times,
        again=again,
    )
    with _one_line_errors(LogUnavailable), _bar("redriving", "dead letters") as bar:
        settings = Settings.load(os.environ, needs=(_KAFKA, _REDIS))
        result = asyncio.run(
            upkeep.redrive_letters(
                settings,
                topics_to_make(settings),
                choice,
                to_source=to == "source",
                dry_run=dry_run,
                progress=bar.update,
            )
        )
    click.echo(redrive.text(result, dry_run=dry_run, by_key=to == "key"))


@cli.command("repartition")
@click.option(
    "--partitioner",
    type=click.Choice(list(PARTITIONERS)),
    default="murmur2",
    show_default=True,
    help="How the shop's producers choose partitions: as Kafka's Java client, or as librdkafka"
    " does by default.",
)
def repartition_command(partitioner: str) -> None:
    """Move customers after the orders topic was given more partitions.

    Stop all workers first. With CLV_MODEL set, orders that wait in old partitions are applied;
    without, they are refused. Broken off, it is run again; docs/partitions.md has the procedure.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      CLV_MODEL=models/shop python -m streamer repartition
    """
    with _one_line_errors(RepartitionRefused, LogUnavailable, Fenced, DeadLettersExceeded):
        if os.environ.get(_MODEL):
            settings, pipeline = _pipeline(dict(os.environ), needs=(_KAFKA, _REDIS, _MODEL))
        else:
            settings, pipeline = Settings.load(os.environ, needs=(_KAFKA, _REDIS)), None
        with _bar("moving", "customers") as bar:
            moved = asyncio.run(
                upkeep.move_customers(
                    settings,
                    topics_to_make(settings),
                    PARTITIONERS[partitioner],
                    pipeline,
                    bar.update,
                )
            )
    click.echo(repartition.text(moved, settings.orders_topic))


@cli.command("rebuild")
@click.option(
    "--partition",
    "number",
    type=click.IntRange(min=0),
    required=True,
    metavar="N",
    help="Of the orders topic.",
)
@click.option("--partly", is_flag=True, help="Also where the log has lost its first orders.")
@click.option("--yes", is_flag=True, help="Do it. Without, say what would be done.")
def rebuild_command(number: int, partly: bool, yes: bool) -> None:
    """Delete what Redis has of a partition, so that its worker reads the log again.

    The worker may run; it begins anew by itself, and says the warnings of the log again, with the
    same ids. docs/recovery.md says when to do this.

    \b
    Example:
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 REDIS_URL=redis://localhost \\
      python -m streamer rebuild --partition 3 --yes
    """
    with _one_line_errors(upkeep.RebuildRefused, LogUnavailable):
        settings = Settings.load(os.environ, needs=(_KAFKA, _REDIS))
        found = asyncio.run(
            upkeep.rebuild_partition(
                settings, topics_to_make(settings), number, partly=partly, dry_run=not yes
            )
        )
    tag, start = found.partition.tag, found.log_start
    if found.customers is None:
        click.echo(
            f"{tag} is applied up to offset {found.applied}, and its log begins at {start}: say"
            " --yes to delete its customers in Redis and have it read again from there"
        )
        return
    click.echo(
        f"{tag}: {_counted(found.customers, 'customer')} deleted; the log is read from {start}"
    )
    if start:
        click.echo("Start its worker with CLV_START_AT=log-start, this once.")


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
    from model.artifact import ArtifactRefused
    from streamer import demo

    # Told to end, it ends the worker that it has started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _one_line_errors(demo.DemoFailed, ArtifactRefused):
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
    as_of_ms = SystemClock().now_ms() if as_of == "now" else _instant(as_of)
    with _one_line_errors(outcomes.OutcomesRefused):
        if files:
            records = [record for path in files for record in outcomes.read_file(path)]
        else:
            settings = Settings.load(os.environ, needs=(_KAFKA,))
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
    from model.retrain import Asked
    from model.retrain_cli import run

    with _one_line_errors(LogUnavailable):
        settings = Settings.load(os.environ, needs=(_KAFKA,))
        if currency is None and os.environ.get("CLV_CURRENCY"):
            currency = settings.currency
        asked = Asked(horizon, currency, kind, settings.trust, key, settings.attributes)
        run(root, partial(_topic_orders, settings), asked, as_json=as_json)


def _topic_orders(settings: Settings, currency: str) -> tuple[list[Order], Counter[str]]:
    """The orders of the topic, and counts of what is none; says both on stderr, and what is
    missing."""
    with _bar("reading") as bar:
        log = asyncio.run(
            retrain.read_orders_topic(settings, topics_to_make(settings), currency, bar.update)
        )
    for number, start in log.cut.items():
        click.echo(
            f"{settings.orders_topic}-{number} begins at offset {start}: its first orders are gone",
            err=True,
        )
    for reason, count in log.rejected.most_common():
        click.echo(f"{_counted(count, 'record')} set aside ({reason})", err=True)
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
    from streamer.openapi import document

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
                f"{_counted(count, 'row')} left out ({reason}), the first: {self._first[reason]}",
                err=True,
            )


@contextmanager
def _one_line_errors(*also: type[Exception]) -> Iterator[None]:
    """What a person can mend ends as a clear message and exit code 1, never as a traceback."""
    try:
        yield
    except (*_TOLD, *also) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("interrupted") from None


def _pipeline(environ: dict[str, str], needs: tuple[str, ...]) -> tuple[Settings, Pipeline]:
    """Settings and pipeline, in the model's currency where none is set."""
    settings = Settings.load(environ, needs=needs)
    assert settings.model is not None
    from model import artifact

    with _one_line_errors(artifact.ArtifactRefused):
        loaded = artifact.load(settings.model, settings.trust)
    if not environ.get("CLV_CURRENCY"):
        environ["CLV_CURRENCY"] = loaded.manifest.currency
        settings = Settings.load(environ, needs=needs)
    try:
        return settings, pipeline_of(settings, loaded)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


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
    with LogFiles(out, pipeline.topics) as files, _bar("replaying") as bar:
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
            f"{_counted(replayed.late, 'order')} came more than CLV_ALLOWED_LATENESS after newer"
            " ones: they count, but fire no warning; sort the log by ts",
            err=True,
        )
    return replayed


def _told(replayed: Replayed, out: Path) -> str:
    tally = replayed.tally
    return "\n".join(
        [
            f"{_counted(tally.orders, 'order')} of {_counted(replayed.customers, 'customer')}"
            f" ({_counted(tally.repeats, 'repeat')})",
            f"{tally.warnings:,} warnings     {out / 'warnings.jsonl'}",
            f"{tally.scores:,} scores       {out / 'scores.jsonl'}",
            f"{tally.dead_letters + replayed.rejected:,} set aside    {out / 'dead-letters.jsonl'}",
        ]
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


async def _produce(
    orders: tuple[Path, ...], settings: Settings, rejects: _Rejects, speed: float | None
) -> Produced:
    rows = read_orders(orders, settings.order_rules)
    await servers.ensure_topics(settings, topics_to_make(settings))
    publisher = servers.kafka_publisher(settings)
    await publisher.start()
    try:
        with _bar("producing") as bar:
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


async def _show(
    user_id: str, settings: Settings, pipeline: Pipeline, as_of_ms: int | None
) -> customer_view.CustomerView:
    counts = await servers.ensure_topics(settings, topics_to_make(settings))
    store = servers.redis_store(settings, await servers.cluster_id(settings))
    try:
        topic = settings.orders_topic
        found = await customer_view.find_customer(user_id, store, topic, counts[topic])
        partition, state, due_ms = found
        return customer_view.view(
            user_id, partition, state, due_ms, pipeline, as_of_ms, by_features=True
        )
    finally:
        await store.close()


def _instant(text: str | None) -> int | None:
    """Epoch ms of a date (00:00 UTC) or an RFC 3339 time; a usage error for anything else."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"{text!r} is no time; write 2011-06-01 or 2011-06-01T00:00:00Z"
        ) from None
    if when.tzinfo is None:
        if len(text) > len("2011-06-01"):
            raise click.UsageError(f"{text!r} has no offset; append Z or +hh:mm")
        when = when.replace(tzinfo=UTC)
    return int(when.timestamp() * 1000)


def _bar(name: str, unit: str = "orders") -> tqdm[NoReturn]:
    # disable=None: a bar on a terminal, nothing when piped.
    return tqdm(desc=name, unit=f" {unit}", disable=None, leave=False)
